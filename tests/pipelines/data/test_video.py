"""Videos: frames are known by the number that the test has drawn into them."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.data.containers import is_cut
from pipelines.data.video import Miscounted, VideoFile, frame_indices, open_video, read_chosen
from pipelines.errors import AgfasError

WIDTH, HEIGHT = 64, 48
BITS = 8


def draw(number: int) -> np.ndarray:
    """A frame with its number as eight bars, light for 1 and dark for 0, and a bright left top corner."""
    frame = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    for bit in range(BITS):
        frame[24:, bit * 8 : bit * 8 + 8] = 230 if number >> bit & 1 else 20
    frame[:16, :24] = 255
    return frame


def number_of(frame: np.ndarray) -> int:
    return sum((int(frame[36, bit * 8 + 4].mean()) > 128) << bit for bit in range(BITS))


def noise(number: int) -> np.ndarray:
    """As `draw`, and every frame takes about as many bytes as the others."""
    frame = draw(number)
    frame[:16, 24:] = np.random.default_rng(number).integers(0, 255, (16, WIDTH - 24, 3), dtype=np.uint8)
    return frame


def write_video(
    path: Path, count: int = 30, codec: str = "libx264", gop: int = 12, rate: int = 25, picture=draw, **options
) -> Path:
    import av

    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = gop
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Set a, b, c, d of an MP4's display matrix: x' = a x + c y, y' = b x + d y."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
    return path


# --- which frames -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "frames", "expected"),
    [
        (100, 10, [5, 15, 25, 35, 45, 55, 65, 75, 85, 95]),
        (10, 10, list(range(10))),
        (3, 10, [0, 1, 2]),
        (7, 1, [3]),
        (1, 1, [0]),
        (25, 4, [3, 9, 15, 21]),
    ],
)
def test_uniform_frames_are_the_middles_of_equal_parts(count, frames, expected):
    assert frame_indices(count, frames) == expected


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 299, 12_345])
def test_uniform_frames_are_different_in_order_and_evenly_spaced(count):
    found = frame_indices(count, 10)
    assert len(found) == min(count, 10)
    steps = np.diff(found)
    assert steps.size == 0 or steps.min() >= 1
    assert steps.size == 0 or steps.max() - steps.min() <= 1
    assert 0 <= found[0] <= found[-1] < count


def test_mistakes_about_frames():
    for count, frames in ((0, 10), (10, 0)):
        with pytest.raises(AgfasError, match="must be at least 1"):
            frame_indices(count, frames)


# --- reading ----------------------------------------------------------------------------------------------------------

KINDS = [
    ("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.mov", "mjpeg"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"),
    ("a.ts", "libx264"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "codec"), KINDS, ids=[name for name, _ in KINDS])
def test_frames_have_their_numbers(tmp_path, name, codec):
    video = open_video(write_video(tmp_path / name, codec=codec))
    assert (video.count, video.fps) == (30, 25.0)  # the last three containers do not tell the count
    frames = video.read([29, 0, 7, 13, 7])
    assert sorted(frames) == [0, 7, 13, 29]
    assert {index: number_of(frame) for index, frame in frames.items()} == {n: n for n in (0, 7, 13, 29)}
    assert all(frame.shape == (HEIGHT, WIDTH, 3) and frame.dtype == np.uint8 for frame in frames.values())
    assert frames[0][:12, :20].min() > 235  # bright left top corner: nothing is turned


@pytest.mark.parametrize(
    ("name", "codec", "gop"), [("a.mp4", "libx264", 10), ("a.avi", "mpeg4", 8), ("a.mov", "mjpeg", 1)]
)
def test_jumps_give_the_same_pictures_and_decode_less(tmp_path, monkeypatch, name, codec, gop):
    video = open_video(write_video(tmp_path / name, count=250, codec=codec, gop=gop))
    wanted = [3, 120, 121, 244]
    in_order = video._in_order(wanted)

    def never(self, wanted):
        raise AssertionError(f"read in order: {wanted}")

    monkeypatch.setattr(VideoFile, "_in_order", never)
    jumped = video.read(wanted)
    assert [number_of(jumped[index]) for index in wanted] == wanted
    assert all(np.array_equal(jumped[index], in_order[index]) for index in wanted)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_frames_of_an_uneven_rate_are_counted_not_timed(tmp_path, name):
    import av

    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = 5
        stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(120):
            frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
            frame.time_base, frame.pts = Fraction(1, 1000), number * 40 + (700 if number > 60 else 0) + number % 3 * 13
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = open_video(tmp_path / name)
    assert video.count == 120
    assert {index: number_of(frame) for index, frame in video.read([2, 59, 100]).items()} == {2: 2, 59: 59, 100: 100}


def test_only_the_wanted_frames_are_converted(tmp_path, monkeypatch):
    import pipelines.data.video as module

    converted = []
    upright = module._upright
    monkeypatch.setattr(module, "_upright", lambda frame: converted.append(1) or upright(frame))
    open_video(write_video(tmp_path / "a.mp4", count=60)).read([5, 50])
    assert len(converted) == 2


def test_numbers_outside_the_video(tmp_path):
    video = open_video(write_video(tmp_path / "a.mp4", count=5))
    assert video.read([]) == {}
    for wrong in ([5], [-1, 2]):
        with pytest.raises(ValueError, match="has frames 0 to 4"):
            video.read(wrong)


def test_a_video_of_one_frame(tmp_path):
    video = open_video(write_video(tmp_path / "a.mp4", count=1))
    assert video.count == 1
    assert video.read(frame_indices(video.count))[0].shape == (HEIGHT, WIDTH, 3)


# --- orientation ------------------------------------------------------------------------------------------------------

ORIENTATIONS = {
    "as it is": ((1, 0, 0, 1), lambda p: p),
    "quarter clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "half": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "quarter counterclockwise": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda p: p[::-1]),
    "transposed": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_display_matrix_is_respected(tmp_path, name):
    matrix, expected = ORIENTATIONS[name]
    path = write_video(tmp_path / "a.mp4", count=20)
    plain = open_video(path).read([0, 19])
    turned = open_video(turn(path, matrix)).read([0, 19])
    for index in (0, 19):  # every frame, not the first alone
        assert np.array_equal(turned[index], expected(plain[index]))
        assert turned[index].flags["C_CONTIGUOUS"]


# --- bad files --------------------------------------------------------------------------------------------------------


def test_files_that_are_no_videos(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("a video, they said\n" * 40)
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n")
    (tmp_path / "concat.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    write_video(tmp_path / "other.mp4")
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.mp4", "PNG")
    whole = write_video(tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    for name, message in (
        ("empty.mp4", r"empty \(0 bytes\)"),
        ("text.mp4", "not a video that can be read"),
        ("list.mp4", "not a video that can be read"),
        ("concat.mp4", "not a video that can be read"),
        ("cut.mp4", "cut short: its index"),
        ("picture.mp4", r"a PNG picture, not a video. Give it a name that ends in .png"),
        ("absent.mp4", "No video at"),
        ("", "is a folder"),
    ):
        with pytest.raises(AgfasError, match=message) as caught:
            open_video(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_sound_alone_is_no_video(tmp_path):
    with pytest.raises(AgfasError, match="has no video stream, only audio"):
        open_video(write_sound(tmp_path / "sound.mp4"))


def test_a_video_without_frames(tmp_path):
    import av

    path = tmp_path / "none.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.start_encoding()
    with pytest.raises(AgfasError, match=r"none\.avi"):
        open_video(path)


def cut(path: Path, share: float) -> Path:
    """The beginning of a file."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def shown(path: Path, frames: int = 5) -> tuple[VideoFile, dict[int, int]]:
    """A video, and the numbers drawn into the frames that a rule chose from it."""
    video, pictures = read_chosen(path, lambda count: frame_indices(count, frames))
    return video, {index: number_of(picture) for index, picture in pictures.items()}


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_of_a_file_that_is_cut_the_frames_that_are_there_are_read_and_noted(tmp_path, name):
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = write_video(tmp_path / name, count=60, codec="mpeg4", picture=noise, **options)
    whole, _ = shown(path)
    assert (whole.count, whole.note, is_cut(path)) == (60, "", False)
    video, numbers = shown(cut(path, 0.85))
    assert 42 <= video.count <= 55
    assert is_cut(path)
    assert video.note == f"it is damaged or cut short; of 60 frames, {video.count} can be decoded"
    assert numbers == {index: index for index in frame_indices(video.count, 5)}
    assert open_video(path).count == video.count
    with pytest.raises(AgfasError, match=r"of \d+ frames, \d+ can be decoded, fewer than half"):
        open_video(cut(path, 0.55))


@pytest.mark.parametrize("hidden", [3, 30])
def test_a_clip_that_was_trimmed_without_encoding_gives_the_frames_that_are_shown(tmp_path, hidden):
    import av

    with (
        av.open(str(write_video(tmp_path / "a.mp4", count=50, gop=50))) as whole,
        av.open(str(tmp_path / "b.mp4"), "w") as out,
    ):
        source = whole.streams.video[0]
        stream = out.add_stream_from_template(source)
        shift = int(Fraction(hidden, 25) / source.time_base)
        for packet in whole.demux(source):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                out.mux(packet)
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].frames == 50  # an edit list hides the first
    video, numbers = shown(tmp_path / "b.mp4")
    assert (video.count, video.fps, video.note) == (50 - hidden, 25.0, "")
    assert numbers == {index: index + hidden for index in frame_indices(50 - hidden, 5)}


@pytest.mark.parametrize("number", [10, 300])
def test_a_wrong_number_in_the_header_of_a_whole_file_misleads_nobody(tmp_path, number):
    path = write_video(tmp_path / "a.avi", count=60, codec="mpeg4")
    data = bytearray(path.read_bytes())
    for place in (data.index(b"avih") + 24, data.index(b"strh") + 40):
        data[place : place + 4] = struct.pack("<I", number)
    path.write_bytes(bytes(data))
    video, numbers = shown(path)
    assert (video.count, video.note) == (60, "")
    assert numbers == {index: index for index in frame_indices(60, 5)}


def test_fragments_behind_the_index_are_counted(tmp_path):
    path = write_video(tmp_path / "a.mp4", count=60, gop=12, movflags="frag_keyframe")
    data = path.read_bytes()
    path.write_bytes(
        data[: data.rindex(b"mfra") - 4]
    )  # the list of fragments, which a recording that ended early lacks
    video, numbers = shown(path)
    assert (video.count, numbers) == (60, {index: index for index in frame_indices(60, 5)})


def test_a_video_with_foreign_bytes_in_the_middle(tmp_path):
    path = write_video(tmp_path / "a.avi", count=60, codec="mjpeg")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    path.write_bytes(bytes(data))
    video = open_video(path)  # its index lists 60
    with pytest.raises(Miscounted, match=r"a\.avi is damaged or cut short: of 60 frames, 5\d can be decoded"):
        video.read(list(range(60)))
    assert number_of(video.read([55])[55]) == 55  # reached by a jump over the damage
    video, pictures = read_chosen(path, range)
    assert video.count == len(pictures) < 60
    assert video.note.endswith(f"of 60 frames, {video.count} can be decoded")
    assert read_chosen(path, lambda count: range(40))[0].count == video.count
    numbers = [number_of(pictures[index]) for index in range(video.count)]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 59


def test_the_cover_is_not_the_video_and_the_larger_stream_is_shown(tmp_path):
    import av

    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        small, large = (container.add_stream("mpeg4", rate=25) for _ in range(2))
        for stream, factor in ((small, 1), (large, 2)):
            stream.width, stream.height, stream.pix_fmt = factor * WIDTH, factor * HEIGHT, "yuv420p"
        for number in range(9):
            for stream, factor in ((small, 1), (large, 2)):
                picture = draw(number if factor == 2 else 255).repeat(factor, 0).repeat(factor, 1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in (small, large):
            container.mux(stream.encode())
    video, pictures = read_chosen(path, lambda count: [count - 1])
    assert number_of(pictures[8][::2, ::2]) == 8
    assert video.note == "it has 2 video streams; one is read"


def test_titles_in_any_encoding_are_no_reason_to_refuse(tmp_path):
    import av

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "TITLETITLE"
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(draw(7), format="rgb24")))
        container.mux(stream.encode())
    assert b"TITLETITLE" in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b"TITLETITLE", b"\xe9\xff\xfeLETITLE"))
    assert number_of(open_video(path).read([0])[0]) == 7


def test_too_large_pictures_are_refused(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", count=3)
    monkeypatch.setattr("pipelines.data.images.MAX_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(AgfasError, match="64 x 48 pixels"):
        open_video(path)
    monkeypatch.setattr("pipelines.data.images.MAX_PIXELS", WIDTH * HEIGHT)
    assert open_video(path).count == 3


def test_pictures_that_grow_on_the_way_are_left_out(tmp_path, monkeypatch):
    small = write_video(tmp_path / "a.ts", count=9, codec="mpeg2video").read_bytes()
    monkeypatch.setitem(globals(), "WIDTH", 4 * WIDTH)
    monkeypatch.setitem(globals(), "HEIGHT", 4 * HEIGHT)
    large = write_video(tmp_path / "b.ts", count=9, codec="mpeg2video").read_bytes()
    (tmp_path / "c.ts").write_bytes(small + large)
    assert open_video(tmp_path / "c.ts").count > 12
    monkeypatch.setattr("pipelines.data.images.MAX_PIXELS", WIDTH * HEIGHT - 1)
    assert 8 <= open_video(tmp_path / "c.ts").count <= 9


def test_names_that_look_like_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "plain.mp4", count=3).rename(tmp_path / "http:x?.mp4")
    assert open_video(Path("http:x?.mp4")).count == 3

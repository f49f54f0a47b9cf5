"""Videos that are cut, trimmed, miscounted or foreign give the frames that a player shows, or are refused."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image
from video_files import HEIGHT, WIDTH, draw, noise, number_of, write_sound, write_video

from pipelines.data.containers import is_cut
from pipelines.data.video import Miscounted, VideoFile, frame_indices, open_video, read_chosen
from pipelines.errors import AgfasError


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
    monkeypatch.setattr("video_files.WIDTH", 4 * WIDTH)
    monkeypatch.setattr("video_files.HEIGHT", 4 * HEIGHT)
    large = write_video(tmp_path / "b.ts", count=9, codec="mpeg2video").read_bytes()
    (tmp_path / "c.ts").write_bytes(small + large)
    assert open_video(tmp_path / "c.ts").count > 12
    monkeypatch.setattr("pipelines.data.images.MAX_PIXELS", 16 * WIDTH * HEIGHT - 1)
    assert 8 <= open_video(tmp_path / "c.ts").count <= 9


def test_names_that_look_like_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "plain.mp4", count=3).rename(tmp_path / "http:x?.mp4")
    assert open_video(Path("http:x?.mp4")).count == 3

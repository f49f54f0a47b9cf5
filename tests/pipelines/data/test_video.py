"""Frames of whole videos: which are chosen, how they are read, and which way is up."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from video_files import HEIGHT, WIDTH, draw, number_of, turn, write_video

from pipelines.data.video import VideoFile, frame_indices, open_video
from pipelines.errors import AgfasError

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
    upright = module.upright
    monkeypatch.setattr(module, "upright", lambda frame: converted.append(1) or upright(frame))
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

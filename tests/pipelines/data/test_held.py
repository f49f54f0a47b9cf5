"""Files in memory are read as those on disk, by every decoder, and bounded as their reader says."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image
from video_files import write_sound, write_video

from pipelines.data.containers import is_cut
from pipelines.data.held import HeldFile, searchable, size_of
from pipelines.data.images import MAX_PIXELS, most_pixels, read_noted
from pipelines.data.video import open_video
from pipelines.errors import AgfasError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def written(form: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("form", "options"),
    [("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("BMP", {}), ("PPM", {}), ("GIF", {}), ("AVIF", {}),
     ("TIFF", {"compression": "jpeg"}), ("TIFF", {"compression": "tiff_lzw"})],
)  # fmt: skip
def test_a_picture_in_memory_is_that_of_the_disk(tmp_path, form, options):
    path = tmp_path / "a"
    path.write_bytes(written(form, **options))
    held = HeldFile("a", path.read_bytes())
    ours, theirs = read_noted(held), read_noted(path)
    assert np.array_equal(np.asarray(ours.image), np.asarray(theirs.image))
    assert (ours.turned, ours.note, ours.plain) == (theirs.turned, theirs.note, theirs.plain)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("ts", "mpeg2video"), ("avi", "mjpeg")]
)
def test_a_video_in_memory_is_that_of_the_disk(tmp_path, suffix, codec):
    path = write_video(tmp_path / f"a.{suffix}", count=20, codec=codec)
    ours, theirs = open_video(HeldFile("a", path.read_bytes())), open_video(path)
    assert (ours.count, ours.fps, ours.listed, ours.note) == (theirs.count, theirs.fps, theirs.listed, theirs.note)
    wanted = [1, 13, 19]
    assert np.array_equal(list(ours.read(wanted).values()), list(theirs.read(wanted).values()))
    assert not is_cut(HeldFile("a", path.read_bytes()))


def test_its_pixels_and_seconds_are_bounded(tmp_path):
    picture = written("PNG")
    assert read_noted(HeldFile("a", picture, max_pixels=600)).image.size == (30, 20)
    with pytest.raises(AgfasError, match=re.escape("a has 30 x 20 pixels; at most 0.000599 million are read.")):
        read_noted(HeldFile("a", picture, max_pixels=599))
    assert most_pixels(HeldFile("a", b"")) == most_pixels(tmp_path) == MAX_PIXELS
    for suffix, codec in (("mp4", "libx264"), ("mkv", "libx264"), ("ts", "mpeg2video")):
        clip = write_video(tmp_path / f"a.{suffix}", count=40, codec=codec, rate=10).read_bytes()
        assert open_video(HeldFile("a", clip, max_seconds=5)).count == 40
        with pytest.raises(AgfasError, match=r"^a lasts [34] seconds; at most 2 are taken. Cut it.$"):
            open_video(HeldFile("a", clip, max_seconds=2))
        with pytest.raises(AgfasError, match=r"^a has frames of 64 x 48 pixels; at most "):
            open_video(HeldFile("a", clip, max_pixels=3000))


@pytest.mark.parametrize(
    "head", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", written("JPEG")[:300]]
)
def test_what_is_no_picture_is_refused_by_its_name(head):
    with pytest.raises(AgfasError, match=r"^selfie\.jpg is .*\.$"):
        read_noted(HeldFile("selfie.jpg", head))


def test_what_is_no_video_is_refused_by_its_name(tmp_path):
    sound = write_sound(tmp_path / "a.mp4").read_bytes()
    for content in (b"", b"hello", written("PNG"), b"\0\0\0\x18ftypmp42" + bytes(90), sound):
        with pytest.raises(AgfasError, match=r"^clip is |^clip has no video stream"):
            open_video(HeldFile("clip", content))


def test_it_is_searched_as_a_file_is(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one two")
    for file in (path, HeldFile("a", b"one two")):
        with searchable(file) as data:
            assert re.search(b"two", data).start() == 4
        assert size_of(file) == 7
        with file.open("rb") as stream:
            assert stream.read() == b"one two"
    assert str(HeldFile("a", b"one two")) == "a"
    assert repr(HeldFile("a", b"secret")) == "HeldFile(name='a', max_pixels=None, max_seconds=None)"

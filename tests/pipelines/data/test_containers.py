"""Ends, counts and clocks of videos, from bytes and numbers written by hand."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.data import video
from pipelines.data.containers import Counted, _by_duration, in_short, is_cut, is_listed
from pipelines.data.video import VideoFile, _Clock
from pipelines.errors import AgfasError


def box(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


EBML = b"\x1a\x45\xdf\xa3\x84head"
FTYP = box(b"ftyp", b"isom\0\0\0\0")
WHOLE = {
    "avi": b"RIFF" + struct.pack("<I", 20) + b"AVI " + bytes(16),
    "mkv": EBML + b"\x18\x53\x80\x67\x85frame",
    "mkv, length in two bytes": EBML + b"\x18\x53\x80\x67\x40\x85" + bytes(133),
    "mkv, length in eight bytes": EBML + b"\x18\x53\x80\x67\x01" + (300).to_bytes(7, "big") + bytes(300),
    "mkv, long head": b"\x1a\x45\xdf\xa3\x40\x82" + bytes(130) + b"\x18\x53\x80\x67\x8fpicturespicture",
    "mp4": FTYP + box(b"moov", bytes(30)) + box(b"mdat", bytes(99)),
    "mov": box(b"wide") + box(b"mdat", bytes(40)) + box(b"moov", bytes(9)),
    "mp4, index first": box(b"moov", bytes(12)) + box(b"mdat", b"x"),
    "mp4, data first": box(b"mdat", bytes(12)) + box(b"free", b"12"),
    "mp4, long box": FTYP + struct.pack(">I4sQ", 1, b"mdat", 70_016) + bytes(70_000) + box(b"moov", b"1"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_is_cut_that_ends_before_it_says(tmp_path, name):
    for content, cut in ((WHOLE[name], False), (WHOLE[name] + box(b"free", b"more"), False), (WHOLE[name][:-1], True)):
        (tmp_path / "a").write_bytes(content)
        assert is_cut(tmp_path / "a") is cut


@pytest.mark.parametrize(
    "content",
    [
        EBML + b"\x18\x53\x80\x67\xff" + b"live",  # of unknown length, as streams are
        EBML + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + b"live",
        EBML + b"\x1c\x53\xbb\x6b\x85",  # another element first
        FTYP + struct.pack(">I4s", 0, b"mdat") + bytes(50),  # up to the end
        FTYP + struct.pack(">I4s", 7, b"what") + bytes(50),
        FTYP + b"\0\0\0",
        b"RIF" + bytes(30),
        box(b"text", bytes(3))[:-1],
        b"",
    ],
)
def test_what_does_not_say_its_end_is_not_cut(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert is_cut(tmp_path / "a") is False


def entry(keyframe: bool = True, discard: bool = False, size: int = 10, place: int = 0) -> SimpleNamespace:
    return SimpleNamespace(is_keyframe=keyframe, is_discard=discard, size=size, pos=place)


LATER = entry(keyframe=False, place=90)


@pytest.mark.parametrize(
    ("entries", "frames", "listed"),
    [
        ([entry(), LATER], 2, True),
        ([entry(keyframe=False), LATER], 2, False),
        ([entry(), LATER], 3, False),
        ([entry(), LATER], 1, False),
        ([entry(), entry(discard=True)], 2, False),
        ([entry(), entry(size=0)], 2, False),
        ([entry(), entry(place=91)], 2, False),
        ([entry(size=1)], 1, True),
        ([], 0, False),
    ],
)
def test_frames_are_listed_that_a_player_shows(tmp_path, entries, frames, listed):
    (tmp_path / "a").write_bytes(bytes(100))
    assert is_listed(SimpleNamespace(index_entries=entries, frames=frames), tmp_path / "a") is listed
    assert is_listed(SimpleNamespace(frames=1), tmp_path / "a") is False


@pytest.mark.parametrize(
    ("start", "duration", "last", "reached", "expected"),
    [
        (1_000_000, 10_000_000, 5.5, 6.0, 100),  # 50 frames in 5 of 10 seconds
        (None, 10_000_000, 4.9, 5.0, 100),
        (0, 10_000_000, 4.0, 4.99, 100),
        (0, 10_000_000, 4.0, 5.0, 50),  # a second of sound went on
        (0, None, 4.9, 5.0, 0),
        (5_000_000, 10_000_000, 5.0, 5.5, 50),  # one moment only
    ],
)
def test_frames_that_a_cut_cost_follow_from_the_duration(start, duration, last, reached, expected):
    container = SimpleNamespace(start_time=start, duration=duration)
    assert _by_duration(container, 50, last, reached) == expected


def test_what_ffmpeg_says_is_cut_at_the_name():
    assert in_short(OSError(2, "Invalid data found: file.mp4")) == "Invalid data found"
    assert in_short(ValueError("broken: more")) == "broken"


@pytest.mark.parametrize(
    ("count", "promised", "note"),
    [(10, 10, ""), (10, 9, ""), (5, 10, "it is damaged or cut short; of 10 frames, 5 can be decoded"), (4, 9, None)],
)
def test_half_of_the_promised_frames_are_enough(monkeypatch, count, promised, note):
    monkeypatch.setattr(video, "count_frames", lambda path: Counted(count, promised, 12.5))
    for before in ("", "it has 2 video streams; one is read"):
        listed = VideoFile(Path("a.mp4"), 77, 25.0, 0, True, before)
        if note is None:
            with pytest.raises(AgfasError, match="of 9 frames, 4 can be decoded, fewer than half"):
                video._counted(listed)
            continue
        expected = "; ".join(filter(None, [before, note]))
        assert video._counted(listed) == VideoFile(Path("a.mp4"), count, 12.5, 0, False, expected)


def stream(rate=25, base=25, time_base=Fraction(1, 12_800), keys=(0, 12, 24), first: int = 1000) -> SimpleNamespace:
    """Entries are 512 time steps apart."""
    entries = [SimpleNamespace(timestamp=first + 512 * n, is_keyframe=n in keys) for n in range(30 if keys else 0)]
    as_rate = Fraction(rate) if rate else None
    return SimpleNamespace(average_rate=as_rate, base_rate=Fraction(base), time_base=time_base, index_entries=entries)


def test_a_clock_tells_frames_from_times_and_back():
    clock = _Clock.of(stream(), 2000)
    assert clock == _Clock(2000, 512.0, [0, 12, 24])
    assert [clock.key_frame_before(number) for number in (-1, 0, 11, 12, 23, 24, 99)] == [-1, 0, 0, 12, 12, 24, 24]
    assert [clock.time(number) for number in (0, 1, 10)] == [2000, 2512, 7120]
    assert [clock.number(time) for time in (2000, 2512, 7120, 1488)] == [0, 1, 10, -1]
    assert [clock.number(time) for time in (2000 + 51, 2000 - 51, 2512 + 51)] == [0, 0, 1]
    assert [clock.number(time) for time in (2000 + 52, 2000 - 52, 2256, None)] == [None] * 4


@pytest.mark.parametrize("changes", [{"rate": None}, {"base": 30}, {"time_base": None}, {"keys": ()}, {"rate": 30}])
def test_there_is_no_clock_without_a_constant_rate(changes):
    assert _Clock.of(stream(**changes), 0) is None
    assert _Clock.of(stream(), None) is None

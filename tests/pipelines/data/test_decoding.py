"""What a JPEG or TIFF would cost, from files written byte by byte."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pipelines.data.decoding import check_directory, count_scans, is_raw, scans_of_strips

SCAN = b"\xff\xda\x00\x04ab" + b"data\xff\x00\xff\xd3more"


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("parts", "scans"),
    [
        ([SCAN, b"\xff\xd9"], 1),
        ([SCAN * 3, b"\xff\xd9", SCAN], 3),  # what follows the end is not the picture's
        ([b"\xff\xe1\x00\x08\xff\xda\x00\x02ab", SCAN], 1),  # a preview within a segment
        ([b"\xff\x01", SCAN, b"\xff\xd8", SCAN], 2),  # marks without a segment
        ([b"\xff\xff\xff\xda\x00\x02", SCAN], 2),  # filled
        ([SCAN * 9], 6),  # more than five are not counted on
        ([], 0),
    ],
)
def test_scans_are_counted_up_to_the_end(tmp_path, parts, scans):
    assert count_scans(write(tmp_path / "a.jpg", b"\xff\xd8" + b"".join(parts)), 5) == scans


def directory(entries: list[tuple[int, int, int]], order: str, big: bool, size: int, count: int | None = None) -> bytes:
    """A TIFF or BigTIFF whose directory of (tag, type, values) stands at byte 20."""
    mark = b"II" if order == "<" else b"MM"
    number = len(entries) if count is None else count
    if big:
        head = mark + struct.pack(f"{order}HHHQ", 43, 8, 0, 20)
        body = struct.pack(f"{order}Q", number) + b"".join(struct.pack(f"{order}HHQQ", *each, 0) for each in entries)
    else:
        head = mark + struct.pack(f"{order}HL", 42, 20)
        body = struct.pack(f"{order}H", number) + b"".join(struct.pack(f"{order}HHLL", *each, 0) for each in entries)
    return (head.ljust(20, b"\0") + body).ljust(size, b"\0")


UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tags_lie_in_their_file(tmp_path, order, big):
    for kind, unit in UNITS.items():
        fits = 240 // unit
        check_directory(write(tmp_path / "a.tif", directory([(700, kind, fits)], order, big, 240)))
        check_directory(write(tmp_path / "a.tif", directory([(700, kind, fits - 1), (701, 2, 1)], order, big, 240)))
        for entries in ([(700, kind, fits + 1)], [(700, kind, fits), (701, 2, 1)]):
            with pytest.raises(ValueError, match="its tags are larger than the file"):
                check_directory(write(tmp_path / "a.tif", directory(entries, order, big, 240)))


@pytest.mark.parametrize("tag", [273, 279, 324, 325, 700])
def test_pieces_and_tags_can_be_counted(tmp_path, tag):
    check_directory(write(tmp_path / "a.tif", directory([(tag, 1, 100_000)], "<", False, 200_000)))
    many = write(tmp_path / "a.tif", directory([(tag, 1, 100_001)], "<", False, 200_000))
    if tag == 700:
        check_directory(many)
    else:
        with pytest.raises(ValueError, match="it is cut into 100001 pieces"):
            check_directory(many)


@pytest.mark.parametrize("big", [False, True])
def test_a_directory_has_4096_tags_at_most(tmp_path, big):
    entries = [(700, 1, 1)] * 4096
    check_directory(write(tmp_path / "a.tif", directory(entries, "<", big, 100_000)))
    with pytest.raises(ValueError, match="4097 tags"):
        check_directory(write(tmp_path / "a.tif", directory(entries, "<", big, 100_000, 4097)))
    for content in (b"II*\0", b"II*\0" + struct.pack("<L", 999), b""):
        with pytest.raises(struct.error):
            check_directory(write(tmp_path / "a.tif", content))


def test_scans_of_the_strips_of_a_tiff(tmp_path):
    path = write(tmp_path / "a.tif", b"\xff\xda..\xff\xda..\xff\xda.\xff")
    assert scans_of_strips(path, {273: (10,)}) == 3
    assert scans_of_strips(path, {273: (10, 20)}) == 2  # each strip has one at least
    assert scans_of_strips(path, {324: (10, 20, 30)}) == 1
    assert scans_of_strips(path, {273: (10, 10)}) == 3  # both may be the one with all


@pytest.mark.parametrize(
    ("tags", "raw"), [({}, False), ({254: 0}, False), ({254: 1}, True), ({254: 2}, False), ({50706: (1,)}, True)]
)
def test_a_preview_comes_first_in_raw_files(tags, raw):
    assert is_raw(tags) is raw

"""What decoding a picture may cost, found before a decoder runs: passes over a JPEG, and the directory of a TIFF.

Pillow checks the size of a picture, but decodes a JPEG as often as the file asks, and follows what a TIFF lists.
"""

from __future__ import annotations

import re
import struct
from typing import Any

from pipelines.data.held import File, searchable, size_of

# A marker with a segment behind it, or the end; bytes of a scan and its restart marks are passed over.
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
_START, _END, _SCAN, _EMPTY = 0xD8, 0xD9, 0xDA, 0x01
# Bytes of a value by its type, as TIFF 6 and BigTIFF number them.
_UNITS = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_MOST_TAGS = 4096
_MOST_PIECES = 100_000
_PIECES = (273, 279, 324, 325)  # offsets and lengths of strips and tiles
_STRIPS, _TILES, _SUBFILE, _DNG = 273, 324, 254, 50706


def count_scans(path: File, most: int) -> int:
    """The passes that a JPEG sends its picture in, up to its end; more than `most` are not counted on."""
    with searchable(path) as data:
        place, found = 2, 0
        while found <= most and (mark := _MARKER.search(data, place)):
            code, place = mark[1][0], mark.end()
            if code == _END:
                break
            if code in (_START, _EMPTY):
                continue
            found += code == _SCAN
            place += int.from_bytes(data[place : place + 2], "big")
    return found


def check_directory(path: File) -> None:
    """Check the first directory of a TIFF: its tags lie in the file, once, and its strips can be counted.

    Raises:
        ValueError: they do not.
        struct.error: it ends early.
    """
    size = size_of(path)
    with path.open("rb") as stream:
        head = stream.read(16)
        order, big = "<" if head.startswith(b"II") else ">", 43 in head[2:4]
        stream.seek(struct.unpack_from(f"{order}Q" if big else f"{order}L", head, 8 if big else 4)[0])
        count = struct.unpack(*((f"{order}Q", stream.read(8)) if big else (f"{order}H", stream.read(2))))[0]
        if count > _MOST_TAGS:
            raise ValueError(f"{count} tags")
        entries = stream.read(count * (20 if big else 12))
    taken = 0
    for tag, kind, values in struct.iter_unpack(f"{order}HHQ8x" if big else f"{order}HHL4x", entries):
        taken += values * _UNITS.get(kind, 1)
        if taken > size:
            raise ValueError("its tags are larger than the file")
        if tag in _PIECES and values > _MOST_PIECES:
            raise ValueError(f"it is cut into {values} pieces")


def scans_of_strips(path: File, tags: Any) -> int:
    """At most the passes of any strip of a TIFF that holds JPEG."""
    places = tags.get(_STRIPS) or tags.get(_TILES) or ()
    with searchable(path) as data:
        found = sum(1 for _ in re.finditer(rb"\xff\xda", data))
    # Strips that share a place may all be the one with the most passes.
    return found if len(set(places)) < len(places) else found - len(places) + 1


def is_raw(tags: Any) -> bool:
    """Whether a TIFF is a camera's raw file, whose first picture is a small preview."""
    return _DNG in tags or bool(tags.get(_SUBFILE, 0) & 1)

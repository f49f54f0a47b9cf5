"""Arrays in one safetensors file, written in pieces and read as views of the mapped file.

The format (huggingface/safetensors): 8 bytes little-endian length, a JSON header with dtype, shape and
offsets of every array, then the arrays' bytes. The header is padded so that the first array is aligned.

Blocks with a checksum are the header, and every row of an array, or as many rows as have `_BLOCK` bytes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipelines.sums import CheckedFile, CheckedRows, Damaged, checksums

_CODES = {
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}
_DTYPES = {code: np.dtype(name).newbyteorder("<") for name, code in _CODES.items()}
_ALIGNMENT = 64
_BLOCK = 4096


def encode(arrays: Mapping[str, np.ndarray]) -> list[bytes | memoryview]:
    """The file's bytes in pieces, without copying contiguous arrays; equal arrays give equal bytes.

    Raises:
        ValueError: an array has a dtype that the format lacks.
    """
    header: dict[str, dict] = {}
    pieces: list[bytes | memoryview] = []
    end = 0
    for name in sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name)):
        array = _little_endian(name, arrays[name])
        offsets = [end, end + array.nbytes]
        header[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": offsets,
        }
        # reshape(-1) gives arrays without elements or dimensions a buffer too.
        pieces.append(array.reshape(-1).view(np.uint8).data if array.size else b"")
        end = offsets[1]
    return [_header_bytes(header), *pieces]


def _little_endian(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.name not in _CODES:
        raise ValueError(f"array '{name}' has dtype {array.dtype}; safetensors takes {', '.join(_CODES)}.")
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def _header_bytes(header: dict[str, dict]) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


@dataclass(frozen=True)
class _Placed:
    """Where an array lies in its file, from byte `start` to before `stop`."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return max(1, (self.stop - self.start) // max(1, self.shape[0] if self.shape else 1))

    @property
    def rows_a_block(self) -> int:
        """Rows that share a checksum."""
        return max(1, _BLOCK // self.row)

    def edges(self) -> list[int]:
        """Where its blocks begin."""
        return list(range(self.start, self.stop, self.row * self.rows_a_block))


def _placed(header: bytes, size: int) -> list[_Placed]:
    """The arrays that a header describes, in their order.

    Raises:
        ValueError: it does not describe a file of `size` bytes.
    """
    try:
        entries = json.loads(header[8:])
        found = [
            _Placed(
                name,
                _DTYPES[entry["dtype"]],
                tuple(map(int, entry["shape"])),
                *(len(header) + int(end) for end in entry["data_offsets"]),
            )
            for name, entry in entries.items()
            if name != "__metadata__"
        ]
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its header is damaged: {error}") from None
    ends = [len(header), *(array.stop for array in found)]
    whole = [array.start for array in found] == ends[:-1] and ends[-1] == size
    if not whole or any(_length(array) != array.stop - array.start for array in found):
        raise ValueError("its header describes another file")
    return found


def _length(array: _Placed) -> int:
    return array.dtype.itemsize * math.prod(array.shape)


def _edges(arrays: list[_Placed], size: int) -> np.ndarray:
    return np.array([0, *(edge for array in arrays for edge in array.edges()), size])


def sums_of(pieces: Sequence[bytes | memoryview]) -> np.ndarray:
    """The checksums of a file's blocks, given what `encode` returned."""
    header, *bodies = pieces
    arrays = _placed(bytes(header), sum(map(len, pieces)))
    sums = [checksums(header, np.array([0, len(header)]))]
    for array, body in zip(arrays, bodies, strict=True):
        sums.append(checksums(body, np.array([*array.edges(), array.stop]) - array.start))
    return np.concatenate(sums)


def ends_hold(path: Path, sums: np.ndarray | None) -> bool:
    """Whether a file's header and last block are what was written: quick, and false for a file of zeros.

    Without `sums`, of files that were written before there were any, whether the header describes the file.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        try:
            header = _read_header(stream, size)
            arrays = _placed(header, size)
        except ValueError:
            return False
        if sums is None:
            return True
        edges = _edges(arrays, size)
        stream.seek(edges[-2])
        ends = [checksums(header, edges[:2])[0], checksums(stream.read(), edges[-2:] - edges[-2])[0]]
        return len(sums) == len(edges) - 1 and ends == [sums[0], sums[-1]]


def _read_header(stream: BinaryIO, size: int) -> bytes:
    start = stream.read(8)
    length = int.from_bytes(start, "little")
    if not 0 < length <= size - 8:
        raise ValueError("its header is damaged")
    return start + stream.read(length)


def map_arrays(path: Path, sums: np.ndarray | None = None, advice: str = "") -> dict[str, CheckedRows]:
    """A file's arrays, mapped; rows are read, and compared with their checksums, when they are used.

    Args:
        path: the file.
        sums: of `sums_of`; None for a file that has just been compared as a whole.
        advice: what to do if it is damaged.

    Raises:
        Damaged: the header is not what was written.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        try:
            header = _read_header(stream, size)
            if sums is not None and checksums(header, np.array([0, len(header)]))[0] != sums[0]:
                raise ValueError("its header is damaged")
            arrays = _placed(header, size)
        except (ValueError, IndexError):
            raise Damaged(path, advice) from None
    # np.asarray drops the memmap class, whose indexing is several times slower; the mapping stays open.
    data = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    edges = _edges(arrays, size)
    file = CheckedFile(path, data, edges, checksums(data, edges) if sums is None else sums, advice)
    return {
        array.name: CheckedRows(
            data[array.start : array.stop].view(array.dtype).reshape(array.shape),
            file,
            int(np.searchsorted(edges, array.start)),
            array.rows_a_block,
        )
        for array in arrays
    }

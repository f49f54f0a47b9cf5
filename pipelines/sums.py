"""Checksums of the blocks of a large file, compared whenever a block is read; `pipelines.seals` is for small files.

A block's checksum is its XXH3-64, which is computed faster than memory is read. It finds damage, not forgery.
"""

from __future__ import annotations

import base64
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from pipelines.errors import AgfasError

_CHECKSUM = np.dtype("<u8")


class Damaged(AgfasError):
    """A file is not what was written.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, advice: str, what: str = "checksum") -> None:
        super().__init__(f"{path} is not what was written (its {what} differs). {advice}")
        self.path = path


def checksums(data: Any, edges: np.ndarray) -> np.ndarray:
    """(n,) uint64, of the blocks of a buffer of bytes that lie between n + 1 edges."""
    view, ends = memoryview(data), edges.tolist()
    found = (xxhash.xxh3_64_intdigest(view[start:stop]) for start, stop in pairwise(ends))
    return np.fromiter(found, dtype=_CHECKSUM, count=len(ends) - 1)


def as_text(sums: np.ndarray) -> str:
    """Checksums as text."""
    return base64.b64encode(sums.astype(_CHECKSUM).tobytes()).decode()


def from_text(text: str) -> np.ndarray:
    """The inverse of `as_text`.

    Raises:
        ValueError: it is none.
    """
    return np.frombuffer(base64.b64decode(text, validate=True), dtype=_CHECKSUM)


def even_edges(size: int, block: int) -> np.ndarray:
    """The edges of blocks of equal length, of which the last may be shorter."""
    return np.append(np.arange(0, size, block), size)


class CheckedFile:
    """The bytes of a mapped file, of which every block has a checksum.

    Args:
        path: the file.
        data: its bytes, (size,) uint8.
        edges: (n + 1,) int64, rising, where blocks begin and end.
        sums: (n,) uint64.
        advice: what to do if it is damaged.

    Raises:
        Damaged: the file or the list of checksums has another length.
    """

    def __init__(self, path: Path, data: np.ndarray, edges: np.ndarray, sums: np.ndarray, advice: str) -> None:
        if len(edges) != len(sums) + 1 or int(edges[-1]) != len(data):
            raise Damaged(path, advice, "length")
        self.path, self.data, self.edges, self.advice = path, data, edges, advice
        self._bytes, self._ends, self._sums = data.data, edges.tolist(), sums.tolist()

    def check_block(self, block: int) -> None:
        """Compare a block.

        Raises:
            Damaged: it is not what was written.
        """
        piece = self._bytes[self._ends[block] : self._ends[block + 1]]
        if xxhash.xxh3_64_intdigest(piece) != self._sums[block]:
            raise Damaged(self.path, self.advice)

    def check(self, start: int, stop: int) -> None:
        """Compare the blocks that hold the bytes from `start` to before `stop`."""
        if start < stop:
            first = int(np.searchsorted(self.edges, start, side="right")) - 1
            for block in range(first, int(np.searchsorted(self.edges, stop, side="left"))):
                self.check_block(block)


class CheckedRows:
    """An array in a checked file; indexed like an array, and rows are compared whenever they are read.

    Args:
        rows: (N, ...), the mapped array.
        file: that holds it; None for one that was written before there were checksums.
        first: its first block.
        rows_a_block: rows of a block.
    """

    def __init__(self, rows: np.ndarray, file: CheckedFile | None, first: int = 0, rows_a_block: int = 1) -> None:
        self._rows, self._file, self._first, self._rows_a_block = rows, file, first, rows_a_block
        self.shape, self.dtype, self.ndim = rows.shape, rows.dtype, rows.ndim

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if self._file is not None:
            chosen = self._chosen(index[0] if isinstance(index, tuple) else index)
            for block in np.unique(chosen // self._rows_a_block).tolist():
                self._file.check_block(self._first + block)
        return self._rows[index]

    def _chosen(self, index: Any) -> np.ndarray:
        if isinstance(index, slice):
            return np.arange(*index.indices(len(self)))
        chosen = np.asarray(index)
        if chosen.dtype == bool:
            return np.flatnonzero(chosen)
        chosen = chosen.astype(np.int64)
        return np.where(chosen < 0, chosen + len(self), chosen)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        rows = self[:]
        return np.array(rows, dtype=dtype) if copy else np.asarray(rows, dtype=dtype)

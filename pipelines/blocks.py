"""Work in blocks that any number of processes share through files: each block is made by one of them, once.

Processes meet at the files alone: they may belong to one launch, to several or to none, and no barrier can time out
while one of them is slow. Blocks have fixed boundaries, so the result does not depend on who makes which. A killed
process leaves its block to the others, and the next start goes on with what is missing.

    .NAME.ID/done      one byte a block, 1 once the block is on disk
    .NAME.ID/claims    which blocks are being made now
    .NAME.ID/...       what the blocks hold, until all are there and the result NAME is made of them
"""

from __future__ import annotations

import io
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipelines.claims import Claims
from pipelines.ending import finishing, stop_if_asked
from pipelines.files import explained_errors, sync_folder
from pipelines.fingerprint import canonical_json, fingerprint
from pipelines.processes import rank_and_world
from pipelines.progress import bar
from pipelines.sums import CheckedFile, CheckedRows, Damaged, checksums

Item = TypeVar("Item")

_SECONDS_BETWEEN_LOOKS = 0.2
_IDENTITY = re.compile("[0-9a-f]{16}")
# Bytes of a row's checksum, and what stands behind them all.
_SUM, _MAGIC = 8, b"agfas-1\n"


class Blocks:
    """The blocks of one result.

    Args:
        result: the file or folder that they become.
        count: number of blocks.
        identity: everything that decides a block's content; work of another identity is not used.

    Attributes:
        folder: of the work, beside the result; removed when the result is there.
    """

    def __init__(self, result: Path, count: int, identity: Any) -> None:
        self.result, self.count = result, count
        self.folder = result.with_name(f".{result.name}.{fingerprint([identity, count])}")
        self._done = self.folder / "done"

    @cached_property
    def _claims(self) -> Claims:
        with explained_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            return Claims(self.folder / "claims")

    def done(self) -> np.ndarray:
        """(count,) bool, the blocks that are on disk."""
        marks = self._done.read_bytes() if self._done.is_file() else b""
        return np.frombuffer(marks.ljust(self.count, b"\0"), dtype=bool)[: self.count]

    def missing(self) -> Iterator[int]:
        """The blocks that the caller must put on disk before it asks for the next one.

        Process r of n tries the blocks r, r + n, ... first, then those that the others have not begun. Blocks that
        another process is making are left out.
        """
        rank, world_size = rank_and_world()
        for block in deal(list(range(self.count)), rank, world_size):
            if not self._lacks(block) or not self._claims.take(block):
                continue
            try:
                # Another process may have finished it since.
                if self._lacks(block):
                    yield block
                    self._mark(block)
            finally:
                self._claims.release(block)

    def _mark(self, block: int) -> None:
        with explained_errors(self.result):
            sync_folder(self.folder)
            _write_at(self._done, {block: b"\1"})

    def _lacks(self, block: int) -> bool:
        # In this order: the marks are removed after the result has appeared.
        return not self.done()[block] and not self.result.exists()

    def finish(self, make: Callable[[], object]) -> None:
        """Make the result of all blocks, unless another process has, and remove the blocks."""
        with self._claims.committing():
            if not self.result.exists():
                make()
        self._claims.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_finished(result: Path) -> None:
    """Remove blocks that outlived their result, because a kill or an error came first."""
    for folder in result.parent.glob(".*") if result.exists() else ():
        name, _, identity = folder.name.rpartition(".")
        if name == f".{result.name}" and _IDENTITY.fullmatch(identity) and folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Job:
    """One result and what makes it.

    Attributes:
        blocks: of the result.
        make: puts one block on disk.
        finish: makes the result of all blocks; one process calls it.
        units: what the progress bar counts, in all blocks together.
    """

    blocks: Blocks
    make: Callable[[int], None]
    finish: Callable[[], object]
    units: int

    def units_done(self) -> int:
        """Units of the finished blocks."""
        share = 1.0 if self.blocks.result.exists() else self.blocks.done().mean()
        return int(share * self.units)

    def advance(self) -> bool:
        """Make the blocks that no other process makes, and the result of all; False if there was nothing to do."""
        moved = False
        for block in self.blocks.missing():
            stop_if_asked()
            self.make(block)
            moved = True
        if self.blocks.done().all():
            self.blocks.finish(self.finish)
            moved = True
        return moved


def share(jobs: Sequence[Job], title: str, unit: str, show: bool = True) -> None:
    """Do jobs with every other process that does them; return when all results are there.

    Args:
        jobs: in the same order in every process, each of which begins with its own.
        title, unit: of the progress bar.
        show: whether the main process shows one.

    Raises:
        Stopped: a signal asked for it; the block in hand is finished.
    """
    rank, world_size = rank_and_world()
    order = deal(list(jobs), rank, world_size)
    shown = bar(sum(job.units for job in jobs), title, unit=unit, show=show and rank == 0)
    with finishing(), shown as progress:
        while waiting := [job for job in order if not job.blocks.result.exists()]:
            moved = False
            for job in waiting:
                moved |= job.advance()
                progress.update(sum(one.units_done() for one in jobs) - progress.n)
                stop_if_asked()
            if not moved:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
        progress.update(sum(one.units_done() for one in jobs) - progress.n)


class SharedArray:
    """A .npy file whose rows are made in blocks. Behind the array it holds a checksum of every row, see `open_shared`.

    Args:
        path: of the file.
        shape: of the whole array.
        dtype: of its values.
        block: rows of one block.
        identity: everything that decides its values, apart from these.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: type[np.generic], block: int, identity: Any) -> None:
        self.shape, self.dtype, self.block = shape, np.dtype(dtype), block
        self.blocks = Blocks(path, -(-shape[0] // block), [identity, shape, self.dtype.str, block, _MAGIC.decode()])
        self.data = self.blocks.folder / "data.npy"
        stream = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(self.dtype)
        np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
        self._header = stream.getvalue()
        self._row = self.dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        self._identity = identity

    def rows(self, block: int) -> range:
        """The rows of a block."""
        return range(block * self.block, min((block + 1) * self.block, self.shape[0]))

    def write(self, block: int, values: np.ndarray) -> None:
        """Put a block's rows on disk.

        Raises:
            AgfasError: the disk is full or the folder cannot be written.
        """
        if values.shape != (expected := (len(self.rows(block)), *self.shape[1:])):
            raise ValueError(f"block {block} has shape {values.shape} instead of {expected}.")
        start, row = self.rows(block).start, self._row
        with explained_errors(self.blocks.result, row * self.shape[0]):
            content = np.ascontiguousarray(values, dtype=self.dtype).tobytes()
            sums = checksums(content, row * np.arange(len(values) + 1)).tobytes()
            place, behind = len(self._header) + row * start, self._behind + _SUM * start
            _write_at(self.data, {0: self._header, place: content, behind: sums})

    @property
    def _behind(self) -> int:
        """Where the checksums begin."""
        return len(self._header) + self._row * self.shape[0]

    def whole(self) -> np.ndarray:
        """All rows, once all blocks are done.

        Raises:
            Damaged: they are not what was written.
        """
        self._end()
        advice = f"Remove {self.blocks.folder} and run the command again."
        return np.asarray(open_shared(self.data, self._identity, advice))

    def _end(self) -> None:
        _write_at(self.data, {self._behind + _SUM * self.shape[0]: _mark(self._header, self._identity)})

    def publish(self) -> None:
        """Give the file its name, once all blocks are done.

        Raises:
            Damaged: see `whole`.
        """
        self.whole()
        os.replace(self.data, self.blocks.result)
        sync_folder(self.blocks.result.parent)


def open_shared(path: Path, identity: Any, advice: str) -> CheckedRows:
    """The array that `SharedArray` wrote, mapped; rows are compared with their checksums when they are read.

    Args:
        path: of the file. One without checksums, as `np.save` and earlier versions wrote it, is read as it is.
        identity: as given to `SharedArray`; an array of another identity is refused.
        advice: what to do if it is damaged.

    Raises:
        Damaged: it is not what was written.
    """
    try:
        with path.open("rb") as stream:
            np.lib.format.read_magic(stream)
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            start = stream.tell()
    except Exception:  # a damaged header is read by Python's tokenizer, which raises its own errors
        raise Damaged(path, advice) from None
    data = np.asarray(np.memmap(path, np.uint8, "r"))
    row = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    stop = start + row * shape[0]
    if len(data) < stop:
        raise Damaged(path, advice, "length")
    rows = data[start:stop].view(dtype).reshape(shape)
    if len(data) == stop:
        return CheckedRows(rows, None)
    behind = stop + _SUM * shape[0]
    if data[behind:].tobytes() != _mark(data[:start].tobytes(), identity):
        raise Damaged(path, advice)
    sums = np.frombuffer(data[stop:behind].tobytes(), "<u8")
    file = CheckedFile(path, data[start:stop], row * np.arange(shape[0] + 1), sums, advice)
    return _Shared(rows, file, (path, identity, advice))


class _Shared(CheckedRows):
    """Opened again in another process, since maps cannot be pickled."""

    def __init__(self, rows: np.ndarray, file: CheckedFile, opened: tuple[Path, Any, str]) -> None:
        super().__init__(rows, file)
        self._opened = opened

    def __reduce__(self) -> tuple[Any, ...]:
        return open_shared, self._opened


def _mark(header: bytes, identity: Any) -> bytes:
    """The end of a file with checksums: of the header and of whose rows they are."""
    content = header + canonical_json(identity).encode()
    return _MAGIC + checksums(content, np.array([0, len(content)])).tobytes()


def deal(items: Sequence[Item], rank: int, world_size: int) -> list[Item]:
    """All items in the order in which process `rank` tries them: its own share, then those of the next ranks."""
    return [item for turn in range(world_size) for item in items[(rank + turn) % world_size :: world_size]]


def _write_at(path: Path, content: Mapping[int, bytes]) -> None:
    """Write and fsync bytes at places of a file, which is created if it is missing."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as stream:
        for place, piece in content.items():
            stream.seek(place)
            stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())

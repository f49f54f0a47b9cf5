"""Work in blocks that any number of processes share through files: each block is made by one of them, once.

Processes meet at the files alone: they may belong to one launch, to several or to none, and no barrier can time out
while one of them is slow. Blocks have fixed boundaries, so the result does not depend on who makes which. A killed
process leaves its block to the others, and the next start goes on with what is missing.

    .NAME.ID/done      one byte a block, 1 once the block is on disk
    .NAME.ID/claims    which blocks are being made now
    .NAME.ID/sums      of an array, the checksum of each block
    .NAME.ID/...       what the blocks hold, until all are there and the result NAME is made of them
"""

from __future__ import annotations

import hashlib
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
from pipelines.errors import AgfasError
from pipelines.files import explained_errors, sync_folder
from pipelines.fingerprint import fingerprint
from pipelines.processes import rank_and_world
from pipelines.progress import bar

Item = TypeVar("Item")

_SECONDS_BETWEEN_LOOKS = 0.2
_IDENTITY = re.compile("[0-9a-f]{16}")
_BYTES_OF_A_SUM = hashlib.sha256().digest_size


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
    """A .npy file whose rows are made in blocks.

    Args:
        path: of the file.
        shape: of the whole array.
        dtype: of its values.
        block: rows of one block.
        identity: everything that decides its values, apart from these.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: type[np.generic], block: int, identity: Any) -> None:
        self.shape, self.dtype, self.block = shape, np.dtype(dtype), block
        self.blocks = Blocks(path, -(-shape[0] // block), [identity, shape, self.dtype.str, block])
        self.data = self.blocks.folder / "data.npy"
        self._sums = self.blocks.folder / "sums"
        stream = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(self.dtype)
        np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
        self._header = stream.getvalue()

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
        row = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        with explained_errors(self.blocks.result, row * self.shape[0]):
            content = np.ascontiguousarray(values, dtype=self.dtype).tobytes()
            place = len(self._header) + row * self.rows(block).start
            _write_at(self.data, {0: self._header, place: content})
            _write_at(self._sums, {block * _BYTES_OF_A_SUM: _sum(content)})

    def whole(self) -> np.ndarray:
        """The array, mapped, once all blocks are done; compared with what was written.

        Raises:
            AgfasError: it differs.
        """
        # Work of an earlier version has no checksums.
        sums = self._sums.read_bytes() if self._sums.is_file() else b""
        with self.data.open("rb") as stream:
            same = stream.read(len(self._header)) == self._header
        row = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        content = np.memmap(self.data, np.uint8, "r", len(self._header)) if same else np.empty(0, np.uint8)
        same &= len(content) == row * self.shape[0]
        for block in range(self.blocks.count) if same and sums else ():
            rows, place = self.rows(block), block * _BYTES_OF_A_SUM
            same &= _sum(content[row * rows.start : row * rows.stop].tobytes()) == sums[place : place + _BYTES_OF_A_SUM]
        if not same:
            raise AgfasError(
                f"{self.data} is not what was written (its checksum differs). Remove {self.blocks.folder} and run the"
                " command again."
            )
        return content.view(self.dtype).reshape(self.shape)

    def publish(self) -> None:
        """Give the file its name, once all blocks are done.

        Raises:
            AgfasError: see `whole`.
        """
        self.whole()
        os.replace(self.data, self.blocks.result)
        sync_folder(self.blocks.result.parent)


def deal(items: Sequence[Item], rank: int, world_size: int) -> list[Item]:
    """All items in the order in which process `rank` tries them: its own share, then those of the next ranks."""
    return [item for turn in range(world_size) for item in items[(rank + turn) % world_size :: world_size]]


def _sum(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _write_at(path: Path, content: Mapping[int, bytes]) -> None:
    """Write and fsync bytes at places of a file, which is created if it is missing."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as stream:
        for place, piece in content.items():
            stream.seek(place)
            stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())

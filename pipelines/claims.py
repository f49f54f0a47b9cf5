"""Who writes what now: a lock on one byte of a file for each task of a store, or for the whole of a folder.

On a file system without locks only a single process is safe. Two would make the same tasks, and could replace each
other's shard or list a task at the same moment. That is harmless while they make the same bytes; machines that differ
by a grey level may leave a shard under the other's checksum, and a line of the manifest may be lost or torn. `agfas
cues --verify` finds such shards, and the next run makes them again.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import AgfasError
from pipelines.files import explained_errors
from pipelines.locks import ByteLocks

CLAIMS_NAME = "claims.lock"

# Byte 0 guards the moment in which a shard gets its name and its line in the manifest.
_COMMIT, _FIRST_TASK = 0, 1


class Claims(ByteLocks):
    """The claims of one process on one store's tasks.

    Without locks (`supported` is False) every claim succeeds and `committing` excludes nobody.
    """

    def take(self, task: int) -> bool:
        """Claim a task; False if another living process holds it."""
        return self.lock(_FIRST_TASK + task)

    def release(self, task: int) -> None:
        """Release a claim."""
        self.unlock(_FIRST_TASK + task)

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Mutual exclusion between processes, if the file system has locks."""
        self.lock(_COMMIT, wait=True)
        try:
            yield
        finally:
            self.unlock(_COMMIT)


class _FolderLock(ByteLocks):
    """The right to write one folder. Its file is beside the folder, which may be replaced as a whole."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.holders = 0

    def take(self) -> bool:
        """Whether the lock is taken, and on the file that has the name now: its last holder removed the one before."""
        if not self.lock(0):
            return False
        same = self.is_named()
        if same:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, f"process {os.getpid()} on {platform.node()}".encode())
        return same

    def holder(self) -> str:
        """Who has it, in words."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        text = os.read(self._descriptor, 200).decode("utf-8", "replace")
        return text if text.startswith("process ") else "another process"


# Of this process: a folder may be taken again by the one who has it.
_held: dict[Path, _FolderLock] = {}


def take_folder(folder: Path) -> None:
    """Become the only process that writes `folder`, which need not exist, until `leave_folder` or the process's end.

    Raises:
        AgfasError: another process writes it.
    """
    place = folder.absolute()
    if place not in _held:
        with explained_errors(folder):
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_dir() and not os.access(place.parent, os.W_OK):  # a mount of a container
                _tell(f"{place.parent} cannot be written, so {folder} has no lock")
                return
            _held[place] = _taken(place.with_name(f".{place.name}.lock"), folder)
    _held[place].holders += 1


def leave_folder(folder: Path) -> None:
    """Let other processes write `folder`, once everything here that took it has left."""
    lock = _held.get(folder.absolute())
    if lock is not None:
        lock.holders -= 1
        if lock.holders == 0:
            _held.pop(folder.absolute()).remove()


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """`take_folder` for the time of a block."""
    take_folder(folder)
    try:
        yield
    finally:
        leave_folder(folder)


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Wait until no other process is in such a block of the file `path`, which is for something short."""
    with explained_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = ByteLocks(path)
    lock.lock(0, wait=True)
    try:
        yield
    finally:
        lock.close()


def _taken(path: Path, folder: Path) -> _FolderLock:
    while True:
        lock = _FolderLock(path)
        if lock.take():
            if not lock.supported:
                _tell(f"the file system of {folder} has no locks")
            return lock
        holder = None if lock.lock(0) else lock.holder()
        lock.close()
        if holder is not None:  # otherwise the last one has just removed the file
            raise AgfasError(f"{folder} is being written by {holder}. Wait for it, or end it; then run this again.")


def _tell(what: str) -> None:
    print(f"agfas: {what}: let no second job write there", file=sys.stderr, flush=True)

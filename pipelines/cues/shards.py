"""Named arrays with one row per key, made in tasks and stored in shards.

The work is divided into ceil(N / shard_size) tasks in the order of the keys, whatever processes make them. A folder
holds:

    store.json            identity, number of keys, shard size, checksum of the keys
    keys.txt              one key a line; line i is row i
    manifest.jsonl        the finished shards; readers trust nothing else
    claims.lock           which tasks are being made now
    shards/00000.safetensors

Needs numpy only, so that a finished job is recognised without importing torch.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.claims import CLAIMS_NAME, Claims
from pipelines.cues.description import (
    KEYS_NAME,
    STORE_NAME,
    StoreStatus,
    create,
    encode_keys,
    read_description,
    restore_keys,
)
from pipelines.cues.layout import encode, ends_hold, map_arrays, sums_of
from pipelines.cues.manifest import Manifest, ShardEntry
from pipelines.errors import AgfasError
from pipelines.files import explained_errors, publish, remove_stale, written
from pipelines.fingerprint import file_sha256, fingerprint
from pipelines.sums import CheckedRows, Damaged, as_text, from_text

MANIFEST_NAME = "manifest.jsonl"
_NAMED_KEYS = 3
_ADVICE = "Run the command that makes the store again (`agfas cues`, for cues): it makes this shard again."


class ShardStore:
    """An opened store.

    Attributes:
        folder: its folder, named by the fingerprint of the identity.
        identity: everything that decides its bytes.
        keys: row i belongs to keys[i].
        shard_size: rows of one task; the last one may have fewer.
        tasks: number of tasks.
    """

    def __init__(self, folder: Path, description: dict[str, Any], keys: list[str]) -> None:
        self.folder = folder
        self.identity: dict[str, Any] = description["identity"]
        self.keys = keys
        self.shard_size = int(description["shard_size"])
        self.tasks = -(-len(keys) // self.shard_size)
        self._shards = folder / "shards"
        self._manifest = Manifest(folder / MANIFEST_NAME)
        self._trusted: dict[int, ShardEntry] = {}
        self._maps: dict[int, dict[str, CheckedRows]] = {}
        # One thread makes a task while another writes the one before; both read the manifest.
        self._noticing = threading.Lock()
        self.refresh()

    @classmethod
    def create_or_open(cls, root: Path, identity: dict[str, Any], keys: Sequence[str], shard_size: int) -> ShardStore:
        """Open the store of `identity` in `root`, or create it.

        An existing store keeps its shard size, which defines its tasks. Temporary files of dead processes are removed.

        Raises:
            AgfasError: no keys, repeated keys, a shard size below 1, a store of this identity with other keys, or a
                folder that cannot be written.
        """
        keys = list(keys)
        data = encode_keys(keys)
        digest = hashlib.sha256(data).hexdigest()
        folder = Path(root) / fingerprint(identity)
        if not (folder / STORE_NAME).is_file():
            with explained_errors(folder):
                create(folder, identity, data, len(keys), shard_size)
        description = read_description(folder)
        if fingerprint(description["identity"]) != folder.name:
            raise AgfasError(f"{folder} holds the store of another identity. Remove it and run again.")
        if description["keys_sha256"] != digest:
            raise AgfasError(
                f"{folder} was made for {description['count']} keys, other than the {len(keys)} given, though"
                " its identity is the same. Give the dataset a fingerprint of its content, or remove the"
                " folder."
            )
        with explained_errors(folder):
            restore_keys(folder, data)
        remove_stale(folder)
        remove_stale(folder / "shards")
        return cls(folder, description, keys)

    @classmethod
    def open(cls, folder: Path) -> ShardStore:
        """Open an existing store, to read or to resume it.

        Raises:
            AgfasError: `folder` holds no complete store.
        """
        folder = Path(folder)
        description = read_description(folder)
        path = folder / KEYS_NAME
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != description["keys_sha256"]:
            raise Damaged(path, "Run the command that made the store again: it writes that file again.")
        return cls(folder, description, data.decode().split("\n"))

    def __reduce__(self) -> tuple[Any, ...]:
        # Reopened in a worker process: mapped files and locks cannot be pickled.
        return type(self).open, (self.folder,)

    def __len__(self) -> int:
        return len(self.keys)

    def refresh(self) -> None:
        """Read what other processes have finished or revoked."""
        with self._noticing:
            for task in self._manifest.refresh():
                self._maps.pop(task, None)
                entry = self._manifest.entries.get(task)
                if entry is not None and self._is_whole(entry):
                    self._trusted[task] = entry
                else:
                    self._trusted.pop(task, None)

    def _is_whole(self, entry: ShardEntry) -> bool:
        # A line of an earlier version, in which a bit was flipped, may name the file of another task.
        if entry.file != _file_of(entry.task) or entry.count != len(self.task_rows(entry.task)):
            return False
        path = self._shards / entry.file
        try:
            stat = path.stat()
        except OSError:
            return False
        return stat.st_size == entry.bytes and _ends_hold(
            path, str(entry.sums), (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        )

    def task_rows(self, task: int) -> range:
        """The rows of a task."""
        return range(task * self.shard_size, min((task + 1) * self.shard_size, len(self.keys)))

    def finished(self, task: int) -> bool:
        """Whether a task's shard can be read."""
        return task in self._trusted

    def unfinished(self) -> list[int]:
        """Tasks that are not finished, in order."""
        return [task for task in range(self.tasks) if task not in self._trusted]

    @property
    def finished_rows(self) -> int:
        """Rows that can be read."""
        return sum(entry.count for entry in list(self._trusted.values()))

    def entry(self, task: int) -> ShardEntry:
        """The manifest's entry of a finished task."""
        return self._trusted[task]

    @cached_property
    def claims(self) -> Claims:
        """This process's claims on tasks.

        Raises:
            AgfasError: the folder cannot be written.
        """
        with explained_errors(self.folder):
            return Claims(self.folder / CLAIMS_NAME)

    def write(self, task: int, arrays: Mapping[str, np.ndarray], made: dict[str, Any] | None = None) -> ShardEntry:
        """Write and list the shard of a task. The first of several writers wins.

        Args:
            task: its number.
            arrays: by name, each with one row per key of the task.
            made: recorded in the manifest, see `ShardEntry.made`.

        Raises:
            ValueError: an array has another number of rows than the task.
            AgfasError: the disk is full or the folder cannot be written; nothing made before is lost.
        """
        count = len(self.task_rows(task))
        for name, array in arrays.items():
            if array.ndim == 0 or len(array) != count:
                raise ValueError(f"array '{name}' has shape {array.shape}; task {task} has {count} rows.")
        pieces = encode(arrays)
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
        size = sum(len(piece) for piece in pieces)
        sums = as_text(sums_of(pieces))
        entry = ShardEntry(task, _file_of(task), digest.hexdigest(), size, count, made or {}, sums)
        with explained_errors(self.folder, size * len(self.unfinished())):
            self._commit(entry, pieces)
        return self.entry(task)

    def _commit(self, entry: ShardEntry, pieces: list[bytes | memoryview]) -> None:
        path = self._shards / entry.file
        with written(path, pieces) as temporary, self.claims.committing():
            self.refresh()
            if not self.finished(entry.task):
                publish(temporary, path)
                self._manifest.add(entry)
                self._trusted[entry.task] = entry

    def rows(self, keys: Sequence[str] | np.ndarray) -> np.ndarray:
        """Rows of keys, (len(keys),) int64, in the order given.

        Raises:
            AgfasError: some keys are not in the store; the message says how many and names the first.
        """
        index = self._row_of_key
        found = np.fromiter((index.get(key, -1) for key in keys), dtype=np.int64, count=len(keys))
        absent = np.flatnonzero(found < 0)
        if len(absent):
            raise AgfasError(
                f"{len(absent)} of {len(keys)} keys are not in {self.folder}, the first being"
                f" {_some(keys, absent)}. The store was made for another dataset."
            )
        return found

    @cached_property
    def _row_of_key(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self.keys)}

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """Indices into `rows` whose shard is unfinished."""
        have = np.zeros(self.tasks, dtype=bool)
        have[list(self._trusted)] = True
        return np.flatnonzero(~have[np.asarray(rows) // self.shard_size])

    def view(self, task: int, name: str) -> CheckedRows:
        """A finished shard's array, mapped: rows are read, and compared with their checksums, when they are used.

        Raises:
            AgfasError: the task is unfinished, its file is damaged, or it holds no such array.
        """
        arrays = self._maps.get(task)
        if arrays is None:
            arrays = self._maps[task] = self._map(task)
        if name not in arrays:
            raise AgfasError(f"{self.folder} holds {', '.join(sorted(arrays))}, not '{name}'.")
        return arrays[name]

    def _map(self, task: int) -> dict[str, CheckedRows]:
        if task not in self._trusted:
            raise AgfasError(
                f"shard {task} of {self.folder} is not finished. Run the command that makes the store again."
            )
        entry = self._trusted[task]
        path = self._shards / entry.file
        # A shard of an earlier version has a checksum of the whole file alone: it is compared once in each process.
        if not entry.sums and not self._has_its_checksum(entry):
            raise Damaged(path, _ADVICE)
        try:
            return map_arrays(path, from_text(entry.sums) if entry.sums else None, _ADVICE)
        except (OSError, ValueError):
            raise Damaged(path, _ADVICE) from None

    def read(self, name: str, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Rows of one array, gathered in the order given: (len(rows), ...).

        Raises:
            IndexError: a row is outside the store.
            AgfasError: see `view`. A damaged shard is removed from the list, so that the next run makes it again.
        """
        wanted = np.asarray(rows, dtype=np.int64).reshape(-1)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self.keys):
            raise IndexError(f"rows must lie in 0 .. {len(self.keys) - 1}; got {wanted.min()} .. {wanted.max()}.")
        try:
            return self._gather(name, wanted)
        except Damaged as damage:
            if not self._is_made_again(damage.path):
                raise
            return self._gather(name, wanted)

    def _gather(self, name: str, wanted: np.ndarray) -> np.ndarray:
        tasks, offsets = np.divmod(wanted, self.shard_size)
        first = self.view(int(tasks[0]) if len(wanted) else min(self._trusted, default=0), name)
        gathered = np.empty((len(wanted), *first.shape[1:]), dtype=first.dtype)
        for task, places in _groups(tasks):
            gathered[places] = self.view(task, name)[offsets[places]]
        return gathered

    def _is_made_again(self, path: Path) -> bool:
        """Whether another process has replaced a damaged shard since it was opened; otherwise it is revoked."""
        task = int(path.stem)
        known = self._trusted.get(task)
        self._maps.pop(task, None)
        self.refresh()
        if self._trusted.get(task) not in (None, known):
            return True
        try:
            self.revoke(task)
        except AgfasError:
            raise AgfasError(
                f"{path} is not what was written (its checksum differs), and its store cannot be written. Remove that"
                " file where it can, then run the command that makes the store again."
            ) from None
        return False

    def revoke(self, task: int) -> None:
        """Remove a shard from the list, so that it is made again."""
        with explained_errors(self.folder), self.claims.committing():
            self._manifest.revoke(task)
        self.refresh()

    def verify_checksums(self, tasks: Sequence[int] | None = None) -> list[int]:
        """Read listed shards (default: all), revoke the damaged ones and return their numbers."""
        listed = self._manifest.entries
        chosen = [task for task in sorted(listed) if 0 <= task < self.tasks] if tasks is None else tasks
        broken = [task for task in chosen if task not in self._trusted or not self._has_its_checksum(listed[task])]
        for task in broken:
            self.revoke(task)
        return broken

    def _has_its_checksum(self, entry: ShardEntry) -> bool:
        try:
            return file_sha256(self._shards / entry.file) == entry.sha256
        except OSError:
            return False

    def status(self) -> StoreStatus:
        """Progress of the store, as of the last `refresh`."""
        entries = list(self._trusted.values())
        return StoreStatus(
            folder=self.folder,
            identity=self.identity,
            tasks=self.tasks,
            finished_tasks=len(entries),
            rows=len(self.keys),
            finished_rows=self.finished_rows,
            bytes=sum(entry.bytes for entry in entries),
            damaged=tuple(sorted(set(self._manifest.entries) - set(self._trusted))),
        )


@lru_cache(maxsize=1 << 16)
def _ends_hold(path: Path, sums: str, stamp: tuple[int, int, int]) -> bool:
    """Looked at once in a process while the file does not change."""
    try:
        return ends_hold(path, from_text(sums) if sums else None)
    except (OSError, ValueError):
        return False


def _file_of(task: int) -> str:
    return f"{task:05d}.safetensors"


def _groups(tasks: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Positions grouped by task, so that every shard is read once."""
    order = np.argsort(tasks, kind="stable")
    starts = np.flatnonzero(np.diff(tasks[order], prepend=-1))
    for places in np.split(order, starts[1:]):
        if len(places):
            yield int(tasks[places[0]]), places


def _some(keys: Sequence[str] | np.ndarray, positions: np.ndarray) -> str:
    return ", ".join(str(keys[int(position)]) for position in positions[:_NAMED_KEYS])

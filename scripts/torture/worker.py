"""The job under test: the cue job's own tasks and stores; random faces and restorations by arithmetic."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pipelines import files
from pipelines.cues.identity import store_identity
from pipelines.cues.shards import ShardStore
from pipelines.cues.store import cue_arrays
from pipelines.cues.tasks import run_tasks
from pipelines.errors import AgfasError

TIMESTEPS = (201, 801)
SIDE, SHARD_SIZE = 48, 4
FAILED = 3
"""Exit code of a process that ended with an `AgfasError`."""

_NOBODY = 65534
_APPEND = b'{"bytes":'


@dataclass(frozen=True)
class Orders:
    """What one process does.

    Attributes:
        root: folder of the stores.
        tasks: number of tasks of each store; the last one has one face less.
        rank, world_size: this process's number and the number of processes.
        die_in_call: the process kills itself before this durable call (the first is 1); 0: never.
        die_in_write: the same, counting writes alone.
        share: share of that call's bytes that are written before, if it is a write.
        room: bytes after which its writes raise ENOSPC; 0: no bound.
        as_nobody: gives up root's rights first, since no permission stops root.
        meet: folder where the processes wait for each other, each with its first task in hand; None: they do not wait.
    """

    root: Path
    tasks: int
    rank: int = 0
    world_size: int = 1
    die_in_call: int = 0
    die_in_write: int = 0
    share: float = 0.0
    room: int = 0
    as_nobody: bool = False
    meet: Path | None = None


def open_stores(root: Path, tasks: int) -> dict[int, ShardStore]:
    """The stores by t."""
    keys = [f"torture/s{i // 40:04d}/v{i // 4:05d}/{i:06d}" for i in range(tasks * SHARD_SIZE - 1)]
    sources = {t: {"name": "torture", "timestep": t} for t in TIMESTEPS}
    identities = {t: store_identity(source, "torture", (SIDE, SIDE)) for t, source in sources.items()}
    return {t: ShardStore.create_or_open(root, identity, keys, SHARD_SIZE) for t, identity in identities.items()}


def job(root: Path, tasks: int, rank: int = 0, world_size: int = 1, meet: Path | None = None) -> None:
    """Fill the stores; see `Orders`."""
    stores = open_stores(root, tasks)

    def make(task: int, timesteps: list[int]) -> Iterator[tuple[int, Callable[[], dict[str, np.ndarray]]]]:
        if meet is not None:
            _wait_for_the_others(meet, rank, world_size)
        rows = np.array(stores[timesteps[0]].task_rows(task))
        faces = np.random.default_rng(task).integers(0, 256, (len(rows), SIDE, SIDE, 3), dtype=np.uint8)
        for timestep in timesteps:
            restored = faces // 2 + np.uint8(timestep % 127)
            yield timestep, partial(cue_arrays, faces, restored)

    run_tasks(stores, make, rank=rank, world_size=world_size, made={"batch_size": SHARD_SIZE}, show_progress=False)


def _wait_for_the_others(meet: Path, rank: int, world_size: int) -> None:
    meet.mkdir(exist_ok=True)
    (meet / str(rank)).touch()
    while len(list(meet.iterdir())) < world_size:
        time.sleep(0.001)


class DurableCalls:
    """Replaces `os` in the module that makes files durable: records each call, and kills the process if ordered.

    Attributes:
        names: the calls so far: write, append (to the manifest), fsync, rename.
    """

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._writes = self._bytes = 0
        self.names: list[str] = []

    def install(self) -> None:
        """Replace `os` in the module that writes."""
        files.os = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """`os.write`."""
        self._writes += 1
        first = bytes(data[: len(_APPEND) + 1]).strip()
        self._enter("append" if first.startswith(_APPEND) else "write", descriptor, data)
        self._bytes += len(data)
        if 0 < self._orders.room < self._bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        """`os.fsync`."""
        self._enter("fsync")
        os.fsync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """`os.replace`."""
        self._enter("rename")
        os.replace(source, target)

    def _enter(self, name: str, descriptor: int = -1, data: bytes | memoryview = b"") -> None:
        self.names.append(name)
        in_write = bool(data) and self._writes == self._orders.die_in_write
        if in_write or len(self.names) == self._orders.die_in_call:
            if data:
                os.write(descriptor, bytes(data)[: int(self._orders.share * len(data))])
            os.kill(os.getpid(), signal.SIGKILL)


def process(orders: Orders, reply: Connection | None = None) -> None:
    """Carry out orders; answers with the names of the durable calls, or with the job's error message."""
    # tqdm's default lock is a semaphore of the system, which a killed process would leave behind.
    tqdm.set_lock(threading.RLock())
    calls = DurableCalls(orders)
    calls.install()
    root = _without_rights(orders.root) if orders.as_nobody else orders.root
    try:
        job(root, orders.tasks, orders.rank, orders.world_size, orders.meet)
    except AgfasError as error:
        if reply:
            reply.send(str(error))
        sys.exit(FAILED)
    if reply:
        reply.send(calls.names)


def _without_rights(root: Path) -> Path:
    # A relative path works even if `nobody` may not enter a folder above.
    os.chdir(root)
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
    return Path()

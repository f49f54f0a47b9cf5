"""A job killed at any moment loses at most the shards in flight, and never trusts a broken one.

The killed job is this file run as a script. It imports numpy alone, so that it starts in a tenth of a second.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from pipelines.cues.shards import ShardStore
from pipelines.cues.tasks import run_tasks
from pipelines.fingerprint import fingerprint

IDENTITY = {"source": "killed"}
SHARD = 4
REPOSITORY = Path(__file__).parents[2]


def job(root, tasks, rank=0, world_size=1, on_task=lambda: None):
    """Fill a store with pictures that follow from the task's number."""
    keys = [f"{i:06d}" for i in range(tasks * SHARD - 1)]
    store = ShardStore.create_or_open(root, IDENTITY, keys, SHARD)

    def make(task, names):
        on_task()
        rows = np.array(store.task_rows(task))
        picture = np.random.default_rng(task).integers(0, 256, (len(rows), 48, 48, 3), dtype=np.uint8)
        yield names[0], {"picture": picture, "row": rows.astype(np.float32)}

    run_tasks({0: store}, make, rank=rank, world_size=world_size, show_progress=False)


class DurableCalls:
    """Counts the calls that make a file durable; at number `stop_at` the process kills itself.

    A write is killed after half of its bytes.
    """

    def __init__(self, stop_at):
        self.stop_at, self.count = stop_at, 0
        self.write = os.write
        os.write, os.fsync, os.replace = map(self.counted, (os.write, os.fsync, os.replace))

    def counted(self, operation):
        def call(*arguments):
            self.count += 1
            if self.count == self.stop_at:
                if operation is self.write:
                    self.write(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*arguments)

        return call


def start(root, tasks, rank=0, world_size=1, stop_at=0):
    arguments = [str(value) for value in (root, tasks, rank, world_size, stop_at)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def folder_of(root):
    return root / fingerprint(IDENTITY)


def shard_bytes(root):
    return {path.name: path.read_bytes() for path in sorted((folder_of(root) / "shards").iterdir())}


def check_trusted(root, clean):
    """Every trusted shard has the clean run's bytes; returns how many there are."""
    if not (folder_of(root) / "store.json").is_file():
        return 0
    store = ShardStore.open(folder_of(root))
    trusted = [task for task in range(store.tasks) if store.finished(task)]
    for task in trusted:
        name = store.entry(task).file
        assert (store.folder / "shards" / name).read_bytes() == clean[name]
    return len(trusted)


def test_killed_at_every_single_step(tmp_path):
    tasks = 2
    child = start(tmp_path / "clean", tasks, stop_at=10**6)
    calls = int(child.communicate(timeout=60)[0].split()[-1])
    clean = shard_bytes(tmp_path / "clean")
    # Keys and description: a write, two fsyncs and a rename each. A shard: the same with three writes, then a
    # write and an fsync for its line in the manifest.
    assert calls == 2 * 4 + tasks * 8
    for stop_at in range(1, calls + 1):
        root = tmp_path / str(stop_at)
        assert start(root, tasks, stop_at=stop_at).wait(timeout=60) == -signal.SIGKILL
        assert check_trusted(root, clean) <= tasks
        job(root, tasks)
        assert shard_bytes(root) == clean
        assert check_trusted(root, clean) == tasks


def test_killed_twenty_times_at_random_over_two_processes(tmp_path):
    tasks, moments = 800, random.Random(0)
    job(tmp_path / "clean", tasks)
    clean, root = shard_bytes(tmp_path / "clean"), tmp_path / "killed"
    done, killed = 0, 0
    for _ in range(20):
        children = [start(root, tasks, rank, 2) for rank in (0, 1)]
        for child in children:
            child.stdout.readline()  # the first task has begun, or there was none
        time.sleep(moments.uniform(0, 0.04))
        for child in children:
            child.kill()
        killed += sum(child.wait() == -signal.SIGKILL for child in children)
        now = check_trusted(root, clean)
        assert now >= done  # nothing that was finished is lost
        done = now
    assert killed >= 20
    assert done > 0
    job(root, tasks)
    assert shard_bytes(root) == clean
    assert check_trusted(root, clean) == tasks


def test_two_processes_share_the_work_and_give_the_same_bytes(tmp_path):
    tasks = 40
    job(tmp_path / "one", tasks)
    children = [start(tmp_path / "two", tasks, rank, 2) for rank in (0, 1)]
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    assert shard_bytes(tmp_path / "two") == shard_bytes(tmp_path / "one")
    lines = (folder_of(tmp_path / "two") / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == tasks  # no task was listed twice


def test_a_process_that_never_comes_is_replaced(tmp_path):
    job(tmp_path, 6, rank=1, world_size=3)
    store = ShardStore.open(folder_of(tmp_path))
    assert store.unfinished() == []
    np.testing.assert_array_equal(store.read("row", [22, 0]), [22, 0])


if __name__ == "__main__":
    tasks, rank, world_size, stop_at = map(int, sys.argv[2:])
    counter = DurableCalls(stop_at)
    job(Path(sys.argv[1]), tasks, rank, world_size, on_task=lambda: print("task", flush=True))
    print(counter.count)

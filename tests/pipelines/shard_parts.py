"""A small shard store whose rows follow from their numbers."""

from __future__ import annotations

import numpy as np

from pipelines.cues.shards import ShardStore

KEYS = [f"d/s{i // 4}/v{i // 2}/{i:03d}" for i in range(22)]


IDENTITY = {"source": "test", "t": 401}


def arrays_of(rows):
    """Rows made from their numbers alone."""
    rows = np.asarray(rows)
    picture = (rows[:, None, None, None] * 7 + np.arange(48).reshape(4, 4, 3)) % 251
    return {"picture": picture.astype(np.uint8), "mean": rows.astype(np.float32) / 3}


def new_store(root, shard_size=5):
    return ShardStore.create_or_open(root, IDENTITY, KEYS, shard_size)


def filled_store(root, shard_size=5):
    store = new_store(root, shard_size)
    for task in store.unfinished():
        store.write(task, arrays_of(store.task_rows(task)))
    return store


def shard_bytes(folder):
    return {path.name: path.read_bytes() for path in (folder / "shards").iterdir()}

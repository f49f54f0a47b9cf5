"""Small cue stores to export, and the files of a folder by their hashes."""

from __future__ import annotations

import numpy as np

from pipelines.cues.identity import store_identity
from pipelines.cues.shards import ShardStore
from pipelines.cues.store import cue_arrays
from pipelines.fingerprint import file_sha256

KEYS = [f"cam/s{i // 4}/v{i // 2}/{i:03d}-é" for i in range(11)]
FACES, RESTORED = np.random.default_rng(0).integers(0, 256, (2, len(KEYS), 6, 8, 3), dtype=np.uint8)


def new_store(root, timestep=201, keys=KEYS, shard_size=4):
    identity = store_identity({"name": "dfg", "timestep": timestep}, "faces", (6, 8))
    return ShardStore.create_or_open(root, identity, keys, shard_size)


def filled_store(root, **options):
    return filled(new_store(root, **options))


def filled(store):
    for task in store.unfinished():
        rows = list(store.task_rows(task))
        store.write(task, cue_arrays(FACES[rows], RESTORED[rows]), {"batch_size": 2})
    return store


def files_of(folder):
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in folder.rglob("*") if path.is_file()}

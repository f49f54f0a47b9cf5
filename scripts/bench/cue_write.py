"""Durable cues a second at 256 pixels: shards of the cue store against one PNG with fsync per cue.

Both start from the restored pictures in memory and end when they would survive a power cut; the store computes its
checksums and each residual's mean and deviation besides.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.cues.shards import ShardStore
from pipelines.cues.store import CueStore, cue_arrays, cue_identity
from pipelines.files import sync_folder
from scripts.bench.loader import _pictures as smooth_pictures
from scripts.bench.turns import in_turns

_PLAIN, _OURS = "PNG + fsync", "cue store"


def cue_write_benchmark(
    count: int = 1024, size: int = 256, shard_size: int = 256, repeats: int = 5
) -> list[dict[str, Any]]:
    """Time writing `count` cues, the two in turns, each into a new folder.

    Returns:
        A row per contender: median cues a second, ratio to PNG, and whether what is read back equals what was made.
    """
    images, restored = smooth_pictures(count, size), smooth_pictures(count, size, seed=1)
    writers = {
        _PLAIN: lambda root: _write_png(root, restored),
        _OURS: lambda root: _write_store(root, images, restored, shard_size),
    }
    readers = {_PLAIN: _read_png, _OURS: _read_store}
    seconds: dict[str, list[float]] = {name: [] for name in writers}
    equal = dict.fromkeys(writers, True)
    for name in in_turns(writers, repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            writers[name](Path(folder))
            seconds[name].append(time.perf_counter() - start)
            equal[name] &= np.array_equal(readers[name](Path(folder), count), restored)
    rates = {name: count / statistics.median(runs) for name, runs in seconds.items()}
    return [
        {
            "benchmark": "cue-write",
            "contender": name,
            "cues_per_second": round(rate, 1),
            "times_plain": round(rate / rates[_PLAIN], 2),
            "read_back_equal": equal[name],
            "cues": count,
            "repeats": repeats,
        }
        for name, rate in rates.items()
    ]


def _write_png(root: Path, restored: np.ndarray) -> None:
    for place, picture in enumerate(restored):
        with (root / f"{place:06d}.png").open("wb") as stream:
            Image.fromarray(picture).save(stream, "PNG")
            stream.flush()
            os.fsync(stream.fileno())
    sync_folder(root)


def _read_png(root: Path, count: int) -> np.ndarray:
    return np.stack([np.asarray(Image.open(root / f"{place:06d}.png")) for place in range(count)])


def _write_store(root: Path, images: np.ndarray, restored: np.ndarray, shard_size: int) -> None:
    keys = [f"bench/s{place:05d}/v{place:05d}/000" for place in range(len(images))]
    identity = cue_identity({"name": "benchmark"}, "benchmark", images.shape[1:3])
    store = ShardStore.create_or_open(root, identity, keys, shard_size)
    for task in store.unfinished():
        rows = store.task_rows(task)
        store.write(task, cue_arrays(images[rows.start : rows.stop], restored[rows.start : rows.stop]))


def _read_store(root: Path, count: int) -> np.ndarray:
    store = CueStore.open(next(root.glob("*/store.json")).parent)
    return store.reconstructions(list(range(count)))

"""A finished job of 200,000 cues looked at again: ours against checking that each cue's file exists.

The pictures are tiny, since their size does not enter: neither side opens them.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.cues.faces import ArrayFaces
from pipelines.cues.job import run_cue_job
from pipelines.cues.shards import ShardStore
from pipelines.cues.store import cue_arrays, cue_identity
from scripts.bench.turns import in_turns

_SIDE, _PLAIN = 4, "one file per cue"


class _Unused:
    """A source that is never asked, since everything is finished."""

    def fingerprint(self) -> dict[str, Any]:
        return {"name": "benchmark"}

    def __call__(self, image: Any, keys: Any) -> Any:
        raise AssertionError("a finished job made something")


def resume_benchmark(count: int = 200_000, shard_size: int = 256, repeats: int = 5) -> list[dict[str, Any]]:
    """Time finding `count` cues finished, the contenders in turns.

    Returns:
        A row per contender: median seconds, and how many times the plain one's speed; the gate is that each finds
        all of them finished.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        faces, store = _filled(root / "cues", count, shard_size)
        files = _files(root / "files", count)
        identity, keys = store.identity, sorted(faces.keys)
        contenders: dict[str, Callable[[], int]] = {
            _PLAIN: lambda: sum(map(os.path.exists, files)),
            "cue store": lambda: _look(root / "cues", identity, keys),
            "cue job": lambda: _run(root / "cues", faces),
        }
        return _race(contenders, count, repeats)


def _race(contenders: dict[str, Callable[[], int]], count: int, repeats: int) -> list[dict[str, Any]]:
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    found = {name: look() for name, look in contenders.items()}
    for name in in_turns(contenders, repeats):
        start = time.perf_counter()
        contenders[name]()
        seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(runs) for name, runs in seconds.items()}
    return [
        {
            "benchmark": "resume",
            "contender": name,
            "seconds": round(median, 4),
            "times_plain": round(medians[_PLAIN] / median, 2),
            "cues": count,
            "all_found_finished": found[name] == count,
            "repeats": repeats,
        }
        for name, median in medians.items()
    ]


def _filled(root: Path, count: int, shard_size: int) -> tuple[ArrayFaces, ShardStore]:
    """Faces in no order, and their finished store."""
    keys = [f"bench/s{place // 200:05d}/v{place // 10:06d}/{place:06d}" for place in range(count)]
    order = np.random.default_rng(0).permutation(count)
    pictures = np.zeros((count, _SIDE, _SIDE, 3), dtype=np.uint8)
    identity = cue_identity(_Unused().fingerprint(), "benchmark", (_SIDE, _SIDE))
    store = ShardStore.create_or_open(root, identity, keys, shard_size)
    for task in store.unfinished():
        rows = list(store.task_rows(task))
        store.write(task, cue_arrays(pictures[rows], pictures[rows]))
    return ArrayFaces([keys[place] for place in order], pictures), store


def _files(root: Path, count: int) -> list[str]:
    """As many files as there are cues, a thousand to a folder."""
    files = [root / f"{place // 1000:04d}" / f"{place:06d}.png" for place in range(count)]
    for folder in sorted({path.parent for path in files}):
        folder.mkdir(parents=True)
    for path in files:
        path.touch()
    return [str(path) for path in files]


def _look(root: Path, identity: dict[str, Any], keys: list[str]) -> int:
    store = ShardStore.create_or_open(root, identity, keys, 256)
    return len(store) if not store.unfinished() else 0


def _run(root: Path, faces: ArrayFaces) -> int:
    # The job returns once everything is finished, and the source raises if anything is not.
    run_cue_job(faces, _Unused(), root, dataset_fingerprint="benchmark", show_progress=False)
    return len(faces.keys)

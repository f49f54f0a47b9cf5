"""Augmented batches of faces and cues, as a detector's training reads them: what a shift costs, worker processes."""

from __future__ import annotations

import resource
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from oanet.batch import FaceBatch
from pipelines.cues.reader import CueReader
from pipelines.data.faces import Faces
from pipelines.memory import keep_freed_memory
from pipelines.streams import stream
from pipelines.training.balanced import BalancedBatches
from pipelines.training.loader import batches_ahead
from scripts.bench.cue_store import map_store, smooth_pictures
from scripts.bench.turns import race

_STILL, _INDEXED, _SHIFT = "no shift", "shift, pixels gathered by index", "shift"
_SHIFTED_BY = 8


def workers_benchmark(
    count: int = 240, size: int = 256, per_cell: int = 8, steps: int = 64, repeats: int = 3
) -> list[dict[str, Any]]:
    """Time batches of mirrored and shifted faces with their cues, made on one thread or by worker processes.

    Args:
        count: faces of three domains with their restorations.
        size: their side in pixels.
        per_cell: faces of each domain and label in a batch.
        steps: batches of a run, the start of the workers included.
        repeats: runs of each contender.

    Returns:
        A row per contender: median faces a second and a second of processor time, the ratio to no worker, and whether
        its last batch equals that of pixels gathered by index.
    """
    keep_freed_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        faces, reader = _faces(Path(folder), count, size)
        still, shifted = (
            BalancedBatches(faces, np.arange(count), ["a", "b", "c"], reader, per_cell, 0, shift=shift)
            for shift in (0, _SHIFTED_BY)
        )
        runs = {
            _STILL: partial(_run, still, steps, 0),
            _INDEXED: partial(_run, _ByIndex(faces, reader, count, per_cell), steps, 0),
            _SHIFT: partial(_run, shifted, steps, 0),
            **{f"{_SHIFT}, {number} workers": partial(_run, shifted, steps, number) for number in (1, 2)},
        }
        timings = race(runs, repeats, measured=lambda result: result[0])
    torch.set_num_threads(threads)
    made = steps * still.size
    wanted = timings.results[_INDEXED][0][2]
    return [
        {
            "benchmark": "loader-workers",
            "contender": name,
            "faces_per_second": made / seconds,
            "faces_per_processor_second": made / median(result[1] for result in timings.results[name]),
            "ratio": timings.medians[_SHIFT] / seconds,
            "equal": "" if name == _STILL else all(_equal(result[2], wanted) for result in timings.results[name]),
            "faces": made,
            "repeats": repeats,
        }
        for name, seconds in timings.medians.items()
    ]


def _run(batches: Any, steps: int, workers: int) -> tuple[float, float, FaceBatch]:
    """Seconds, processor seconds of this process and its workers, and the last batch."""
    start, before = time.perf_counter(), _processor_seconds()
    rows = slice(0, batches.size)
    with closing(batches_ahead(lambda step: batches(step, rows), range(steps), torch.device("cpu"), workers)) as ahead:
        for batch in ahead:
            last = batch
    return time.perf_counter() - start, _processor_seconds() - before, last


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class _ByIndex:
    """The same batches, each pixel of a shifted one looked up by its place."""

    def __init__(self, faces: Faces, reader: CueReader, count: int, per_cell: int) -> None:
        self.batches = BalancedBatches(faces, np.arange(count), ["a", "b", "c"], reader, per_cell, 0)
        self.size = self.batches.size

    def __call__(self, step: int, rows: slice) -> FaceBatch:
        draws = stream(0, "augment", step, 0)
        draws.random((2, self.size))
        offsets = draws.integers(-_SHIFTED_BY, _SHIFTED_BY + 1, (self.size, 2))[rows]
        batch = self.batches(step, rows)
        assert batch.cue is not None
        batch.image, batch.cue = moved_by_index(batch.image, offsets), moved_by_index(batch.cue, offsets)
        return batch


def moved_by_index(image: torch.Tensor, offsets: np.ndarray) -> torch.Tensor:
    """Shift each image of (B, C, H, W) by its (rows, columns) of `offsets` (B, 2) int, repeating the edge."""
    height, width = image.shape[-2:]
    row = (torch.arange(height)[None] + torch.from_numpy(offsets[:, :1])).clamp(0, height - 1)
    column = (torch.arange(width)[None] + torch.from_numpy(offsets[:, 1:])).clamp(0, width - 1)
    which = torch.arange(len(image))[:, None, None]
    return image.permute(0, 2, 3, 1)[which, row[:, :, None], column[:, None, :]].permute(0, 3, 1, 2)


def _equal(one: FaceBatch, other: FaceBatch) -> bool:
    assert one.cue is not None
    assert other.cue is not None
    return one.key == other.key and torch.equal(one.image, other.image) and torch.equal(one.cue, other.cue)


def _faces(folder: Path, count: int, size: int) -> tuple[Faces, CueReader]:
    images, restored = smooth_pictures(count, size), smooth_pictures(count, size, seed=1)
    reader, mapped = map_store(folder, images, restored)
    number, words = np.arange(count), np.full(count, "one", dtype=object)
    columns = {"subjects": words, "videos": words, "attack_types": words, "splits": words}
    domains = np.array(["a", "b", "c"], dtype=object)[number // 2 % 3]
    keys = np.array(reader.keys, dtype=object)
    faces = Faces(keys, number % 2, domains, images=mapped, fingerprint="benchmark", folder=folder, **columns)
    return faces, reader

"""Pairs of face and cue a second: ours against the plain dataset of two PNG files per face.

Both give the detector the same float32 batch of faces and z-scored residual cues, flipped together, in a shuffled
order; the gate is that they are equal. The plain one opens two PNG files per face, as public code does.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from oanet.cue import form_cue
from pipelines.cues.reader import CueReader
from pipelines.cues.shards import ShardStore
from pipelines.cues.store import CueStore, cue_arrays, cue_identity
from pipelines.pixels import to_unit_batch
from pipelines.streams import stream
from scripts.bench.turns import in_turns

Batch = tuple[torch.Tensor, torch.Tensor]


def loader_benchmark(
    count: int = 1024, size: int = 256, batch_size: int = 32, repeats: int = 6
) -> list[dict[str, Any]]:
    """Time one shuffled pass over `count` pairs, the two in turns.

    Returns:
        A row per contender: median pairs a second, ratio to the plain dataset, greatest difference of a value.
    """
    with tempfile.TemporaryDirectory() as folder:
        images, restored = _pictures(count, size), _pictures(count, size, seed=1)
        root = Path(folder)
        names = _write_png(root, images, restored)
        reader, mapped = _our_reader(root, images, restored)
        order = stream(0, "loader").permutation(count)
        flips = stream(0, "loader-flips").random(count) < 0.5
        contenders: dict[str, Callable[[np.ndarray], Batch]] = {
            "two PNG files per face": lambda rows: _plain_batch(names, rows, flips),
            "cue store": lambda rows: _our_batch(reader, mapped, rows, flips),
        }
        return _race(contenders, order, batch_size, repeats)


def _race(
    contenders: dict[str, Callable[[np.ndarray], Batch]], order: np.ndarray, batch_size: int, repeats: int
) -> list[dict[str, Any]]:
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    first = order[:batch_size]
    batches = {name: make(first) for name, make in contenders.items()}
    plain, ours = batches.values()
    difference = max(float((a - b).abs().max()) for a, b in zip(plain, ours, strict=True))
    for name in in_turns(contenders, repeats):
        start = time.perf_counter()
        for place in range(0, len(order), batch_size):
            contenders[name](order[place : place + batch_size])
        seconds[name].append(time.perf_counter() - start)
    rates = {name: len(order) / statistics.median(runs) for name, runs in seconds.items()}
    slow = rates["two PNG files per face"]
    return [
        {
            "benchmark": "loader",
            "contender": name,
            "pairs_per_second": round(rate, 1),
            "times_plain": round(rate / slow, 2),
            "largest_difference": difference,
            "repeats": repeats,
        }
        for name, rate in rates.items()
    ]


def _pictures(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Smooth pictures with a little noise, which compress about as faces do."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (count, 8, 8, 3), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(face).resize((size, size), Image.Resampling.BICUBIC)) for face in coarse]
    noise = rng.integers(-6, 7, (count, size, size, 1))
    return np.clip(np.stack(large).astype(np.int16) + noise, 0, 255).astype(np.uint8)


def _write_png(root: Path, images: np.ndarray, restored: np.ndarray) -> list[tuple[Path, Path]]:
    names = []
    for place, (image, other) in enumerate(zip(images, restored, strict=True)):
        pair = (root / f"{place}-face.png", root / f"{place}-rec.png")
        Image.fromarray(image).save(pair[0])
        Image.fromarray(other).save(pair[1])
        names.append(pair)
    return names


def _our_reader(root: Path, images: np.ndarray, restored: np.ndarray) -> tuple[CueReader, np.ndarray]:
    keys = [f"bench/s{place:05d}/v{place:05d}/000" for place in range(len(images))]
    identity = cue_identity({"name": "benchmark"}, "benchmark", images.shape[1:3])
    store = ShardStore.create_or_open(root, identity, keys, 128)
    for task in store.unfinished():
        rows = list(store.task_rows(task))
        store.write(task, cue_arrays(images[rows], restored[rows]))
    np.save(root / "pixels.npy", images)
    mapped = np.load(root / "pixels.npy", mmap_mode="r")
    videos = [key.rsplit("/", 1)[0] for key in keys]
    return CueReader("dfg", keys, videos, mapped, CueStore.open(store.folder).join(keys)), mapped


def _our_batch(reader: CueReader, mapped: np.ndarray, rows: np.ndarray, flips: np.ndarray) -> Batch:
    return to_unit_batch(mapped[rows], flips[rows]), reader.batch(rows, flips[rows], flips[rows])


def _plain_batch(names: list[tuple[Path, Path]], rows: np.ndarray, flips: np.ndarray) -> Batch:
    faces, cues = [], []
    for row in rows:
        face, other = (_plain_picture(path, bool(flips[row])) for path in names[row])
        faces.append(face)
        cues.append(form_cue(face[None], other[None])[0])
    return torch.stack(faces), torch.stack(cues)


def _plain_picture(path: Path, flip: bool) -> torch.Tensor:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    if flip:
        pixels = pixels[:, ::-1]
    return (torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255 - 0.5) / 0.5

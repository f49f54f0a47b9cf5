"""The cue store against plain files: cues written, pairs read and a finished job looked at, per second."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from oanet.cue import form_cue
from pipelines.cues.faces import ArrayFaces
from pipelines.cues.identity import store_identity
from pipelines.cues.job import CueJob
from pipelines.cues.reader import CueReader
from pipelines.cues.shards import ShardStore
from pipelines.cues.store import CueStore, cue_arrays
from pipelines.files import sync_folder
from pipelines.pixels import to_unit_batch
from pipelines.streams import stream
from scripts.bench.turns import race

# Contenders; the first three are the plain ones.
_PNG_SYNCED, _PNG_PAIR, _FILE = "PNG + fsync", "two PNG files per face", "one file per cue"
_STORE, _JOB = "cue store", "cue job"
_RESUMED_SIDE = 4

Batch = tuple[torch.Tensor, torch.Tensor]


def write_benchmark(
    count: int = 1024, size: int = 256, shard_size: int = 256, repeats: int = 5
) -> list[dict[str, Any]]:
    """Time writing `count` durable cues: shards of the cue store against one PNG with fsync per cue.

    Both start from restored pictures in memory and end when the cues would survive a power cut. The store also computes
    its checksums and the mean and standard deviation of each residual.

    Returns:
        A row per contender: median cues a second, ratio to PNG, and whether what is read back equals what was written.
    """
    images, restored = smooth_pictures(count, size), smooth_pictures(count, size, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        places = {name: Path(folder) / name for name in (_PNG_SYNCED, _STORE)}

        def empty(name: str) -> None:
            shutil.rmtree(places[name], ignore_errors=True)
            places[name].mkdir()

        writers: dict[str, Callable[[], Any]] = {
            _PNG_SYNCED: lambda: _write_png(places[_PNG_SYNCED], restored),
            _STORE: lambda: fill_store(places[_STORE], keys_of(count), images, restored, shard_size),
        }
        timings = race(writers, repeats, before=empty)
        read_back = {
            _PNG_SYNCED: np.stack([np.asarray(Image.open(path)) for path in sorted(places[_PNG_SYNCED].iterdir())]),
            _STORE: CueStore.open(timings.results[_STORE][-1].folder).reconstructions(range(count)),
        }
    medians = timings.medians
    return [
        {
            "benchmark": "cue-write",
            "contender": name,
            "cues_per_second": round(count / median, 1),
            "times_plain": round(medians[_PNG_SYNCED] / median, 2),
            "read_back_equal": np.array_equal(read_back[name], restored),
            "cues": count,
            "repeats": repeats,
        }
        for name, median in medians.items()
    ]


def loader_benchmark(
    count: int = 1024, size: int = 256, batch_size: int = 32, repeats: int = 6
) -> list[dict[str, Any]]:
    """Time one shuffled pass over `count` pairs of face and cue: the cue store against two PNG files per face.

    Both give the detector the same float32 batch of faces and z-scored residual cues, flipped together. The plain one
    opens two PNG files per face, as public code does.

    Returns:
        A row per contender: median pairs a second, ratio to the plain dataset, and the greatest difference of a value,
        which is the gate.
    """
    with tempfile.TemporaryDirectory() as folder:
        images, restored = smooth_pictures(count, size), smooth_pictures(count, size, seed=1)
        root = Path(folder)
        pairs = _write_pairs(root, images, restored)
        reader, mapped = map_store(root, images, restored)
        order = stream(0, "loader").permutation(count)
        flips = stream(0, "loader-flips").random(count) < 0.5
        loaders: dict[str, Callable[[np.ndarray], Batch]] = {
            _PNG_PAIR: lambda rows: _plain_batch(pairs, rows, flips),
            _STORE: lambda rows: (
                to_unit_batch(mapped[rows], flips[rows]),
                reader.batch(rows, flips[rows], flips[rows]),
            ),
        }
        plain, ours = (load(order[:batch_size]) for load in loaders.values())
        difference = max(float((a - b).abs().max()) for a, b in zip(plain, ours, strict=True))
        passes = {name: partial(_read_all, load, order, batch_size) for name, load in loaders.items()}
        medians = race(passes, repeats).medians
    return [
        {
            "benchmark": "loader",
            "contender": name,
            "pairs_per_second": round(count / median, 1),
            "times_plain": round(medians[_PNG_PAIR] / median, 2),
            "largest_difference": difference,
            "repeats": repeats,
        }
        for name, median in medians.items()
    ]


def resume_benchmark(count: int = 200_000, shard_size: int = 256, repeats: int = 5) -> list[dict[str, Any]]:
    """Time finding `count` cues finished: the store and the whole job against checking that each cue's file exists.

    The pictures are tiny, since their size does not matter: neither side opens them.

    Returns:
        A row per contender: median seconds, and how many times the plain one's speed; the gate is that each finds
        all of them finished.
    """
    keys = [f"bench/s{place // 200:05d}/v{place // 10:06d}/{place:06d}" for place in range(count)]
    pictures = np.zeros((count, _RESUMED_SIDE, _RESUMED_SIDE, 3), dtype=np.uint8)
    faces = ArrayFaces([keys[place] for place in np.random.default_rng(0).permutation(count)], pictures)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = fill_store(root / "cues", keys, pictures, pictures, shard_size)
        files = _touch_files(root / "files", count)
        contenders: dict[str, Callable[[], int]] = {
            _FILE: lambda: sum(map(os.path.exists, files)),
            _STORE: lambda: _look(root / "cues", store.identity, keys, shard_size),
            _JOB: lambda: _run_again(root / "cues", faces),
        }
        timings = race(contenders, repeats, warm=True)
    medians = timings.medians
    return [
        {
            "benchmark": "resume",
            "contender": name,
            "seconds": round(median, 4),
            "times_plain": round(medians[_FILE] / median, 2),
            "cues": count,
            "all_found_finished": all(found == count for found in timings.results[name]),
            "repeats": repeats,
        }
        for name, median in medians.items()
    ]


class _Unused:
    """A source that is never called, since everything is finished."""

    def fingerprint(self) -> dict[str, Any]:
        return {"name": "benchmark"}

    def __call__(self, image: Any, keys: Any) -> Any:
        raise AssertionError("a finished job made something")


def keys_of(count: int) -> list[str]:
    """A subject and a video for each face."""
    return [f"bench/s{place:05d}/v{place:05d}/000" for place in range(count)]


def smooth_pictures(count: int, size: int, seed: int = 0) -> np.ndarray:
    """(count, size, size, 3) uint8: smooth with a little noise, which compresses about as faces do."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (count, 8, 8, 3), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(face).resize((size, size), Image.Resampling.BICUBIC)) for face in coarse]
    noise = rng.integers(-6, 7, (count, size, size, 1))
    return np.clip(np.stack(large).astype(np.int16) + noise, 0, 255).astype(np.uint8)


def fill_store(root: Path, keys: list[str], images: np.ndarray, restored: np.ndarray, shard_size: int) -> ShardStore:
    """A finished store of the restorations, the rows of both arrays in the order of `keys`."""
    identity = store_identity(_Unused().fingerprint(), "benchmark", (images.shape[1], images.shape[2]))
    store = ShardStore.create_or_open(root, identity, keys, shard_size)
    for task in store.unfinished():
        rows = store.task_rows(task)
        store.write(task, cue_arrays(images[rows.start : rows.stop], restored[rows.start : rows.stop]))
    return store


def _write_png(folder: Path, restored: np.ndarray) -> None:
    for place, picture in enumerate(restored):
        with (folder / f"{place:06d}.png").open("wb") as file:
            Image.fromarray(picture).save(file, "PNG")
            file.flush()
            os.fsync(file.fileno())
    sync_folder(folder)


def _write_pairs(root: Path, images: np.ndarray, restored: np.ndarray) -> list[tuple[Path, Path]]:
    pairs = []
    for place, pictures in enumerate(zip(images, restored, strict=True)):
        pairs.append((root / f"{place}-face.png", root / f"{place}-restored.png"))
        for picture, path in zip(pictures, pairs[-1], strict=True):
            Image.fromarray(picture).save(path)
    return pairs


def map_store(root: Path, images: np.ndarray, restored: np.ndarray) -> tuple[CueReader, np.ndarray]:
    """A reader of the cues of a finished store, and the faces' pixels, mapped."""
    keys = keys_of(len(images))
    store = fill_store(root, keys, images, restored, shard_size=128)
    np.save(root / "pixels.npy", images)
    mapped = np.load(root / "pixels.npy", mmap_mode="r")
    videos = [key.rsplit("/", 1)[0] for key in keys]
    return CueReader("dfg", keys, videos, mapped, CueStore.open(store.folder).join(keys)), mapped


def _read_all(load: Callable[[np.ndarray], Batch], order: np.ndarray, batch_size: int) -> None:
    for place in range(0, len(order), batch_size):
        load(order[place : place + batch_size])


def _plain_batch(pairs: list[tuple[Path, Path]], rows: np.ndarray, flips: np.ndarray) -> Batch:
    faces, cues = [], []
    for row in rows:
        face, restored = (_plain_picture(path, bool(flips[row])) for path in pairs[row])
        faces.append(face)
        cues.append(form_cue(face[None], restored[None])[0])
    return torch.stack(faces), torch.stack(cues)


def _plain_picture(path: Path, flip: bool) -> torch.Tensor:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    if flip:
        pixels = pixels[:, ::-1]
    return (torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255 - 0.5) / 0.5


def _touch_files(root: Path, count: int) -> list[str]:
    """A file per cue, a thousand to a folder."""
    files = [root / f"{place // 1000:04d}" / f"{place:06d}.png" for place in range(count)]
    for folder in sorted({path.parent for path in files}):
        folder.mkdir(parents=True)
    for path in files:
        path.touch()
    return [str(path) for path in files]


def _look(root: Path, identity: dict[str, Any], keys: list[str], shard_size: int) -> int:
    store = ShardStore.create_or_open(root, identity, keys, shard_size)
    return len(store) if not store.unfinished() else 0


def _run_again(root: Path, faces: ArrayFaces) -> int:
    # The job returns once everything is finished, and the source raises if anything is not.
    CueJob.open(faces, _Unused(), root, dataset_fingerprint="benchmark").run(show_progress=False)
    return len(faces.keys)

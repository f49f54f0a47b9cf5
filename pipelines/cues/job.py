"""The job that fills cue stores: any faces, any source, several t at once, any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from pipelines.cues.background import one_ahead
from pipelines.cues.custom import CueSource
from pipelines.cues.faces import FaceImages, as_face_images
from pipelines.cues.identity import store_identity
from pipelines.cues.rounding import machine
from pipelines.cues.shards import ShardStore
from pipelines.cues.sources import CueSweep, as_sweep
from pipelines.cues.store import cue_arrays
from pipelines.cues.tasks import run_tasks
from pipelines.errors import AgfasError
from pipelines.pixels import to_uint8, to_unit_range


@dataclass(frozen=True)
class CueJob:
    """The job that makes every missing cue of some stores.

    An interrupted job resumes when it is started again; n processes share the work. Batches stay within shards and all
    have the same shape, so the bytes depend on neither. New shards hold whole batches, so that only the job's last
    batch is padded.

    Attributes:
        makers: one for each shard size of the stores, mostly one.
    """

    makers: list[CueMaker]

    @classmethod
    def open(
        cls,
        faces: Any,
        source: CueSource | CueSweep,
        root: Path,
        *,
        dataset_fingerprint: str,
        batch_size: int = 32,
        shard_size: int = 256,
    ) -> CueJob:
        """Open or create the stores.

        Args:
            faces: a face dataset, an opened `Faces`, or a `FaceImages`.
            source: one source, or a sweep over t.
            root: folder of stores; each is named by the fingerprint of what decides its bytes.
            dataset_fingerprint: of the faces' content.
            batch_size: faces restored at once. Another value may change single pixels by one grey level.
            shard_size: faces of one task, rounded to whole batches; a kill loses at most two tasks, the one being made
                and the one being written. An existing store keeps its own, and batches get smaller to fill it.

        Raises:
            AgfasError: invalid arguments, or a folder that cannot be written.
        """
        for name, value in (("batch_size", batch_size), ("shard_size", shard_size)):
            if value < 1:
                raise AgfasError(f"{name} must be at least 1, not {value}.")
        sweep = as_sweep(source)
        ordered = OrderedFaces.of(as_face_images(faces))
        size = ordered.image_size()
        stores = {}
        for timestep in sweep.timesteps:
            identity = store_identity(sweep.fingerprint(timestep), dataset_fingerprint, size)
            stores[timestep] = ShardStore.create_or_open(
                root, identity, ordered.keys, whole_batches(shard_size, batch_size)
            )
        groups = [(group, next(iter(group.values())).shard_size) for group in _of_equal_shards(stores)]
        return cls([CueMaker(ordered, sweep, group, filling(batch_size, shard)) for group, shard in groups])

    def run(self, **options: Any) -> dict[int, Path]:
        """Make every missing cue and return when the stores are complete.

        Args:
            options: `rank`, `world_size` and `show_progress` of `pipelines.cues.tasks.run_tasks`.

        Returns:
            The stores' folders by t; 0 for a source without t.

        Raises:
            AgfasError: a picture that cannot be read, values that are not finite, a full disk, or a folder that cannot
                be written. Nothing already made is lost.
        """
        for maker in self.makers:
            maker.run(**options)
        return self.folders

    @property
    def folders(self) -> dict[int, Path]:
        """The stores' folders by t."""
        return {timestep: store.folder for maker in self.makers for timestep, store in maker.stores.items()}


@dataclass(frozen=True)
class OrderedFaces:
    """Faces sorted by key, so that the order of the dataset has no effect.

    Attributes:
        faces: where the pictures come from.
        keys: sorted.
        positions: (N,) int64, of each key in `faces`.
    """

    faces: FaceImages
    keys: list[str]
    positions: np.ndarray

    @classmethod
    def of(cls, faces: FaceImages) -> OrderedFaces:
        """Sort faces by key.

        Raises:
            AgfasError: there is no face.
        """
        keys = list(map(str, faces.keys))
        if not keys:
            raise AgfasError("there is no face to make a cue of: the dataset is empty.")
        positions = sorted(range(len(keys)), key=keys.__getitem__)
        return cls(faces, [keys[position] for position in positions], np.array(positions, dtype=np.int64))

    def image_size(self) -> tuple[int, int]:
        """Height and width of the first face in pixels."""
        height, width = self.batch(range(1)).shape[1:3]
        return height, width

    def batch(self, rows: Sequence[int]) -> np.ndarray:
        """Pictures of some rows of the sorted order: (len(rows), H, W, 3) uint8."""
        return self.faces.batch(self.positions[np.asarray(rows)])


@runtime_checkable
class StagedSweep(Protocol):
    """A `CueSweep` that can encode and compute identity tokens one batch ahead, in a second thread.

    `restore(image, keys, timesteps)` must equal `restore_prepared(prepare(image, keys, timesteps), keys, timesteps)`.

    Attributes:
        prepares_ahead: whether it should; on a CPU it would compete with the loop for the cores.
    """

    prepares_ahead: bool

    def prepare(self, image: torch.Tensor, keys: Sequence[str], timesteps: Sequence[int]) -> Any:
        """What the loop needs of faces (B, 3, H, W) in [-1, 1]; called under `torch.no_grad`."""

    def restore_prepared(self, prepared: Any, keys: Sequence[str], timesteps: Sequence[int]) -> dict[int, torch.Tensor]:
        """The restored faces (B, 3, H, W) at each of `timesteps`."""


@dataclass(frozen=True)
class _Prepared:
    """One batch: pictures (n, H, W, 3) uint8, keys of the padded batch, and the function that restores it."""

    images: np.ndarray
    keys: list[str]
    timesteps: list[int]
    restore: Callable[[Sequence[str], Sequence[int]], dict[int, torch.Tensor]]


@dataclass(frozen=True)
class CueMaker:
    """Restores the faces of a task; pictures are read while the batch before is restored.

    Attributes:
        faces: in the stores' order.
        sweep: makes the restorations.
        stores: by t, of equal shard size.
        batch_size: shape of every batch; one that a task does not fill is padded with its last face.
    """

    faces: OrderedFaces
    sweep: CueSweep
    stores: dict[int, ShardStore]
    batch_size: int

    def run(self, **options: Any) -> None:
        """Make every unfinished task; `options` as `pipelines.cues.tasks.run_tasks`."""
        named = f"cues t={','.join(map(str, self.stores))}"
        run_tasks(self.stores, self.make, made=self.made(), description=named, **options)

    def made(self) -> dict[str, Any]:
        """What is recorded with each shard: all that decides its bytes beside its store's identity."""
        return {"batch_size": self.batch_size, **machine(getattr(self.sweep, "device", None))}

    def unfinished(self) -> list[int]:
        """Tasks that are unfinished in any store, in order."""
        return sorted({task for store in self.stores.values() for task in store.unfinished()})

    def make(self, task: int, timesteps: list[int]) -> Iterator[tuple[int, Callable[[], dict[str, np.ndarray]]]]:
        """For each t, a function that returns the arrays of the task."""
        rows = self.stores[timesteps[0]].task_rows(task)
        prepare = partial(self._prepare, timesteps=timesteps)
        batches = [self._finish(batch) for batch in one_ahead(prepare, batches_of(rows, self.batch_size))]
        images = [images for images, _ in batches]
        for timestep in timesteps:
            yield timestep, partial(_joined, images, [restored[timestep] for _, restored in batches])

    def restore(self, rows: range, timesteps: list[int]) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Pictures of one batch and their restorations by t, all (len(rows), H, W, 3) uint8."""
        return self._finish(self._prepare(rows, timesteps))

    @torch.no_grad()
    def _prepare(self, rows: range, timesteps: list[int]) -> _Prepared:
        images = self.faces.batch(rows)
        filled = [*rows, *[rows[-1]] * (self.batch_size - len(rows))]
        places = np.minimum(np.arange(self.batch_size), len(rows) - 1)
        keys = [self.faces.keys[row] for row in filled]
        if isinstance(self.sweep, StagedSweep) and self.sweep.prepares_ahead:
            prepared = self.sweep.prepare(to_unit_range(images[places]), keys, timesteps)
            return _Prepared(images, keys, timesteps, partial(self.sweep.restore_prepared, prepared))
        # No tensor in this thread: it would start OpenMP workers of its own, and with more workers than cores, even
        # idle ones, those of the loop sleep at every barrier.
        return _Prepared(images, keys, timesteps, partial(self._restore_read, images[places]))

    def _restore_read(
        self, pictures: np.ndarray, keys: Sequence[str], timesteps: Sequence[int]
    ) -> dict[int, torch.Tensor]:
        return self.sweep.restore(to_unit_range(pictures), keys, timesteps)

    def _finish(self, batch: _Prepared) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        restored = batch.restore(batch.keys, batch.timesteps)
        count = len(batch.images)
        return batch.images, {t: to_pixels(restored[t], batch.keys)[:count] for t in batch.timesteps}


def _joined(images: list[np.ndarray], restored: list[np.ndarray]) -> dict[str, np.ndarray]:
    return cue_arrays(np.concatenate(images), np.concatenate(restored))


def batches_of(rows: range, batch_size: int) -> list[range]:
    """A task's rows in pieces of `batch_size`; the last one may be shorter."""
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


def whole_batches(shard_size: int, batch_size: int) -> int:
    """The multiple of `batch_size` nearest to `shard_size`, and at least one batch."""
    return max(1, round(shard_size / batch_size)) * batch_size


def filling(batch_size: int, shard_size: int) -> int:
    """The largest shape above half of `batch_size` that pads the last batch of a shard least: 32 for 48 in 256."""
    return min(range(min(batch_size, shard_size), batch_size // 2, -1), key=lambda size: -shard_size % size)


def to_pixels(restored: torch.Tensor, keys: Sequence[str]) -> np.ndarray:
    """(B, 3, H, W), clamped to [-1, 1] -> (B, H, W, 3) uint8.

    Raises:
        AgfasError: a value is not finite; the message names the face.
    """
    values = restored.float()
    finite = values.isfinite().flatten(1).all(1).tolist()
    if not all(finite):
        raise AgfasError(
            f"the restoration of {keys[finite.index(False)]} has values that are not finite. Use float32 or bfloat16,"
            " and check the generator's weights."
        )
    return to_uint8(values)


def _of_equal_shards(stores: dict[int, ShardStore]) -> list[dict[int, ShardStore]]:
    """Group stores by shard size: those of different sizes cannot share tasks."""
    groups: dict[int, dict[int, ShardStore]] = {}
    for timestep, store in stores.items():
        groups.setdefault(store.shard_size, {})[timestep] = store
    return list(groups.values())

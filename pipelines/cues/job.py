"""The job that fills cue stores: any faces, any source, several t at once, any number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.cues.faces import FaceImages, as_face_images
from pipelines.cues.shards import ShardStore
from pipelines.cues.sources import CueSource, CueSweep, as_sweep
from pipelines.cues.store import cue_arrays, cue_identity
from pipelines.cues.tasks import run_tasks
from pipelines.errors import AgfasError


def run_cue_job(
    faces: Any,
    source: CueSource | CueSweep,
    root: Path,
    *,
    dataset_fingerprint: str,
    batch_size: int = 32,
    shard_size: int = 256,
    rank: int = 0,
    world_size: int = 1,
    show_progress: bool = True,
) -> dict[int, Path]:
    """Make every missing cue and return when the stores are whole.

    Started again it goes on where it was; started in n processes they share the work. Batches lie within
    shards and all have the same shape, so the bytes depend on neither.

    Args:
        faces: a face dataset, an opened `Faces`, or a `FaceImages`.
        source: one source, or a sweep over t.
        root: folder of stores; each is named by the fingerprint of what decides its bytes.
        dataset_fingerprint: of the faces' content.
        batch_size: faces restored at once. Another one may move single pixels by one grey level.
        shard_size: faces of one task, which is what a kill can cost; a multiple of `batch_size` wastes
        nothing. rank, world_size: this process's number and the number of processes.
        show_progress: whether there is a bar.

    Returns:
        The store's folder by t; 0 for a source without t.

    Raises:
        AgfasError: a mistake in the arguments, a picture that cannot be read, values that are not finite, a
            full disk, or a folder that cannot be written. Nothing already made is lost.
    """
    if batch_size < 1:
        raise AgfasError(f"batch_size must be at least 1, not {batch_size}.")
    sweep = as_sweep(source)
    ordered = OrderedFaces.of(as_face_images(faces))
    size = ordered.image_size()
    stores = {}
    for timestep in sweep.timesteps:
        identity = cue_identity(sweep.fingerprint(timestep), dataset_fingerprint, size)
        stores[timestep] = ShardStore.create_or_open(root, identity, ordered.keys, shard_size)
    for group in _of_equal_shards(stores):
        maker = CueMaker(ordered, sweep, group, min(batch_size, next(iter(group.values())).shard_size))
        run_tasks(
            group,
            maker.make,
            rank=rank,
            world_size=world_size,
            made={"batch_size": maker.batch_size},
            description=f"cues t={','.join(map(str, group))}",
            show_progress=show_progress,
        )
    return {timestep: store.folder for timestep, store in stores.items()}


@dataclass(frozen=True)
class OrderedFaces:
    """Faces in the order of their keys, so that a dataset's own order does not enter.

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
        """Sort.

        Raises:
            AgfasError: there is no face.
        """
        keys = [str(key) for key in faces.keys]
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


@dataclass(frozen=True)
class CueMaker:
    """Restores the faces of a task.

    Attributes:
        faces: in the stores' order.
        sweep: makes the restorations.
        stores: by t, of equal shard size.
        batch_size: shape of every batch; a task's last one is filled up with its last face.
    """

    faces: OrderedFaces
    sweep: CueSweep
    stores: dict[int, ShardStore]
    batch_size: int

    def make(self, task: int, timesteps: list[int]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """The arrays of one task for each t that is asked for."""
        store = self.stores[timesteps[0]]
        batches = [self.restore(rows, timesteps) for rows in batches_of(store.task_rows(task), self.batch_size)]
        images = np.concatenate([images for images, _ in batches])
        for timestep in timesteps:
            yield (
                timestep,
                cue_arrays(images, np.concatenate([restored[timestep] for _, restored in batches])),
            )

    def restore(self, rows: range, timesteps: list[int]) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Pictures of one batch and their restorations by t, all (len(rows), H, W, 3) uint8."""
        images = self.faces.batch(rows)
        filled = [*rows, *[rows[-1]] * (self.batch_size - len(rows))]
        places = np.minimum(np.arange(self.batch_size), len(rows) - 1)
        keys = [self.faces.keys[row] for row in filled]
        restored = self.sweep.restore(to_unit_range(images[places]), keys, timesteps)
        return images, {t: to_pixels(restored[t], keys)[: len(rows)] for t in timesteps}


def batches_of(rows: range, batch_size: int) -> list[range]:
    """A task's rows in pieces of `batch_size`; the last one may be shorter."""
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


def to_unit_range(images: np.ndarray) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [-1, 1]."""
    count, height, width, channels = images.shape
    values = torch.empty(count, channels, height, width)
    return values.copy_(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)).div_(127.5).sub_(1)


def to_pixels(restored: torch.Tensor, keys: Sequence[str]) -> np.ndarray:
    """(B, 3, H, W), clamped to [-1, 1] -> (B, H, W, 3) uint8.

    Raises:
        AgfasError: a value is not finite; names the face.
    """
    values = restored.float()
    broken = (~values.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
    if broken:
        raise AgfasError(
            f"the restoration of {keys[broken[0]]} has values that are not finite. Use float32 or bfloat16,"
            " and check the generator's weights."
        )
    pixels = ((values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _of_equal_shards(stores: dict[int, ShardStore]) -> list[dict[int, ShardStore]]:
    """Stores that were begun with another shard size cannot share tasks: one group for each size."""
    groups: dict[int, dict[int, ShardStore]] = {}
    for timestep, store in stores.items():
        groups.setdefault(store.shard_size, {})[timestep] = store
    return list(groups.values())

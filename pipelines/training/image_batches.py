"""Live faces as pixels, for models that learn to restore them; a function of the step, as all training sets here."""

from __future__ import annotations

import numpy as np
import torch

from pipelines.data.faces import Faces
from pipelines.pixels import to_unit_batch
from pipelines.streams import stream
from pipelines.training.batches import Order, share


class LiveFaceBatches:
    """Faces, mirrored at random, with the noise and the timesteps of this step where they are asked for.

    Args:
        faces: the dataset.
        indices: live faces.
        batch_size: of the global batch.
        seed: decides order, flips, noise and timesteps together with the step.
        flip: mirror every other face.
        train_timesteps: t is drawn from 0 .. train_timesteps - 1; 0 gives neither t nor noise.
    """

    def __init__(
        self, faces: Faces, indices: np.ndarray, batch_size: int, seed: int, flip: bool, train_timesteps: int = 0
    ) -> None:
        self.faces, self.indices, self.batch_size, self.seed = faces, indices, batch_size, seed
        self.flip, self.train_timesteps = flip, train_timesteps
        self.order = Order(len(indices), seed, "live-faces")

    def __call__(self, step: int, rank: int, world_size: int) -> dict[str, torch.Tensor]:
        """`image` (B, 3, H, W) in [-1, 1]; `noise` of its shape and `timesteps` (B,) int64 where asked for."""
        part = share(self.batch_size, rank, world_size)
        rows = self.order.take(step * self.batch_size, self.batch_size)[part]
        draws = stream(self.seed, "live-faces-draws", step)
        flips = (draws.random(self.batch_size) < 0.5)[part] & self.flip
        batch = {"image": to_unit_batch(self.faces.images[self.indices[rows]], flips).contiguous()}
        if self.train_timesteps:
            timesteps = draws.integers(0, self.train_timesteps, self.batch_size)[part]
            noise = draws.standard_normal((self.batch_size, *batch["image"].shape[1:]), dtype=np.float32)[part]
            batch |= {"noise": torch.from_numpy(noise), "timesteps": torch.from_numpy(timesteps)}
        return batch

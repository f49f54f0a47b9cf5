"""Training sets as functions of the step: which faces, which flips, which noise.

Nothing here keeps a position. The batch of step n is computed from n, so that a resumed run needs no saved sampler and
every process computes its own rows of the global batch. All random draws are made for the global batch and then sliced:
otherwise the draws would depend on the number of processes.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch

from pipelines.data.faces import Faces
from pipelines.pixels import to_unit_batch
from pipelines.streams import stream


class Order:
    """An endless sequence over `count` items: one shuffled epoch after another."""

    def __init__(self, count: int, seed: int, name: str) -> None:
        self.count = count
        self.seed = seed
        self.name = name
        self._last: tuple[int, np.ndarray] | None = None

    def take(self, start: int, length: int) -> np.ndarray:
        """The items at positions start .. start + length - 1 of the sequence, (length,) int64."""
        positions = np.arange(start, start + length)
        epochs, places = positions // self.count, positions % self.count
        return np.array([self._epoch(int(e))[p] for e, p in zip(epochs, places, strict=True)], dtype=np.int64)

    def _epoch(self, number: int) -> np.ndarray:
        if self._last is None or self._last[0] != number:
            self._last = (number, stream(self.seed, self.name, number).permutation(self.count))
        return self._last[1]


class Batches(Protocol):
    """A training set as a function of the step.

    Attributes:
        size: faces of the global batch: one step of the optimiser, over all processes and micro-batches.
    """

    @property
    def size(self) -> int: ...

    def __call__(self, step: int, rows: slice) -> Any:
        """These rows of the global batch of step `step` (from 0)."""


class IdentityBatches:
    """Live faces with the number of their subject, mirrored at random, for ArcFace."""

    def __init__(self, faces: Faces, indices: np.ndarray, batch_size: int, seed: int) -> None:
        # Subjects are numbered within their domain: two datasets may both have a subject 1.
        names = np.array([f"{faces.domains[i]}/{faces.subjects[i]}" for i in indices])
        self.identities, self.numbers = np.unique(names, return_inverse=True)
        self.faces, self.indices, self.size, self.seed = faces, indices, batch_size, seed
        self.order = Order(len(indices), seed, "identity")

    @property
    def num_identities(self) -> int:
        """Number of classes."""
        return len(self.identities)

    def __call__(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        """`image` (B, 3, H, W) in [-1, 1] and `identity` (B,) int64 in [0, num_identities)."""
        chosen = self.order.take(step * self.size, self.size)[rows]
        flips = stream(self.seed, "identity-flip", step).random(self.size)[rows] < 0.5
        image = to_unit_batch(self.faces.images[self.indices[chosen]], flips)
        return {"image": image, "identity": torch.from_numpy(self.numbers[chosen])}


class LiveFaceBatches:
    """Live faces, mirrored at random, for the baselines; with noise and timesteps for diffusion.

    Args:
        faces: the dataset.
        indices: live faces.
        batch_size: of the global batch.
        seed: determines order, flips, noise and timesteps, together with the step.
        flip: mirror each face with probability 1/2.
        train_timesteps: t is uniform in [0, train_timesteps); 0 for neither t nor noise.
    """

    def __init__(
        self, faces: Faces, indices: np.ndarray, batch_size: int, seed: int, flip: bool, train_timesteps: int = 0
    ) -> None:
        self.faces, self.indices, self.size, self.seed = faces, indices, batch_size, seed
        self.flip, self.train_timesteps = flip, train_timesteps
        self.order = Order(len(indices), seed, "live-faces")

    def __call__(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        """`image` (B, 3, H, W) in [-1, 1]; for diffusion `noise` (B, 3, H, W) and `timesteps` (B,) int64 too."""
        chosen = self.order.take(step * self.size, self.size)[rows]
        draws = stream(self.seed, "live-faces-draws", step)
        flips = (draws.random(self.size) < 0.5)[rows] & self.flip
        batch = {"image": to_unit_batch(self.faces.images[self.indices[chosen]], flips).contiguous()}
        if self.train_timesteps:
            timesteps = draws.integers(0, self.train_timesteps, self.size)[rows]
            noise = draws.standard_normal((self.size, *batch["image"].shape[1:]), dtype=np.float32)[rows]
            batch |= {"noise": torch.from_numpy(noise), "timesteps": torch.from_numpy(timesteps)}
        return batch


class SmoothedBatches(LiveFaceBatches):
    """Live faces, mirrored at random, with how much each face's latents are smoothed, for a small autoencoder."""

    def __call__(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        """`image` (B, 3, H, W) in [-1, 1] and `smooth` (B,) float32 in [0, 1)."""
        smooth = stream(self.seed, "smoothed-latents", step).random(self.size, dtype=np.float32)[rows]
        return {**super().__call__(step, rows), "smooth": torch.from_numpy(smooth)}


class LatentViews(Protocol):
    """Stored latents and identity tokens of faces; see `pipelines.training.latents`.

    Attributes:
        views: per face: 1, or 2 with the mirrored face.
    """

    views: int

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latents (B, C, h, w) and tokens (B, N, D), float32, of `rows` in the given views (0, or 1 mirrored)."""


class LatentBatches:
    """Stored latents and identity tokens with noise and timesteps, for the generator.

    Args:
        views: of the live faces.
        batch_size: of the global batch.
        train_timesteps: t is uniform in [0, train_timesteps).
        seed: determines order, views, t, noise and dropped conditions, together with the step.
        condition_dropout: probability that a face's condition is dropped, in [0, 1]; marked in `dropped`.
    """

    def __init__(
        self, views: LatentViews, batch_size: int, train_timesteps: int, seed: int, condition_dropout: float = 0.0
    ) -> None:
        self.views, self.size, self.train_timesteps, self.seed = views, batch_size, train_timesteps, seed
        self.condition_dropout = condition_dropout
        self.order = Order(len(views), seed, "latents")

    def __call__(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        """The batch of `dfg.objective.DenoisingObjective`."""
        draws = stream(self.seed, "denoise", step)
        chosen = self.order.take(step * self.size, self.size)[rows]
        view = draws.integers(0, self.views.views, self.size)[rows]
        timesteps = draws.integers(0, self.train_timesteps, self.size)[rows]
        latents, tokens = self.views.read(chosen, view)
        noise = draws.standard_normal((self.size, *latents.shape[1:]), dtype=np.float32)[rows]
        batch = {"latents": latents, "tokens": tokens, "noise": noise, "timesteps": timesteps}
        if self.condition_dropout > 0:
            # A stream of its own, so that the other draws are the same with and without dropout.
            chance = stream(self.seed, "condition-dropout", step).random(self.size)[rows]
            batch["dropped"] = chance < self.condition_dropout
        return {name: torch.from_numpy(values) for name, values in batch.items()}

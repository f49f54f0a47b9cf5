"""Training sets as functions of the step: which faces, which flips, which noise.

Nothing here keeps a position: the batch of step n is computed from n, so a resumed run needs no saved sampler and
two processes can each compute their own share of one global batch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch

from oanet.batch import FaceBatch
from pipelines.data.faces import Faces, to_unit_batch
from pipelines.errors import AgfasError


class Order:
    """An endless sequence over `count` items: one shuffled pass after another."""

    def __init__(self, count: int, seed: int, name: str) -> None:
        self.count = count
        self.seed = seed
        self.name = name
        self._last: tuple[int, np.ndarray] | None = None

    def take(self, start: int, length: int) -> np.ndarray:
        """The items at positions start .. start + length - 1 of the sequence."""
        positions = np.arange(start, start + length)
        passes, places = positions // self.count, positions % self.count
        return np.array([self._pass(int(p))[q] for p, q in zip(passes, places, strict=True)], dtype=np.int64)

    def _pass(self, number: int) -> np.ndarray:
        if self._last is None or self._last[0] != number:
            self._last = (number, stream(self.seed, self.name, number).permutation(self.count))
        return self._last[1]


def stream(seed: int, *names: object) -> np.random.Generator:
    """A random stream of its own for every seed and name."""
    text = ":".join(str(part) for part in (seed, *names))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def share(total: int, rank: int, world_size: int, what: str = "batch_size") -> slice:
    """This process's part of a global batch.

    Raises:
        AgfasError: the batch cannot be dealt out evenly.
    """
    if total % world_size:
        raise AgfasError(f"{what} = {total} cannot be dealt evenly to {world_size} processes; use a multiple.")
    length = total // world_size
    return slice(rank * length, (rank + 1) * length)


class IdentityBatches:
    """Live faces with their subject's number, mirrored at random, for ArcFace."""

    def __init__(self, faces: Faces, indices: np.ndarray, batch_size: int, seed: int) -> None:
        names = np.array([f"{faces.domains[i]}/{faces.subjects[i]}" for i in indices])
        self.identities, self.numbers = np.unique(names, return_inverse=True)
        self.faces, self.indices, self.batch_size, self.seed = faces, indices, batch_size, seed
        self.order = Order(len(indices), seed, "identity")

    @property
    def num_identities(self) -> int:
        """Number of classes."""
        return len(self.identities)

    def __call__(self, step: int, rank: int, world_size: int) -> dict[str, torch.Tensor]:
        part = share(self.batch_size, rank, world_size)
        chosen = self.order.take(step * self.batch_size, self.batch_size)[part]
        flips = stream(self.seed, "identity-flip", step).random(self.batch_size)[part] < 0.5
        image = to_unit_batch(self.faces.images[self.indices[chosen]], flips)
        return {"image": image, "identity": torch.from_numpy(self.numbers[chosen])}


class LatentViews(Protocol):
    """Stored latents and identity tokens; see `pipelines.training.latents`."""

    views: int

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latents (B, C, h, w) and tokens (B, N, D) of some faces, float32."""


class LatentBatches:
    """Stored latents and tokens with the noise and the time steps of this step.

    Args:
        views: of the live faces.
        batch_size: of the global batch.
        train_timesteps: t is drawn from 0 .. train_timesteps - 1.
        seed: decides order, views, t, noise and dropped conditions together with the step.
        condition_dropout: share of faces whose condition is to be zero, in [0, 1]; marked in `dropped`.
    """

    def __init__(
        self, views: LatentViews, batch_size: int, train_timesteps: int, seed: int, condition_dropout: float = 0.0
    ) -> None:
        self.views, self.batch_size, self.train_timesteps, self.seed = (
            views,
            batch_size,
            train_timesteps,
            seed,
        )
        self.condition_dropout = condition_dropout
        self.order = Order(len(views), seed, "latents")

    def __call__(self, step: int, rank: int, world_size: int) -> dict[str, torch.Tensor]:
        part = share(self.batch_size, rank, world_size)
        draws = stream(self.seed, "denoise", step)
        rows = self.order.take(step * self.batch_size, self.batch_size)[part]
        view = draws.integers(0, self.views.views, self.batch_size)[part]
        timesteps = draws.integers(0, self.train_timesteps, self.batch_size)[part]
        latents, tokens = self.views.read(rows, view)
        noise = draws.standard_normal((self.batch_size, *latents.shape[1:]), dtype=np.float32)[part]
        batch = {"latents": latents, "tokens": tokens, "noise": noise, "timesteps": timesteps}
        if self.condition_dropout > 0:
            # A stream of its own, so that it moves no other draw.
            chance = stream(self.seed, "condition-dropout", step).random(self.batch_size)[part]
            batch["dropped"] = chance < self.condition_dropout
        return {name: torch.from_numpy(values) for name, values in batch.items()}


class CueMaker(Protocol):
    """Cues at load time; see `pipelines.cues.reader`."""

    def batch(self, indices: np.ndarray, image_flips: Any = None, cue_flips: Any = None) -> torch.Tensor: ...


@dataclass
class BalancedBatches:
    """`per_cell` faces of every training domain and label in each step (SSDG; methods of AG-FAS).

    Attributes:
        faces: the dataset.
        indices: training faces.
        domains: training domains; their order gives the domain labels.
        cues: where the detector takes a cue.
        per_cell: faces of one domain and label in the global batch.
        seed: decides order, flips and shifts.
        flip: `shared` mirrors face and cue together with probability 1/2; `independent` draws the restoration's
            mirror image apart, as the public code does; `none`.
        shift: both are moved by up to this many pixels, edges repeated.
    """

    faces: Faces
    indices: np.ndarray
    domains: list[str]
    cues: CueMaker | None
    per_cell: int
    seed: int
    flip: Literal["shared", "independent", "none"] = "shared"
    shift: int = 0
    cells: list[tuple[int, np.ndarray, Order]] = field(init=False)

    def __post_init__(self) -> None:
        self.cells = []
        for number, domain in enumerate(self.domains):
            for label in (1, 0):
                chosen = (self.faces.domains[self.indices] == domain) & (self.faces.labels[self.indices] == label)
                members = self.indices[chosen]
                order = Order(len(members), self.seed, f"{domain}/{label}")
                self.cells.append((number, members, order))

    def __call__(self, step: int, rank: int, world_size: int) -> FaceBatch:
        part = share(self.per_cell, rank, world_size, "per_cell")
        rows, numbers = [], []
        for number, members, order in self.cells:
            rows.append(members[order.take(step * self.per_cell, self.per_cell)[part]])
            numbers.append(np.full(len(rows[-1]), number))
        return self._augmented(np.concatenate(rows), np.concatenate(numbers), step, rank)

    def _augmented(self, rows: np.ndarray, numbers: np.ndarray, step: int, rank: int) -> FaceBatch:
        draws = stream(self.seed, "augment", step, rank)
        flips = draws.random((2, len(rows))) < (0.0 if self.flip == "none" else 0.5)
        if self.flip == "shared":
            flips[1] = flips[0]
        offsets = draws.integers(-self.shift, self.shift + 1, (len(rows), 2))
        image = move(to_unit_batch(self.faces.images[rows], flips[0]), offsets)
        cue = None
        if self.cues is not None:
            cue = move(self.cues.batch(rows, *flips), offsets)
        return FaceBatch(
            image=image,
            cue=cue,
            label=torch.from_numpy(self.faces.labels[rows]),
            domain=torch.from_numpy(numbers),
            key=[str(key) for key in self.faces.keys[rows]],
        )


def move(image: torch.Tensor, offsets: np.ndarray) -> torch.Tensor:
    """Shift each image of a batch by its (rows, columns), repeating the edge."""
    if not offsets.any():
        return image
    height, width = image.shape[-2:]
    row = (torch.arange(height)[None] + torch.from_numpy(offsets[:, :1])).clamp(0, height - 1)
    column = (torch.arange(width)[None] + torch.from_numpy(offsets[:, 1:])).clamp(0, width - 1)
    which = torch.arange(len(image))[:, None, None]
    return image.permute(0, 2, 3, 1)[which, row[:, :, None], column[:, None, :]].permute(0, 3, 1, 2)

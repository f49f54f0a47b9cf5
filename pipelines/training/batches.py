"""Training sets as functions of the step: which faces, which flips, which noise.

Nothing here keeps a position: the batch of step n is computed from n, so a resumed run needs no saved sampler and
two processes can each compute their own share of one global batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch

from oanet.batch import FaceBatch
from pipelines.data.faces import Faces
from pipelines.errors import AgfasError
from pipelines.pixels import to_unit_batch
from pipelines.streams import stream
from pipelines.training.maps import TargetMaps


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


@dataclass(frozen=True)
class ExtraLive:
    """Extra live faces of no training domain (AG-FAS, Table III).

    Attributes:
        faces: the dataset that holds them.
        indices: which of its faces.
        ratio: how many of them come with one live face of the training domains.
        number: their domain label, or -1 for none.
        maps: their target maps.
    """

    faces: Faces
    indices: np.ndarray
    ratio: float
    number: int
    maps: dict[str, TargetMaps] = field(default_factory=dict)


@dataclass(frozen=True)
class _Cell:
    """Faces of one domain and label, `count` of which are in every global batch."""

    faces: Faces
    members: np.ndarray
    order: Order
    number: int
    count: int
    maps: dict[str, TargetMaps]


@dataclass
class BalancedBatches:
    """`per_cell` faces of every training domain and label in each step (SSDG; methods of AG-FAS).

    With extra live faces the batch keeps its size and stays live to attack one to one: in every domain the live
    cell gives up its share, and all that was given up is drawn from the extra faces.

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
        maps: target maps by their name in `FaceBatch`; they are moved with the face.
        extra: extra live faces, where there are any.
    """

    faces: Faces
    indices: np.ndarray
    domains: list[str]
    cues: CueMaker | None
    per_cell: int
    seed: int
    flip: Literal["shared", "independent", "none"] = "shared"
    shift: int = 0
    maps: dict[str, TargetMaps] = field(default_factory=dict)
    extra: ExtraLive | None = None
    cells: list[_Cell] = field(init=False)

    def __post_init__(self) -> None:
        live = self.per_cell if self.extra is None else own_live(self.per_cell, self.extra.ratio)
        self.cells = []
        for number, domain in enumerate(self.domains):
            for label, count in ((1, live), (0, self.per_cell)):
                chosen = (self.faces.domains[self.indices] == domain) & (self.faces.labels[self.indices] == label)
                members = self.indices[chosen]
                order = Order(len(members), self.seed, f"{domain}/{label}")
                self.cells.append(_Cell(self.faces, members, order, number, count, self.maps))
        if self.extra is not None:
            extra = self.extra
            count = len(self.domains) * (self.per_cell - live)
            order = Order(len(extra.indices), self.seed, "extra-live")
            self.cells.append(_Cell(extra.faces, extra.indices, order, extra.number, count, extra.maps))

    def __call__(self, step: int, rank: int, world_size: int) -> FaceBatch:
        parts, places, start = [], [], 0
        for cell in self.cells:
            part = share(cell.count, rank, world_size, "per_cell")
            parts.append(cell.members[cell.order.take(step * cell.count, cell.count)[part]])
            places.append(np.arange(start, start + cell.count)[part])
            start += cell.count
        return self._augmented(parts, np.concatenate(places), start, step)

    def _augmented(self, parts: list[np.ndarray], places: np.ndarray, total: int, step: int) -> FaceBatch:
        """The faces of each cell with this step's flips and shifts.

        They are drawn for the whole global batch, and each process takes those of its `places`: then two processes
        see together what one sees alone.
        """
        draws = stream(self.seed, "augment", step, 0)
        flips = draws.random((2, total)) < (0.0 if self.flip == "none" else 0.5)
        if self.flip == "shared":
            flips[1] = flips[0]
        offsets = draws.integers(-self.shift, self.shift + 1, (total, 2))[places]
        flips = flips[:, places]
        image = move(to_unit_batch(self._gather("images", parts), flips[0]), offsets)
        cue = None
        if self.cues is not None:
            cue = move(self.cues.batch(np.concatenate(parts), *flips), offsets)
        numbers = [np.full(len(rows), cell.number) for cell, rows in zip(self.cells, parts, strict=True)]
        return FaceBatch(
            image=image,
            cue=cue,
            label=torch.from_numpy(self._gather("labels", parts)),
            domain=torch.from_numpy(np.concatenate(numbers)),
            key=[str(key) for key in self._gather("keys", parts)],
            **self._maps(parts, flips[0], offsets),
        )

    def _gather(self, column: str, parts: list[np.ndarray]) -> np.ndarray:
        pieces = [getattr(cell.faces, column)[rows] for cell, rows in zip(self.cells, parts, strict=True)]
        return np.concatenate(pieces)

    def _maps(self, parts: list[np.ndarray], flips: np.ndarray, offsets: np.ndarray) -> dict[str, torch.Tensor]:
        moved = {}
        for name in self.maps:
            pieces = [cell.maps[name].read(rows) for cell, rows in zip(self.cells, parts, strict=True)]
            values = torch.from_numpy(np.concatenate(pieces))[:, None]  # (B, 1, H, W)
            mirrored = torch.from_numpy(flips)[:, None, None, None]
            moved[name] = move(torch.where(mirrored, values.flip(-1), values), offsets)
        return moved


def own_live(per_cell: int, ratio: float) -> int:
    """How many of a live cell's faces stay the domain's own where `ratio` extra ones come with each.

    Raises:
        AgfasError: none or all of them would.
    """
    own = round(per_cell / (1 + ratio))
    if not 0 < own < per_cell:
        raise AgfasError(
            f"train.per_cell = {per_cell} with train.extra_live.ratio = {ratio} leaves {own} of {per_cell} live faces"
            " of a domain to its own; at least one, and not all, must be. Raise per_cell, or move the ratio towards 1."
        )
    return own


def move(image: torch.Tensor, offsets: np.ndarray) -> torch.Tensor:
    """Shift each image of a batch by its (rows, columns), repeating the edge."""
    if not offsets.any():
        return image
    height, width = image.shape[-2:]
    row = (torch.arange(height)[None] + torch.from_numpy(offsets[:, :1])).clamp(0, height - 1)
    column = (torch.arange(width)[None] + torch.from_numpy(offsets[:, 1:])).clamp(0, width - 1)
    which = torch.arange(len(image))[:, None, None]
    return image.permute(0, 2, 3, 1)[which, row[:, :, None], column[:, None, :]].permute(0, 3, 1, 2)

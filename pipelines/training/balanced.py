"""The detector's training set: equally many faces of every training domain and label in each step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch

from oanet.batch import FaceBatch
from pipelines.data.faces import Faces
from pipelines.data.records import ATTACK, BONAFIDE
from pipelines.errors import AgfasError
from pipelines.pixels import place_moved, to_unit_batch
from pipelines.streams import stream
from pipelines.training.batches import Order, share
from pipelines.training.maps import TargetMaps


class CueMaker(Protocol):
    """Cues at load time; see `pipelines.cues.reader`."""

    def batch(
        self,
        indices: np.ndarray,
        image_flips: np.ndarray | None = None,
        cue_flips: np.ndarray | None = None,
        offsets: np.ndarray | None = None,
    ) -> torch.Tensor:
        """Cues (B, 3, H, W) of the faces at `indices`, from mirrored faces and restorations, each cue shifted."""


@dataclass(frozen=True)
class ExtraLive:
    """Extra live faces outside the training domains (AG-FAS, Table III).

    Attributes:
        faces: the dataset that holds them.
        indices: which of its faces.
        ratio: extra live faces per live face of the training domains.
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
    """Faces of one domain and label; `count` of them are in every global batch."""

    faces: Faces
    members: np.ndarray
    order: Order
    number: int
    count: int
    maps: dict[str, TargetMaps]


@dataclass
class BalancedBatches:
    """`per_cell` faces of every training domain and label in each step (SSDG; methods of AG-FAS).

    Extra live faces change neither the size of the batch nor the one-to-one ratio of live faces and attacks: the live
    cell of every domain gives up part of its share, and that part is drawn from the extra faces.

    Attributes:
        faces: the dataset.
        indices: training faces.
        domains: training domains; their order defines the domain labels.
        cues: for a detector with a cue.
        per_cell: faces of one domain and label in the global batch.
        seed: determines order, flips and shifts, together with the step.
        flip: `shared` mirrors face and cue together with probability 1/2; `independent` draws the mirroring of the
            restoration separately, as the public code does; `none`.
        shift: largest shift of face and cue in pixels; edges are repeated.
        maps: target maps by their name in `FaceBatch`; transformed like the face.
        extra: extra live faces, if any.
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
            for label, count in ((BONAFIDE, live), (ATTACK, self.per_cell)):
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
        """This process's share of the batch of a step."""
        parts, places, start = [], [], 0
        for cell in self.cells:
            part = share(cell.count, rank, world_size, "per_cell")
            parts.append(cell.members[cell.order.take(step * cell.count, cell.count)[part]])
            places.append(np.arange(start, start + cell.count)[part])
            start += cell.count
        return self._augmented(parts, np.concatenate(places), start, step)

    def _augmented(self, parts: list[np.ndarray], places: np.ndarray, total: int, step: int) -> FaceBatch:
        """The faces of each cell, with this process's `places` of the flips and shifts of the global batch."""
        draws = stream(self.seed, "augment", step, 0)
        flips = draws.random((2, total)) < (0.0 if self.flip == "none" else 0.5)
        if self.flip == "shared":
            flips[1] = flips[0]
        offsets = draws.integers(-self.shift, self.shift + 1, (total, 2))[places] if self.shift else None
        flips = flips[:, places]
        image = to_unit_batch(self._gather("images", parts), flips[0], offsets)
        cue = None
        if self.cues is not None:
            cue = self.cues.batch(np.concatenate(parts), flips[0], flips[1], offsets)
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

    def _maps(self, parts: list[np.ndarray], flips: np.ndarray, offsets: np.ndarray | None) -> dict[str, torch.Tensor]:
        moved = {}
        for name in self.maps:
            pieces = [cell.maps[name].read(rows) for cell, rows in zip(self.cells, parts, strict=True)]
            values = [
                values[:, ::-1] if flip else values for values, flip in zip(np.concatenate(pieces), flips, strict=True)
            ]
            if offsets is not None:
                values = [
                    place_moved(np.empty_like(one), one, offset) for one, offset in zip(values, offsets, strict=True)
                ]
            moved[name] = torch.from_numpy(np.stack(values))[:, None]  # (B, 1, H, W)
        return moved


def own_live(per_cell: int, ratio: float) -> int:
    """Live faces of a cell that are the domain's own if each comes with `ratio` extra ones.

    Raises:
        AgfasError: all or none would be.
    """
    own = round(per_cell / (1 + ratio))
    if not 0 < own < per_cell:
        raise AgfasError(
            f"train.per_cell = {per_cell} with train.extra_live.ratio = {ratio} leaves {own} of {per_cell} live faces"
            " of a domain to its own; at least one, and not all, must be. Raise per_cell, or move the ratio towards 1."
        )
    return own

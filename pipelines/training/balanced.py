"""The detector's training set: equally many faces of every training domain and label in each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypedDict

import numpy as np
import torch

from oanet.batch import FaceBatch
from pipelines.data.faces import Faces
from pipelines.data.records import ATTACK, BONAFIDE
from pipelines.errors import AgfasError
from pipelines.pixels import place_moved, to_unit_batch
from pipelines.streams import stream
from pipelines.training.batches import Order
from pipelines.training.fas_aug import FasAug, FasAugPlan
from pipelines.training.maps import TargetMaps
from pipelines.training.pda import Pda


class CueMaker(Protocol):
    """Cues at load time; see `pipelines.cues.reader`."""

    def batch(
        self,
        indices: np.ndarray,
        image_flips: np.ndarray | None = None,
        cue_flips: np.ndarray | None = None,
        offsets: np.ndarray | None = None,
        faces: np.ndarray | None = None,
        alike: Callable[[int, np.ndarray], np.ndarray] | None = None,
    ) -> torch.Tensor:
        """Cues (B, 3, H, W) of the faces at `indices`, from changed faces and restorations, each cue shifted."""


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
    label: int
    count: int
    maps: dict[str, TargetMaps]


@dataclass(frozen=True)
class _Part:
    """Faces `rows` (n,) of one cell, at the places `where` (n,) of a batch."""

    cell: _Cell
    rows: np.ndarray
    where: np.ndarray


class _Changed(TypedDict, total=False):
    """Arguments of `CueMaker.batch` for changed faces."""

    faces: np.ndarray
    alike: Callable[[int, np.ndarray], np.ndarray]


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
        fas_aug: changes of faces, before they are mirrored and shifted.
        pda: mixtures of attacks and live faces, after everything else.
        arrangement: cell and place within it of every position of the global batch.
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
    fas_aug: FasAug | None = None
    pda: Pda | None = None
    cells: list[_Cell] = field(init=False)
    arrangement: tuple[np.ndarray, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        live = self.per_cell if self.extra is None else own_live(self.per_cell, self.extra.ratio)
        self.cells = []
        for number, domain in enumerate(self.domains):
            for label, count in ((BONAFIDE, live), (ATTACK, self.per_cell)):
                chosen = (self.faces.domains[self.indices] == domain) & (self.faces.labels[self.indices] == label)
                members = self.indices[chosen]
                order = Order(len(members), self.seed, f"{domain}/{label}")
                self.cells.append(_Cell(self.faces, members, order, number, label, count, self.maps))
        if self.extra is not None:
            extra = self.extra
            count = len(self.domains) * (self.per_cell - live)
            order = Order(len(extra.indices), self.seed, "extra-live")
            self.cells.append(_Cell(extra.faces, extra.indices, order, extra.number, BONAFIDE, count, extra.maps))
        self.arrangement = _interleaved([cell.count for cell in self.cells])

    @property
    def size(self) -> int:
        """Faces of the global batch."""
        return sum(cell.count for cell in self.cells)

    def __call__(self, step: int, rows: slice) -> FaceBatch:
        """These rows of the batch of a step."""
        own = np.arange(self.size)[rows]
        changes = self._changes(step)
        if self.pda is None:
            return self._augmented(own, step, changes)
        labels = self._of_cells("label")
        mixtures = self.pda.plan(step, labels if changes is None else np.where(changes.flips, ATTACK, labels))
        positions = mixtures.with_partners(own)
        return self.pda.mixed(self._augmented(positions, step, changes), mixtures, positions, len(own))

    def _changes(self, step: int) -> FasAugPlan | None:
        """What FAS-Aug does to every face of the global batch."""
        if self.fas_aug is None:
            return None
        members = np.array([len(cell.members) for cell in self.cells])[self.arrangement[0]]
        passes = (step * self._of_cells("count") + self.arrangement[1]) // members
        return self.fas_aug.plan(step, self._of_cells("number"), passes)

    def _of_cells(self, name: str) -> np.ndarray:
        """A number of its cell for every position of the global batch."""
        return np.array([getattr(cell, name) for cell in self.cells])[self.arrangement[0]]

    def _parts(self, positions: np.ndarray, step: int) -> list[_Part]:
        number, place = (column[positions] for column in self.arrangement)
        parts = []
        for index, cell in enumerate(self.cells):
            where = np.flatnonzero(number == index)
            if len(where):
                chosen = cell.order.take(step * cell.count, cell.count)[place[where]]
                parts.append(_Part(cell, cell.members[chosen], where))
        return parts

    def _augmented(self, positions: np.ndarray, step: int, changes: FasAugPlan | None) -> FaceBatch:
        """The faces at these positions of the global batch, with its changes, flips and shifts."""
        parts = self._parts(positions, step)
        draws = stream(self.seed, "augment", step, 0)
        flips = draws.random((2, self.size)) < (0.0 if self.flip == "none" else 0.5)
        if self.flip == "shared":
            flips[1] = flips[0]
        offsets = draws.integers(-self.shift, self.shift + 1, (self.size, 2))[positions] if self.shift else None
        flips = flips[:, positions]
        pictures, labels = _column(parts, "images"), _column(parts, "labels")
        changed: _Changed = {}
        if changes is not None and self.fas_aug is not None:
            of_both = self.fas_aug.apply(changes, step, positions, pictures)
            changed = {"faces": pictures, "alike": lambda place, restored: of_both[place](restored)}
            labels = np.where(changes.flips[positions], ATTACK, labels)
        image = to_unit_batch(pictures, flips[0], offsets)
        cue = None
        if self.cues is not None:
            rows = _merged(parts, [part.rows for part in parts])
            cue = self.cues.batch(rows, flips[0], flips[1], offsets, **changed)
        numbers = [np.full(len(part.rows), part.cell.number) for part in parts]
        return FaceBatch(
            image=image,
            cue=cue,
            label=torch.from_numpy(labels),
            domain=torch.from_numpy(_merged(parts, numbers)),
            key=[str(key) for key in _column(parts, "keys")],
            kind=torch.from_numpy(_kinds(_column(parts, "labels"), _column(parts, "attack_types"))),
            **self._maps(parts, flips[0], offsets),
        )

    def _maps(self, parts: list[_Part], flips: np.ndarray, offsets: np.ndarray | None) -> dict[str, torch.Tensor]:
        moved = {}
        for name in self.maps:
            maps = _merged(parts, [part.cell.maps[name].read(part.rows) for part in parts])
            values = [values[:, ::-1] if flip else values for values, flip in zip(maps, flips, strict=True)]
            if offsets is not None:
                values = [
                    place_moved(np.empty_like(one), one, offset) for one, offset in zip(values, offsets, strict=True)
                ]
            moved[name] = torch.from_numpy(np.stack(values))[:, None]  # (B, 1, H, W)
        return moved


def _interleaved(counts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Cells in turn, so that every part of the batch has about the same share of each cell.

    Args:
        counts: faces of each cell.

    Returns:
        The cell and the place within the cell of every position, (sum(counts),) int each.
    """
    cell = np.repeat(np.arange(len(counts)), counts)
    place = np.concatenate([np.arange(count) for count in counts])
    order = np.lexsort((cell, (place + 0.5) / np.array(counts)[cell]))
    return cell[order], place[order]


def _column(parts: list[_Part], name: str) -> np.ndarray:
    """A column of the faces, in the order of the batch."""
    return _merged(parts, [getattr(part.cell.faces, name)[part.rows] for part in parts])


def _kinds(labels: np.ndarray, attack_types: np.ndarray) -> np.ndarray:
    """`FaceBatch.kind`: a printed attack is one whose type says so, as in DGUA-FAS."""
    printed = np.array(["print" in str(attack_type).lower() for attack_type in attack_types])
    return np.where(labels == BONAFIDE, 1, np.where(printed, 0, 2)).astype(np.int64)


def _merged(parts: list[_Part], pieces: list[np.ndarray]) -> np.ndarray:
    """One value per face of each part -> in the order of the batch."""
    return np.concatenate(pieces)[np.argsort(np.concatenate([part.where for part in parts]))]


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

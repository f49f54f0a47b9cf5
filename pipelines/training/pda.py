"""Patch-wise augmentation (arXiv 2505.24402, after Watanabe et al., APSIPA 2022): live patches in attacks.

Random patches of an attack are overwritten by those of a live face of the same batch, at the same places, in the
picture and in the cue alike. The face stays an attack; its patches have labels of their own, which the objective `apl`
reads.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from oanet.batch import FaceBatch
from pipelines.data.records import ATTACK, BONAFIDE
from pipelines.streams import stream
from pipelines.training.settings import PdaSettings


@dataclass(frozen=True)
class PdaPlan:
    """Who gives what to whom in a global batch of B faces.

    Attributes:
        partners: (B,) int64, position of the live face that gives patches; -1 for faces that receive none.
        given: (B, N) bool, the patches that a face receives.
    """

    partners: np.ndarray
    given: np.ndarray

    def with_partners(self, own: np.ndarray) -> np.ndarray:
        """Positions `own` in the global batch, and behind them those of other faces that give patches to them."""
        partners = self.partners[own]
        return np.concatenate([own, np.setdiff1d(partners[partners >= 0], own)])


class Pda:
    """Draws and applies the mixtures of every step.

    Args:
        settings: how many attacks and patches.
        grid: patches in a row and a column, where the settings leave it open.
        seed: determines everything, together with the step and the labels of the global batch.
    """

    def __init__(self, settings: PdaSettings, grid: int, seed: int) -> None:
        self.settings, self.grid, self.seed = settings, settings.grid or grid, seed
        self.count = min(self.grid**2 - 1, max(1, round(settings.ratio * self.grid**2)))

    def plan(self, step: int, labels: np.ndarray) -> PdaPlan:
        """The mixtures of a step; none where the batch (labels (B,)) has no live face."""
        draws, live = stream(self.seed, "pda", step), np.flatnonzero(labels == BONAFIDE)
        receives = (draws.random(len(labels)) < self.settings.probability) & (labels == ATTACK)
        order = draws.random((len(labels), self.grid**2)).argsort(axis=1)
        if len(live):
            partners = np.where(receives, live[draws.integers(len(live), size=len(labels))], -1)
        else:
            partners = np.full(len(labels), -1)
        return PdaPlan(partners, (order < self.count) & (partners >= 0)[:, None])

    def mixed(self, batch: FaceBatch, plan: PdaPlan, positions: np.ndarray, own: int) -> FaceBatch:
        """The first `own` faces of a batch, mixed in place, with the labels of their patches.

        Args:
            batch: faces at `positions`, see `PdaPlan.with_partners`.
            plan: of the step.
            positions: of the faces in the global batch.
            own: how many faces are wanted; the others only give patches.
        """
        place = {position: number for number, position in enumerate(positions.tolist())}
        for number, position in enumerate(positions[:own].tolist()):
            if (partner := int(plan.partners[position])) >= 0:
                for pictures in (batch.image, batch.cue) if batch.cue is not None else (batch.image,):
                    taken = self._pixels(plan.given[position], *pictures.shape[-2:])
                    pictures[number] = torch.where(taken, pictures[place[partner]], pictures[number])
        given = torch.from_numpy(plan.given[positions[:own]])
        kept = {field.name: getattr(batch, field.name) for field in fields(batch)}
        kept = {name: values[:own] for name, values in kept.items() if values is not None}
        return replace(batch, **kept, patches=torch.where(given, BONAFIDE, kept["label"][:, None]))

    def _pixels(self, given: np.ndarray, height: int, width: int) -> torch.Tensor:
        """(height, width) bool: the pixels of the patches (N,); a pixel belongs to the patch that holds its centre."""
        rows, columns = ((2 * np.arange(length) + 1) * self.grid // (2 * length) for length in (height, width))
        return torch.from_numpy(given.reshape(self.grid, self.grid)[rows[:, None], columns[None]])

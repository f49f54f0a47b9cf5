"""The student's training set: faces of any label, each with what a teacher says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from oanet.batch import FaceBatch
from pipelines.data.faces import Faces
from pipelines.pixels import to_unit_batch
from pipelines.streams import stream
from pipelines.training.batches import Order


@dataclass(frozen=True)
class Judged:
    """Some faces of a dataset with their teacher's log-odds.

    Attributes:
        faces: the dataset.
        rows: (n,) indices of its faces.
        odds: (n,) float, log-odds of live.
    """

    faces: Faces
    rows: np.ndarray
    odds: np.ndarray


class UnlabelledBatches:
    """Faces of several datasets in one shuffled order, mirrored and shifted at random; see `Batches`.

    Labels and domains of a batch are constant: nothing of the datasets' own reaches the student but pixels.

    Args:
        parts: at least one face in all; the pixels of all datasets have one size.
        batch_size: of the global batch.
        seed: determines order, mirroring and shifts, together with the step.
        shift: largest shift in pixels; edges are repeated.
    """

    def __init__(self, parts: Sequence[Judged], batch_size: int, seed: int, shift: int) -> None:
        self.parts, self.size, self.seed, self.shift = list(parts), batch_size, seed, shift
        self.part = np.repeat(np.arange(len(self.parts)), [len(part.rows) for part in self.parts])
        self.rows = np.concatenate([part.rows for part in self.parts])
        self.odds = np.concatenate([part.odds for part in self.parts]).astype(np.float32)
        self.order = Order(len(self.rows), seed, "unlabelled")

    def __call__(self, step: int, rows: slice) -> FaceBatch:
        """These rows of the batch of a step."""
        chosen = self.order.take(step * self.size, self.size)[rows]
        draws = stream(self.seed, "unlabelled-changes", step)
        flips = (draws.random(self.size) < 0.5)[rows]
        offsets = draws.integers(-self.shift, self.shift + 1, (self.size, 2))[rows]
        constant = torch.zeros(len(chosen), dtype=torch.int64)
        return FaceBatch(
            image=to_unit_batch(self._pixels(chosen), flips, offsets if self.shift else None),
            cue=None,
            label=constant,
            domain=constant,
            key=[str(self.parts[self.part[one]].faces.keys[self.rows[one]]) for one in chosen],
            teacher=torch.from_numpy(self.odds[chosen]),
        )

    def _pixels(self, chosen: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 of faces by their place in the whole."""
        side = self.parts[0].faces.size
        pixels = np.empty((len(chosen), side, side, 3), np.uint8)
        for number, part in enumerate(self.parts):
            mine = self.part[chosen] == number
            pixels[mine] = part.faces.images[self.rows[chosen[mine]]]
        return pixels

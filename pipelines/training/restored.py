"""The training set of a student of the generator: faces of any label, with the names of their noise streams."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.data.faces import Faces
from pipelines.pixels import to_uint8, to_unit_batch
from pipelines.training.batches import LiveFaceBatches
from pipelines.training.fas_aug import FasAug
from pipelines.training.settings import FasAugSettings


class FacesToRestore(LiveFaceBatches):
    """Faces in random order, mirrored at random, some of them changed by FAS-Aug; see `Batches`.

    Args:
        faces: the dataset.
        indices: of the faces to learn from.
        batch_size: of the global batch.
        seed: determines order, flips, changes and keys, together with the step.
        flip: mirror each face with probability 1/2.
        changed: probability that a face is changed, by two operators drawn anew for each.
    """

    def __init__(
        self, faces: Faces, indices: np.ndarray, batch_size: int, seed: int, flip: bool, changed: float
    ) -> None:
        super().__init__(faces, indices, batch_size, seed, flip)
        self.changes = FasAug(FasAugSettings(probability=changed, sub_policies=0), seed) if changed > 0 else None

    def __call__(self, step: int, rows: slice) -> dict[str, Any]:
        """`image` (B, 3, H, W) in [-1, 1], and `keys`: B names of noise streams, another for every face and step."""
        batch: dict[str, Any] = super().__call__(step, rows)
        positions = np.arange(self.size)[rows]
        if self.changes is not None:
            pixels, nowhere = to_uint8(batch["image"]), np.zeros(self.size, dtype=np.int64)
            self.changes.apply(self.changes.plan(step, nowhere, nowhere), step, positions, pixels)
            batch["image"] = to_unit_batch(pixels).contiguous()
        return {**batch, "keys": [f"one_call/{step}/{position}" for position in positions]}

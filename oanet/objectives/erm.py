"""Empirical risk minimisation: cross-entropy, domains ignored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from oanet.batch import FaceBatch
from oanet.detectors.base import Detector
from oanet.objectives.base import Objective, check_not_negative, scalar_parts


class ERM(Objective):
    """Cross-entropy over all faces.

    Args:
        detector: what is trained.
        num_domains: not used; every objective takes it.
        class_weights: factors for (attack, bona fide); None weighs every face the same.
    """

    class_weights: torch.Tensor | None

    def __init__(self, detector: Detector, num_domains: int, class_weights: Sequence[float] | None = None) -> None:
        super().__init__(detector, num_domains)
        if class_weights is not None:
            if len(class_weights) != 2:
                raise ValueError(f"class_weights = {class_weights}; give two: (attack, bona fide).")
            if not any(class_weights):
                raise ValueError("class_weights are both 0, which leaves nothing to learn from; one must be above 0.")
            check_not_negative(attack_weight=class_weights[0], bonafide_weight=class_weights[1])
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.forward`; the part is `cross_entropy`."""
        output = self.detect(batch)
        loss = F.cross_entropy(output.logits, batch.label, weight=self.class_weights)
        return {"loss": loss, "output": output, **scalar_parts(cross_entropy=loss)}

"""Cross-entropy with smoothed labels, as Kuznetsov et al. train LivenessNet and AttackNet.

The schedule of that paper belongs to the training, not to the loss: `train.schedule: plateau` halves the rate when
the loss on held-out source faces stands still, `train.early_stopping` ends the training.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F

from oanet.batch import FaceBatch
from oanet.detectors.base import Detector
from oanet.objectives.base import Objective, scalar_parts


class LabelSmoothing(Objective):
    """Cross-entropy against (1 - smoothing) on the true class and smoothing spread over both (Szegedy et al. 2016).

    Args:
        detector: what is trained.
        num_domains: not used; every objective takes it.
        smoothing: in [0, 1); 0.1 in the paper's text, 0 in its public code.
    """

    def __init__(self, detector: Detector, num_domains: int, smoothing: float = 0.1) -> None:
        super().__init__(detector, num_domains)
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing = {smoothing}; it must be at least 0 and below 1, which would leave no label.")
        self.smoothing = smoothing

    def forward(self, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.forward`; the part is `cross_entropy`, smoothed."""
        output = self.detect(batch)
        loss = F.cross_entropy(output.logits, batch.label, label_smoothing=self.smoothing)
        return {"loss": loss, "output": output, **scalar_parts(cross_entropy=loss)}

"""Cross-entropy, plain (empirical risk minimisation) or with smoothed labels; domains are ignored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from oanet.batch import DetectorOutput, FaceBatch
from oanet.checks import check_range
from oanet.detectors.base import Detector
from oanet.objectives.base import Objective, losses


class ERM(Objective):
    """Cross-entropy over all faces.

    Args:
        detector: the detector to train.
        num_domains: ignored.
        class_weights: factors of (attack, bona fide); default: both 1.
    """

    class_weights: Tensor | None

    def __init__(self, detector: Detector, num_domains: int, class_weights: Sequence[float] | None = None) -> None:
        super().__init__(detector, num_domains)
        if class_weights is not None:
            if len(class_weights) != 2:
                raise ValueError(f"class_weights = {class_weights}; give two: (attack, bona fide).")
            if not any(class_weights):
                raise ValueError("class_weights are both 0, which leaves nothing to learn from; one must be above 0.")
            check_range("[0, inf)", attack_weight=class_weights[0], bonafide_weight=class_weights[1])
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def loss(self, seen: DetectorOutput, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.loss`; the part is `cross_entropy`."""
        return losses(seen, cross_entropy=F.cross_entropy(seen.logits, batch.label, weight=self.class_weights))


class LabelSmoothing(Objective):
    """Cross-entropy with smoothed labels (Szegedy et al. 2016), as LivenessNet and AttackNet are trained.

    The target is 1 - smoothing on the true class, plus smoothing spread evenly over both. The schedule of Kuznetsov et
    al. is set in the training: `train.schedule: plateau` halves the learning rate when the loss on held-out source
    faces stops falling, and `train.early_stopping` ends the training.

    Args:
        detector: the detector to train.
        num_domains: ignored.
        smoothing: in [0, 1); 0.1 in the paper, 0 in its public code.
    """

    def __init__(self, detector: Detector, num_domains: int, smoothing: float = 0.1) -> None:
        super().__init__(detector, num_domains)
        check_range("[0, 1)", smoothing=smoothing)
        self.smoothing = smoothing

    def loss(self, seen: DetectorOutput, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.loss`; the part is `cross_entropy`, smoothed."""
        loss = F.cross_entropy(seen.logits, batch.label, label_smoothing=self.smoothing)
        return losses(seen, cross_entropy=loss)

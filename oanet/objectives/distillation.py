"""Distillation: a student learns the score that a teacher gives a face, whatever its label."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from oanet.batch import DetectorOutput, FaceBatch
from oanet.checks import check_range
from oanet.detectors.base import Detector
from oanet.objectives.base import Objective, losses


class Distillation(Objective):
    """Cross-entropy to the teacher's probability, both softened by a temperature (Hinton, Vinyals and Dean 2015).

    With log-odds s of the student and t of the teacher, and temperature T,

        loss = T^2 BCE(s / T, sigmoid(t / T))

    whose gradient for s keeps its size as T grows. A high T tells apart faces that the teacher is sure of; at 1 the
    loss is the cross-entropy to its score. Labels and domains are ignored. It is no objective of `train.objective`:
    the batches need `FaceBatch.teacher`.

    Args:
        detector: the student.
        temperature: T, above 0.
    """

    def __init__(self, detector: Detector, temperature: float = 2.0) -> None:
        super().__init__(detector, num_domains=1)
        check_range("(0, inf)", temperature=temperature)
        self.temperature = temperature

    def loss(self, seen: DetectorOutput, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.loss`; the part is `distillation`.

        Raises:
            ValueError: the batch holds no log-odds of a teacher.
        """
        if batch.teacher is None:
            raise ValueError("The batch holds no `teacher`, whose log-odds distillation learns.")
        return losses(seen, distillation=soft_cross_entropy(log_odds(seen), batch.teacher, self.temperature))


def log_odds(output: DetectorOutput) -> Tensor:
    """(B,) log-odds of live."""
    return output.logits[:, 1] - output.logits[:, 0]


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The loss of `Distillation` for log-odds (B,) each, a scalar."""
    target = (teacher / temperature).sigmoid()
    return temperature**2 * F.binary_cross_entropy_with_logits(student / temperature, target)

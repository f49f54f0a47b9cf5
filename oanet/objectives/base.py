"""What an objective is: the detector, the heads that its losses need, and one number to minimise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from oanet.batch import FaceBatch
from oanet.detectors.base import Detector
from oanet.output import DetectorOutput


class Objective(nn.Module, ABC):
    """Owns the detector, so that one optimiser and one checkpoint hold everything that is trained.

    Args:
        detector: what is trained; the only part that evaluation needs.
        num_domains: how many training domains there are.
    """

    def __init__(self, detector: Detector, num_domains: int) -> None:
        super().__init__()
        self.detector = detector
        self.num_domains = num_domains

    @abstractmethod
    def forward(self, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """One training step's losses.

        Args:
            batch: faces with labels and domains.
            progress: how much of the training is done, in [0, 1].

        Returns:
            `loss`, the scalar to minimise; `output`, the detector's; and every part of the loss by name,
            detached and before its factor, for the log.
        """

    def detect(self, batch: FaceBatch) -> DetectorOutput:
        """The detector's answer; the cue is handed over only where it is read."""
        return self.detector(batch.image, batch.cue if self.detector.needs_cue else None)


def check_not_negative(**factors: float) -> None:
    """Raise ValueError for a negative factor: it would reward what the loss should punish."""
    for name, value in factors.items():
        if not value >= 0:
            raise ValueError(f"{name} = {value}; it must be zero or more.")


def scalar_parts(**parts: torch.Tensor) -> dict[str, torch.Tensor]:
    """The parts without their graphs."""
    return {name: part.detach() for name, part in parts.items()}

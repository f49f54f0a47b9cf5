"""What an objective is: the detector, the heads that its losses need, and one number to minimise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from oanet.batch import FaceBatch
from oanet.detectors.base import Detector
from oanet.output import DetectorOutput


class Objective(nn.Module, ABC):
    """Owns the detector, so that one optimiser and one checkpoint hold everything that is trained.

    Args:
        detector: what is trained; the only part that evaluation needs.
        num_domains: how many training domains there are.

    Attributes:
        needs_both_labels: whether every training domain must have live faces and attacks.
        trained_maps: the detector's maps that the loss looks at.
        wanted_maps: the maps of `FaceBatch` that the loss reads where they are given.
        needed_maps: those of them that it cannot do without.
    """

    needs_both_labels: ClassVar[bool] = False
    trained_maps: tuple[str, ...] = ()
    wanted_maps: tuple[str, ...] = ()
    needed_maps: tuple[str, ...] = ()

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

    def after_step(self, progress: float) -> None:
        """Change the weights after the optimiser's step; nothing by default.

        Called on every process with equal weights, so it must be a function of them and of `progress` alone:
        no random draw, no state of its own outside parameters and buffers. Then processes stay equal, and a
        run that is resumed ends as one that was not interrupted.

        Args:
            progress: how much of the training is done with this step, in (0, 1].
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


def domain_cross_entropy(logits: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of domain logits (B, n) over faces of a training domain; zero, with its graph, without."""
    known = domain >= 0
    total = F.cross_entropy(logits[known].float(), domain[known], reduction="sum")
    return total / known.sum().clamp_min(1)

"""The base class of objectives: the detector, the heads that the losses need, and one number to minimise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from oanet.batch import DetectorOutput, FaceBatch
from oanet.detectors.base import Detector


class Objective(nn.Module, ABC):
    """Owns the detector, so that one optimiser and one checkpoint hold everything that is trained.

    Args:
        detector: the detector to train; evaluation loads it alone.
        num_domains: number of training domains.

    Attributes:
        needs_both_labels: whether every training domain must have live faces and attacks.
        trained_maps: the detector's maps that the loss reads.
        wanted_maps: the maps of `FaceBatch` that the loss reads if they are available.
        needed_maps: those it requires.
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
        """The losses of one training step.

        Args:
            batch: faces with labels and domains.
            progress: share of the training that is done, in [0, 1].

        Returns:
            `loss`, the scalar to minimise; `output`, the detector's `DetectorOutput`; and every part of the loss by
            name, detached and unweighted, for the log. See `losses`.
        """

    def after_step(self, progress: float) -> None:
        """Change the weights after the optimiser's step; does nothing by default.

        Every process calls it with equal weights. It must depend on the weights and on `progress` alone (no random
        numbers, no state outside parameters and buffers), so that processes stay equal and a resumed run ends as an
        uninterrupted one.

        Args:
            progress: share of the training that is done with this step, in (0, 1].
        """

    def detect(self, batch: FaceBatch) -> DetectorOutput:
        """The detector's output for a batch; the cue is passed only if the detector reads it."""
        return self.detector(batch.image, batch.cue if self.detector.needs_cue else None)


def losses(output: DetectorOutput, weights: Mapping[str, float] | None = None, /, **parts: Tensor) -> dict[str, Any]:
    """What `Objective.forward` returns: the weighted sum of the parts as `loss`, `output`, and the parts detached.

    Args:
        output: the detector's output.
        weights: factors by the parts' names; default: 1.
        **parts: scalar losses.
    """
    weights = weights or {}
    loss = sum(weights.get(name, 1.0) * part for name, part in parts.items())
    return {"loss": loss, "output": output, **{name: part.detach() for name, part in parts.items()}}


def domain_cross_entropy(logits: Tensor, domain: Tensor) -> Tensor:
    """Mean cross-entropy of domain logits (B, n) over faces whose domain is not -1; zero, with its graph, if none."""
    known = domain >= 0
    total = F.cross_entropy(logits[known].float(), domain[known], reduction="sum")
    return total / known.sum().clamp_min(1)


def check_protocol(detector: Detector, protocol: type, need: str, advice: str) -> None:
    """Raise ValueError unless the detector implements a `Protocol`; `need` and `advice` complete the message."""
    if isinstance(detector, protocol):
        return
    members = [name for name in (*vars(protocol), *protocol.__annotations__) if not name.startswith("_")]
    missing = ", ".join(name for name in members if not hasattr(detector, name))
    raise ValueError(f"The objective needs a detector that {need}; {detector.name!r} has no {missing}. {advice}")

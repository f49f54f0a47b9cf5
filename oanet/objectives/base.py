"""The base class of objectives: the detector, the heads that the losses need, and one number to minimise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from oanet.batch import DetectorOutput, FaceBatch
from oanet.detectors.base import Detector


class Share:
    """Which part of the global batch this process holds; here, all of it.

    With several processes, the training loop gives every objective a share that knows the others'. What an objective
    computes from gathered values is then the loss of the global batch, equal on every process.
    """

    def count(self, faces: int) -> int:
        """Faces in the global batch, of which this process has `faces`."""
        return faces

    def rows(self, drawn: Tensor) -> Tensor:
        """This process's rows of what was drawn for every face of the global batch."""
        return drawn

    def gather(self, values: Tensor) -> Tensor:
        """(B, ...) of this process -> those of all processes, in the order of the global batch, with their gradient."""
        return values


class Objective(nn.Module, ABC):
    """Owns the detector, so that one optimiser and one checkpoint hold everything that is trained.

    A training step has two halves. `observe` runs the detector over this process's faces. `loss` compares the outputs
    of the whole batch, whichever process computed them, so that losses over pairs and triplets do not depend on the
    number of processes. Random numbers are drawn for the whole batch on the CPU, in either half; `observe` takes
    its own rows of them with `share`.

    Args:
        detector: the detector to train; evaluation loads it alone.
        num_domains: number of training domains.

    Attributes:
        share: this process's part of the batch; set by the training loop.
        needs_both_labels: whether every training domain must have live faces and attacks.
        trained_maps: the detector's maps that the loss reads.
        wanted_maps: the maps of `FaceBatch` that the loss reads if they are available.
        needed_maps: those it requires.
    """

    needs_both_labels: bool = False
    trained_maps: tuple[str, ...] = ()
    wanted_maps: tuple[str, ...] = ()
    needed_maps: tuple[str, ...] = ()

    def __init__(self, detector: Detector, num_domains: int) -> None:
        super().__init__()
        self.detector = detector
        self.num_domains = num_domains
        self.share = Share()

    @property
    def observers(self) -> tuple[nn.Module, ...]:
        """The modules that `observe` runs, and which see this process's faces alone; the detector by default."""
        return (self.detector,)

    def forward(self, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """The losses of one training step.

        Args:
            batch: this process's faces with labels and domains.
            progress: share of the training that is done with this step, in (0, 1]; SSDG counts from 1, too.

        Returns:
            See `loss`; with the detector's `penalty`, if it has one, as a part.
        """
        seen = self.observe(batch)
        targets = replace(batch, image=batch.image[:0], cue=None)  # pixels need not travel
        result = self.loss(self._gathered(seen), self._gathered(targets), progress)
        penalty = self.detector.penalty()
        if penalty is not None:
            result |= {"loss": result["loss"] + penalty, "penalty": penalty.detach()}
        return result

    def observe(self, batch: FaceBatch) -> Any:
        """What the loss needs of this process's faces: the detector's output by default.

        Returns:
            Tensors whose first axis is the face, in any nesting of tuples, dicts and dataclasses.
        """
        return self.detect(batch)

    @abstractmethod
    def loss(self, seen: Any, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """The losses of the whole batch.

        Args:
            seen: what `observe` returned, of all faces.
            batch: labels, domains and maps of all faces; without pixels, cues and keys.
            progress: see `forward`.

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
            progress: see `forward`.
        """

    def detect(self, batch: FaceBatch) -> DetectorOutput:
        """The detector's output for a batch; the cue is passed only if the detector reads it."""
        return self.detector(batch.image, batch.cue if self.detector.needs_cue else None)

    def _gathered(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.share.gather(value) if len(value) else value
        if isinstance(value, tuple):
            return tuple(self._gathered(item) for item in value)
        if isinstance(value, dict):
            return {name: self._gathered(item) for name, item in value.items()}
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{field.name: self._gathered(getattr(value, field.name)) for field in fields(value)})
        return value


def losses(output: DetectorOutput, weights: Mapping[str, float] | None = None, /, **parts: Tensor) -> dict[str, Any]:
    """What `Objective.loss` returns: the weighted sum of the parts as `loss`, `output`, and the parts detached.

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
    # Every face is computed: to choose some, the host would have to wait for the device.
    total = F.cross_entropy(logits.float(), domain, reduction="sum", ignore_index=-1)
    return total / (domain >= 0).sum().clamp_min(1)


def check_protocol(detector: Detector, protocol: type, need: str, advice: str) -> None:
    """Raise ValueError unless the detector implements a `Protocol`; `need` and `advice` complete the message."""
    if isinstance(detector, protocol):
        return
    members = [name for name in (*vars(protocol), *protocol.__annotations__) if not name.startswith("_")]
    missing = ", ".join(name for name in members if not hasattr(detector, name))
    raise ValueError(f"The objective needs a detector that {need}; {detector.name!r} has no {missing}. {advice}")

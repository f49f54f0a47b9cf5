"""DGUA-FAS (Hong et al., ICIP 2023): live features near zero, and attacks that nobody has seen, made by a copycat.

A second network of the same kind learns the classes, too, while it imitates two of the detector's maps. Put in the
place of the detector's own maps, its maps are almost, but not quite, those of a face that the detector knows: features
of unknown attacks. The detector learns to be unsure of them, the more so the later the replaced map.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oanet.batch import DetectorOutput, FaceBatch
from oanet.checks import check_range
from oanet.detectors.base import Detector
from oanet.objectives.base import Objective, check_protocol, losses

# Smoothing of the labels of features with the copycat's first, second and third map: 1 is no label at all.
_UNSURE = (0.5, 0.5, 1.0)
# How many of the first maps the copycat imitates.
_IMITATED = 2


@runtime_checkable
class Replaceable(Protocol):
    """What DGUA-FAS needs of a detector; `forward` is judge(*classify(trace(image)[1]))."""

    classifier: nn.Linear

    def trace(self, image: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """(B, 3, H, W) -> three inner maps, and the last map (B, D, h, w)."""

    def resume(self, level: int, values: Tensor) -> Tensor:
        """The last map if an inner map were `values`."""

    def classify(self, last: Tensor) -> tuple[Tensor, Tensor]:
        """The last map -> features (B, D) and logits (B, 3) of `FaceBatch.kind`."""

    def judge(self, features: Tensor, kinds: Tensor) -> DetectorOutput:
        """What the detector returns for features and logits of the kinds."""


@dataclass(frozen=True)
class _Seen:
    """Of B faces: output; logits (B, 3) of the detector, of it with the copycat's maps, and of the copycat.

    length: (B,), mean absolute value of the last map. apart: (B,), distance of the copycat's maps from the detector's.
    """

    output: DetectorOutput
    kinds: Tensor
    unknown: tuple[Tensor, ...]
    copied: Tensor
    length: Tensor
    apart: Tensor


class UnknownAttacks(Objective):
    """CE of three kinds + lambda_compact * length of live faces + lambda_unknown * CE with the copycat's maps.

    The copycat's own loss, CE + mean absolute difference of two maps, is added; no gradient flows from it to the
    detector, nor from the detector's to the copycat. Each imitates, or is given the maps of, the other as it is in
    evaluation: without dropout, normalised by running statistics.

    Args:
        detector: the detector to train; see `Replaceable`. The copycat begins as its copy, with another classifier.
        num_domains: ignored.
        lambda_compact: factor of the mean absolute value of live faces' last map.
        lambda_unknown: factor of the loss of features with the copycat's maps.
        smoothing: of the labels of real features.
    """

    def __init__(
        self,
        detector: Detector,
        num_domains: int,
        lambda_compact: float = 1.0,
        lambda_unknown: float = 0.1,
        smoothing: float = 0.1,
    ) -> None:
        super().__init__(detector, num_domains)
        check_range("[0, inf)", lambda_compact=lambda_compact, lambda_unknown=lambda_unknown)
        check_range("[0, 1)", smoothing=smoothing)
        check_protocol(detector, Replaceable, "has inner maps to replace", "Use the detector 'dgua'.")
        self.weights = {"compact": lambda_compact, "unknown": lambda_unknown}
        self.smoothing = smoothing
        self.copycat = copy.deepcopy(detector)
        cast(Replaceable, self.copycat).classifier.reset_parameters()

    @property
    def observers(self) -> tuple[nn.Module, ...]:
        """See `Objective.observers`."""
        return self.detector, self.copycat

    def observe(self, batch: FaceBatch) -> _Seen:
        """The faces through both networks, and through the detector with each of the copycat's maps."""
        detector, copycat = cast(Replaceable, self.detector), cast(Replaceable, self.copycat)
        maps = _maps_in_evaluation(self.detector, batch.image)
        copies, last = copycat.trace(batch.image)
        apart = [_mean(copy - true) for copy, true in zip(copies[:_IMITATED], maps, strict=False)]
        copied = copycat.classify(last)[1]
        maps = _maps_in_evaluation(self.copycat, batch.image)
        last = detector.trace(batch.image)[1]
        features, kinds = detector.classify(last)
        return _Seen(
            output=detector.judge(features, kinds),
            kinds=kinds,
            unknown=tuple(detector.classify(detector.resume(*replaced))[1] for replaced in enumerate(maps)),
            copied=copied,
            length=_mean(last),
            apart=torch.stack(apart).mean(dim=0),
        )

    def loss(self, seen: _Seen, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.loss`; the parts are `cross_entropy`, `compact`, `unknown`, `copycat` and `imitation`.

        Raises:
            ValueError: the batch does not tell prints from other attacks.
        """
        if batch.kind is None:
            raise ValueError("The objective 'dgua' tells prints from other attacks, and the batch has no `kind`.")
        live = (batch.label == 1).float()
        unsure = [
            F.cross_entropy(kinds, batch.kind, label_smoothing=smoothing)
            for kinds, smoothing in zip(seen.unknown, _UNSURE, strict=True)
        ]
        return losses(
            seen.output,
            self.weights,
            cross_entropy=F.cross_entropy(seen.kinds, batch.kind, label_smoothing=self.smoothing),
            compact=(seen.length * live).sum() / live.sum().clamp_min(1),
            unknown=torch.stack(unsure).mean(),
            copycat=F.cross_entropy(seen.copied, batch.kind, label_smoothing=self.smoothing),
            imitation=seen.apart.mean(),
        )


@torch.no_grad()
def _maps_in_evaluation(network: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
    """A network's inner maps as in evaluation."""
    with _evaluating(network):
        return cast(Replaceable, network).trace(image)[0]


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def _mean(values: Tensor) -> Tensor:
    """(B, C, h, w) -> (B,), the mean of absolute values."""
    return values.float().abs().mean(dim=(1, 2, 3))

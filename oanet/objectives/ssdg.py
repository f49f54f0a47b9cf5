"""Single-side domain generalisation (Jia et al., CVPR 2020), the training objective of AG-FAS.

Bona fide faces of all domains should have similar features; attacks need not. An asymmetric triplet loss pulls all
bona fide faces together and keeps the attacks of every domain apart. A discriminator predicts the domain of bona fide
features, and a gradient reversal layer makes the detector remove that information.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oanet.batch import DetectorOutput, FaceBatch
from oanet.checks import check_range
from oanet.detectors.base import Detector
from oanet.objectives.base import Objective, domain_cross_entropy, losses

# Largest number of (anchor, positive, negative) triplets evaluated at once: 16 M booleans and doubles.
_TRIPLETS_AT_ONCE = 2**24


class SSDG(Objective):
    """CE + lambda_triplet * triplet + lambda_adversarial * domain CE, in a single backward pass.

    AG-FAS uses the defaults for every target; SSDG itself uses (2, 0.1) for the target OULU.

    Args:
        detector: the detector to train.
        num_domains: number of domains that the discriminator predicts.
        lambda_triplet: factor of the triplet loss.
        lambda_adversarial: factor of the adversarial loss.
        margin: of the triplet loss.
    """

    def __init__(
        self,
        detector: Detector,
        num_domains: int,
        lambda_triplet: float = 1.0,
        lambda_adversarial: float = 0.5,
        margin: float = 0.1,
    ) -> None:
        super().__init__(detector, num_domains)
        check_range("[0, inf)", lambda_triplet=lambda_triplet, lambda_adversarial=lambda_adversarial, margin=margin)
        self.weights = {"triplet": lambda_triplet, "adversarial": lambda_adversarial}
        self.margin = margin
        self.discriminator = DomainDiscriminator(detector.feature_dim, num_domains)

    def loss(self, seen: DetectorOutput, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.loss`; the parts are `cross_entropy`, `triplet` and `adversarial`."""
        cross_entropy = F.cross_entropy(seen.logits, batch.label)
        triplet = batch_all_triplet(seen.features, asymmetric_labels(batch.label, batch.domain), self.margin)
        adversarial = self._adversarial(seen.features, batch, progress)
        return losses(seen, self.weights, cross_entropy=cross_entropy, triplet=triplet, adversarial=adversarial)

    def _adversarial(self, features: Tensor, batch: FaceBatch, progress: float) -> Tensor:
        """Mean domain CE over the bona fide faces with a domain; zero, with its graph, without any."""
        reversed_features = reverse_gradient(features, reversal_coefficient(progress))
        # An attack counts like a live face of no training domain: not at all.
        domain = batch.domain.masked_fill(batch.label != 1, -1)
        return domain_cross_entropy(self.discriminator(reversed_features), domain)


class DomainDiscriminator(nn.Module):
    """Linear, ReLU, dropout 0.5, Linear: 264,195 parameters for 512 features and three domains.

    Args:
        feature_dim: width of the features.
        num_domains: number of classes.
        deviations: of the normal initial weights of both Linears, whose bias is 0; None for torch's initialisation.
    """

    def __init__(
        self, feature_dim: int, num_domains: int, deviations: tuple[float, float] | None = (0.01, 0.3)
    ) -> None:
        super().__init__()
        self.hidden = nn.Linear(feature_dim, feature_dim)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(feature_dim, num_domains)
        for layer, deviation in zip((self.hidden, self.output), deviations or (), strict=False):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, feature_dim) -> domain logits (B, num_domains)."""
        return self.output(self.dropout(F.relu(self.hidden(features))))


class _GradientReversal(torch.autograd.Function):
    """Identity forward; times -coefficient backward (Ganin and Lempitsky 2015)."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, coefficient: float) -> Tensor:
        ctx.coefficient = coefficient
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.coefficient * gradients[0], None


def reverse_gradient(features: Tensor, coefficient: float) -> Tensor:
    """The features unchanged; their gradient is multiplied by -coefficient."""
    return _GradientReversal.apply(features, coefficient)


def reversal_coefficient(progress: float) -> float:
    """2 / (1 + exp(-10 p)) - 1: 0 at the start of the training, 0.9866 half way, 0.9999 at its end."""
    return 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0


def asymmetric_labels(label: Tensor, domain: Tensor) -> Tensor:
    """(B,): 0 for every bona fide face, k + 1 for an attack of domain k."""
    return torch.where(label == 1, torch.zeros_like(domain), domain + 1)


def batch_all_triplet(features: Tensor, labels: Tensor, margin: float = 0.1) -> Tensor:
    """Mean of d(a, p) - d(a, n) + margin over all triplets of the batch where it is positive.

    d is the Euclidean distance of unnormalised features; a and p share a label, n has another. Distances and sums are
    float64: it costs little, and a float32 Gram matrix is inexact for near faces.

    The gradient of the sum with respect to a distance is the number of positive triplets with it as (a, p), minus the
    number with it as (a, n). Only these B x B counts are kept; the B^3 triplets are evaluated without a graph, some
    anchors at a time.

    Args:
        features: (B, D).
        labels: (B,).
        margin: of the hinge.

    Returns:
        A scalar of the features' dtype; zero, with its graph, where no triplet is positive.
    """
    distance = pairwise_distance(features.double())  # (B, B)
    uses = _count_uses(distance, labels, margin)
    count = uses.clamp_min(0).sum()  # every triplet has one (a, p), and only these counts are positive
    total = (uses * distance).sum() + margin * count
    return (total / count.clamp_min(1)).to(features.dtype)


def pairwise_distance(features: Tensor) -> Tensor:
    """(B, D) -> (B, B) Euclidean; at zero distance the gradient is zero, not infinite."""
    gram = features @ features.T
    square_norm = gram.diagonal()
    square = (square_norm[:, None] - 2 * gram + square_norm[None, :]).clamp_min(0)
    # Relative to the norms: the rounding error between two equal rows counts as zero.
    zero = square <= 1e-14 * (square_norm[:, None] + square_norm[None, :])
    return torch.where(zero, torch.ones_like(square), square).sqrt() * ~zero


@torch.no_grad()
def _count_uses(distance: Tensor, labels: Tensor, margin: float) -> Tensor:
    """(B, B): in how many positive triplets each distance is (a, p), minus in how many it is (a, n)."""
    size = len(labels)
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(size, dtype=torch.bool, device=labels.device)
    uses = torch.zeros_like(distance)
    anchors = max(1, _TRIPLETS_AT_ONCE // max(1, size * size))
    for start in range(0, size, anchors):
        rows = slice(start, start + anchors)
        positive, negative = (same & ~itself)[rows], ~same[rows]
        gap = distance[rows, :, None] - distance[rows, None, :] + margin  # (anchors, p, n)
        active = (gap > 0) & positive[:, :, None] & negative[:, None, :]
        uses[rows] = active.sum(dim=2).to(distance.dtype) - active.sum(dim=1).to(distance.dtype)
    return uses

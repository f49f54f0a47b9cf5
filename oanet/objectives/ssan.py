"""SSAN (Wang et al., CVPR 2022): separate content and style, shuffle the styles, and contrast.

Content should carry no domain information: a discriminator predicts the domain from it, through a gradient reversal
layer. Style should carry liveness: a face assembled from its own content and another face's style should have a
similar feature where both faces have one label, and a different one where they do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oanet.batch import DetectorOutput, FaceBatch, send
from oanet.checks import check_range
from oanet.detectors.base import Detector
from oanet.objectives.base import Objective, check_protocol, domain_cross_entropy, losses
from oanet.objectives.ssdg import DomainDiscriminator, reversal_coefficient, reverse_gradient


@runtime_checkable
class Disentangling(Protocol):
    """What SSAN needs of a detector; `forward` is classify(assemble(*disentangle(image))).

    Attributes:
        content_dim: C, channels of the content.
        released: whether the detector follows the public code instead of the paper.
        encoders: the modules that `disentangle` runs.
    """

    content_dim: int
    released: bool
    encoders: Sequence[nn.Module]

    def disentangle(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> content (B, C, h, w) and style, whose first axis is the face."""

    def assemble(self, content: Tensor, style: Tensor) -> Tensor:
        """Contents and styles of any faces -> features (B, D)."""

    def classify(self, features: Tensor) -> Tensor:
        """(B, D) -> logits (B, 2)."""


@dataclass(frozen=True)
class _Assembled:
    """Outputs of B faces, (B, D) features with foreign styles, pooled contents (B, C), and the styles' donors (B,)."""

    output: DetectorOutput
    mixed: Tensor
    content: Tensor
    donor: Tensor


class SSAN(Objective):
    """CE of self-assembly + lambda_contrastive * contrast with shuffled assembly + lambda_adversarial * domain CE.

    The public code never calls its gradient reversal, so its discriminator makes the content more informative of the
    domain, and its AdaIN blocks skip their convolutions. `released` repeats both, in objective and detector.

    Args:
        detector: the detector to train; see `Disentangling`.
        num_domains: number of domains that the discriminator predicts.
        lambda_contrastive: factor of the contrastive loss.
        lambda_adversarial: factor of the adversarial loss.
        released: follow the public code instead of the paper; the detector must have the same value.
    """

    def __init__(
        self,
        detector: Detector,
        num_domains: int,
        lambda_contrastive: float = 1.0,
        lambda_adversarial: float = 1.0,
        released: bool = False,
    ) -> None:
        super().__init__(detector, num_domains)
        check_range("[0, inf)", lambda_contrastive=lambda_contrastive, lambda_adversarial=lambda_adversarial)
        check_protocol(detector, Disentangling, "takes content and style apart", "Use the detector 'ssan_r'.")
        parts = cast(Disentangling, detector)
        if parts.released != released:
            raise ValueError(
                f"The objective 'ssan' has released = {released} and the detector released = {parts.released}."
                " Give both the same."
            )
        self.weights = {"contrastive": lambda_contrastive, "adversarial": lambda_adversarial}
        self.released = released
        _follow_twice(parts.encoders)
        self.discriminator = DomainDiscriminator(parts.content_dim, num_domains, deviations=None)

    def observe(self, batch: FaceBatch) -> _Assembled:
        """Faces with their own styles and with the styles of random others, of any process."""
        detector = cast(Disentangling, self.detector)
        content, style = detector.disentangle(batch.image)
        own = detector.assemble(content, style)  # (B, D)
        donor = send(self.share.rows(torch.randperm(self.share.count(len(own)))), own.device)
        mixed = detector.assemble(content, self.share.gather(style)[donor])
        return _Assembled(DetectorOutput(detector.classify(own), own), mixed, content.float().mean(dim=(2, 3)), donor)

    def loss(self, seen: _Assembled, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.loss`; the parts are `cross_entropy`, `contrastive` and `adversarial`."""
        same_label = batch.label == batch.label[seen.donor]
        return losses(
            seen.output,
            self.weights,
            cross_entropy=F.cross_entropy(seen.output.logits, batch.label),
            contrastive=assembly_contrast(seen.output.features, seen.mixed, same_label),
            adversarial=self._adversarial(seen.content, batch, progress),
        )

    def _adversarial(self, pooled: Tensor, batch: FaceBatch, progress: float) -> Tensor:
        """Mean domain CE over the faces of a training domain, predicted from the spatial mean of the content."""
        if not self.released:
            pooled = reverse_gradient(pooled, reversal_coefficient(progress))
        return domain_cross_entropy(self.discriminator(pooled), batch.domain)


def _follow_twice(encoders: Sequence[nn.Module]) -> None:
    """Let running statistics follow a batch as if it came twice.

    The public code encodes the faces for their contents, and once more, shuffled, for the styles: the same statistics.
    """
    for encoder in encoders:
        for layer in encoder.modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.momentum is not None:
                layer.momentum = 1 - (1 - layer.momentum) ** 2


def assembly_contrast(own: Tensor, mixed: Tensor, same_label: Tensor) -> Tensor:
    """Mean of -cos(own, mixed) where both faces have one label, and of +cos where they do not.

    The self-assembled feature is the anchor: no gradient flows into it.

    Args:
        own: (B, D), each face with its own style.
        mixed: (B, D), each face with another face's style.
        same_label: (B,) bool, whether a face and the donor of its style have the same label.
    """
    cosine = F.cosine_similarity(own.detach().float(), mixed.float(), dim=1)
    return torch.where(same_label, -cosine, cosine).mean()

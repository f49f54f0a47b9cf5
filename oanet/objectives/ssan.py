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
from oanet.objectives.depth import depth_target, predicted_map
from oanet.objectives.ssdg import DomainDiscriminator, reversal_coefficient, reverse_gradient


@runtime_checkable
class Disentangling(Protocol):
    """What SSAN needs of a detector; `forward` is judge(assemble(*disentangle(image))).

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
        """Contents and styles of any faces -> (B, D, h', w'), whose spatial mean is the feature."""

    def judge(self, assembled: Tensor) -> DetectorOutput:
        """(B, D, h', w') -> logits, features (B, D) and maps."""


@dataclass(frozen=True)
class _Assembled:
    """Outputs of B faces, (B, D) features with foreign styles, what tells the domain, and the styles' donors (B,)."""

    output: DetectorOutput
    mixed: Tensor
    content: Tensor
    donor: Tensor


class SSAN(Objective):
    """Liveness of self-assembly + lambda_contrastive * contrast with shuffled one + lambda_adversarial * domain CE.

    SSAN-R classifies: its liveness loss is the CE, and its discriminator reads the mean of the content. SSAN-M computes
    its score from a depth map: its liveness loss is the map's MSE, with the targets of `oanet.objectives.depth`, and
    its discriminator is convolutional.

    The public code never calls its gradient reversal, so its discriminator makes the content more informative of the
    domain, and its AdaIN blocks skip their convolutions. `released` repeats both, in objective and detector.

    Args:
        detector: the detector to train; see `Disentangling`. It is trained as SSAN-M if its `score_map` is `depth`.
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
        check_protocol(
            detector, Disentangling, "takes content and style apart", "Use the detector 'ssan_r' or 'ssan_m'."
        )
        parts = cast(Disentangling, detector)
        if parts.released != released:
            raise ValueError(
                f"The objective 'ssan' has released = {released} and the detector released = {parts.released}."
                " Give both the same."
            )
        self.weights = {"contrastive": lambda_contrastive, "adversarial": lambda_adversarial}
        self.released = released
        self.depth = detector.score_map == "depth"
        if self.depth:
            self.trained_maps, self.wanted_maps = ("depth",), ("depth", "mask")
        _follow_twice(parts.encoders)
        self.discriminator = (
            MapDiscriminator(parts.content_dim, num_domains)
            if self.depth
            else DomainDiscriminator(parts.content_dim, num_domains, deviations=None)
        )

    def observe(self, batch: FaceBatch) -> _Assembled:
        """Faces with their own styles and with the styles of random others, of any process."""
        detector = cast(Disentangling, self.detector)
        content, style = detector.disentangle(batch.image)
        own = detector.assemble(content, style)  # (B, D, h', w')
        donor = send(self.share.rows(torch.randperm(self.share.count(len(own)))), own.device)
        mixed = detector.assemble(content, self.share.gather(style)[donor]).mean(dim=(2, 3)).float()
        content = content.float()
        return _Assembled(detector.judge(own), mixed, content if self.depth else content.mean(dim=(2, 3)), donor)

    def loss(self, seen: _Assembled, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.loss`; the parts are `cross_entropy` or `depth`, `contrastive` and `adversarial`."""
        same_label = batch.label == batch.label[seen.donor]
        return losses(
            seen.output,
            self.weights,
            **self._liveness(seen.output, batch),
            contrastive=assembly_contrast(seen.output.features, seen.mixed, same_label),
            adversarial=self._adversarial(seen.content, batch, progress),
        )

    def _liveness(self, output: DetectorOutput, batch: FaceBatch) -> dict[str, Tensor]:
        if not self.depth:
            return {"cross_entropy": F.cross_entropy(output.logits, batch.label)}
        predicted = predicted_map(output.maps, "depth")
        return {"depth": F.mse_loss(predicted, depth_target(batch, predicted.shape[-1]))}

    def _adversarial(self, content: Tensor, batch: FaceBatch, progress: float) -> Tensor:
        """Mean domain CE over the faces of a training domain, predicted from the content or its spatial mean."""
        if not self.released:
            content = reverse_gradient(content, reversal_coefficient(progress))
        return domain_cross_entropy(self.discriminator(content), batch.domain)


class MapDiscriminator(nn.Sequential):
    """Two 3x3 convolutions of stride 2, each with BatchNorm and LeakyReLU 0.2; spatial mean; Linear.

    (B, C, h, w) -> domain logits (B, num_domains); 1,772,547 parameters for 256 channels and three domains. Its
    statistics are of the whole batch, faces of no training domain included.
    """

    def __init__(self, channels: int, num_domains: int) -> None:
        layers: list[nn.Module] = []
        for before, after in ((channels, channels), (channels, 2 * channels)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.LeakyReLU(0.2, inplace=True)]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * channels, num_domains))


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

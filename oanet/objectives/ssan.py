"""SSAN (Wang et al., CVPR 2022): take content and style apart, shuffle the styles, and contrast.

Content is to know no domain: a discriminator that reads the domain from it is fought through a gradient reversal
layer. Style is to carry liveness: a face put together from its own content and another face's style should look like
itself where both have one label, and unlike itself where they have not.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F

from oanet.batch import FaceBatch
from oanet.detectors.base import Detector
from oanet.objectives.base import Objective, check_not_negative, domain_cross_entropy, scalar_parts
from oanet.objectives.ssdg import DomainDiscriminator, reversal_coefficient, reverse_gradient
from oanet.output import DetectorOutput


@runtime_checkable
class Disentangling(Protocol):
    """What SSAN needs of a detector beside `Detector`; `forward` is classify(assemble(*disentangle(image))).

    Attributes:
        content_dim: C, channels of the content.
        released: whether it repeats the dead parts of the public code.
    """

    content_dim: int
    released: bool

    def disentangle(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, W) -> content (B, C, h, w) and style, whose first axis is the face."""

    def assemble(self, content: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """Contents and styles, of any faces -> features (B, D)."""

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D) -> logits (B, 2)."""


class SSAN(Objective):
    """CE of self-assembly + lambda_contrastive * contrast with shuffled assembly + lambda_adversarial * domain CE.

    In the public code the gradient reversal is never called, so its discriminator makes the content know the domain
    better, and its AdaIN blocks drop their convolutions. `released` repeats both; the detector must be built so, too.

    Args:
        detector: what is trained; see `Disentangling`.
        num_domains: how many domains the discriminator tells apart.
        lambda_contrastive: factor of the contrastive loss.
        lambda_adversarial: factor of the adversarial loss.
        released: behave as the public code instead of the paper.
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
        check_not_negative(lambda_contrastive=lambda_contrastive, lambda_adversarial=lambda_adversarial)
        parts = _parts(detector)
        if parts.released != released:
            raise ValueError(
                f"The objective 'ssan' was given released = {released} and the detector released = {parts.released};"
                " the public code's dead parts lie in both. Give both the same."
            )
        self.lambda_contrastive = lambda_contrastive
        self.lambda_adversarial = lambda_adversarial
        self.released = released
        self.discriminator = DomainDiscriminator(parts.content_dim, num_domains)

    def forward(self, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.forward`; the parts are `cross_entropy`, `contrastive` and `adversarial`."""
        detector = _parts(self.detector)
        content, style = detector.disentangle(batch.image)
        own = detector.assemble(content, style)  # (B, D)
        logits = detector.classify(own)
        # On the CPU, so that a seed means the same on every device.
        donor = torch.randperm(len(batch.label)).to(batch.label.device)
        mixed = detector.assemble(content, style[donor])
        cross_entropy = F.cross_entropy(logits, batch.label)
        contrastive = assembly_contrast(own, mixed, batch.label == batch.label[donor])
        adversarial = self._adversarial(content, batch, progress)
        loss = cross_entropy + self.lambda_contrastive * contrastive + self.lambda_adversarial * adversarial
        parts = scalar_parts(cross_entropy=cross_entropy, contrastive=contrastive, adversarial=adversarial)
        return {"loss": loss, "output": DetectorOutput(logits, own), **parts}

    def _adversarial(self, content: torch.Tensor, batch: FaceBatch, progress: float) -> torch.Tensor:
        """Mean domain CE over the faces of a training domain, read from the content's mean over places."""
        pooled = content.float().mean(dim=(2, 3))
        if not self.released:
            pooled = reverse_gradient(pooled, reversal_coefficient(progress))
        return domain_cross_entropy(self.discriminator(pooled), batch.domain)


def assembly_contrast(own: torch.Tensor, mixed: torch.Tensor, same_label: torch.Tensor) -> torch.Tensor:
    """Mean of -cos(own, mixed) where both faces have one label, of +cos where they have not.

    The self-assembled feature is the anchor: no gradient flows into it.

    Args:
        own: (B, D), each face with its own style.
        mixed: (B, D), each face with another's style.
        same_label: (B,) bool, whether face and donor of the style have the same label.
    """
    cosine = F.cosine_similarity(own.detach().float(), mixed.float(), dim=1)
    return torch.where(same_label, -cosine, cosine).mean()


def _parts(detector: Detector) -> Disentangling:
    """The detector as the objective needs it. Raises ValueError that says what it lacks."""
    if isinstance(detector, Disentangling):
        return detector
    wanted = ("disentangle", "assemble", "classify", "content_dim", "released")
    missing = [name for name in wanted if not hasattr(detector, name)]
    raise ValueError(
        f"The objective 'ssan' needs a detector that takes content and style apart; {detector.name!r} has no"
        f" {', '.join(missing)} (see `oanet.objectives.ssan.Disentangling`). Use the detector 'ssan_r'."
    )

"""FLIP-MCL (Srivatsan et al., ICCV 2023): FLIP-IT's cross-entropy, and two views of every face that should agree.

The views' embeddings are to be each other's nearest (SimCLR, Chen et al. 2020), and each view is to be as near to some
of its class's prompts as the other view is to the rest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from oanet.batch import FaceBatch
from oanet.detectors.base import Detector
from oanet.objectives.base import Objective, check_not_negative, scalar_parts
from oanet.objectives.sa_fas import supervised_contrast
from oanet.objectives.views import second_view
from oanet.output import DetectorOutput


@runtime_checkable
class Worded(Protocol):
    """What FLIP-MCL needs of a detector beside `Detector`.

    `forward` is compare(embed_images(image), embed_prompts()).
    """

    def embed_images(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, D)."""

    def embed_prompts(self) -> torch.Tensor:
        """(2, P, D), attack first."""

    def compare(self, images: torch.Tensor, prompts: torch.Tensor) -> DetectorOutput:
        """(B, D) and (2, P, D) -> the answer."""


class FlipMCL(Objective):
    """CE + lambda_contrastive * SimCLR + lambda_consistency * MSE of the two views' cosines with their prompts.

    The cross-entropy sees the faces as they are; both views are made of them by `oanet.objectives.views`, mirrored and
    cropped (by a square window, where the paper's varies in its sides), and in other colours. For every face the
    prompts of its class are dealt to the two views, half and half. The public code draws the first half with
    replacement and gives the second all that is left; here the halves are of one size.

    Args:
        detector: what is trained; see `Worded`.
        num_domains: not used; every objective takes it.
        lambda_contrastive: factor of SimCLR.
        lambda_consistency: factor of the mean squared difference.
        temperature: of SimCLR.
        hidden: width inside the MLP that SimCLR looks through, D -> hidden -> hidden -> projection_dim.
        projection_dim: its output's width.
        min_area: smallest area of a view's window.
        jitter: factor on the colours' changes: 0.4 of brightness, contrast and saturation and 0.1 of hue, in random
            order; at most 5, where the hue may become any.
    """

    def __init__(
        self,
        detector: Detector,
        num_domains: int,
        lambda_contrastive: float = 1.0,
        lambda_consistency: float = 1.0,
        temperature: float = 0.1,
        hidden: int = 4096,
        projection_dim: int = 256,
        min_area: float = 0.08,
        jitter: float = 1.0,
    ) -> None:
        super().__init__(detector, num_domains)
        check_not_negative(lambda_contrastive=lambda_contrastive, lambda_consistency=lambda_consistency)
        if temperature <= 0:
            raise ValueError(f"temperature = {temperature}; it must be above 0.")
        if not 0 < min_area <= 1:
            raise ValueError(f"min_area = {min_area}; it is a share of the face's area, above 0 and at most 1.")
        if not 0 <= jitter <= 5:
            raise ValueError(f"jitter = {jitter}; it must be 0 to 5.")
        _worded(detector)
        self.lambda_contrastive = lambda_contrastive
        self.lambda_consistency = lambda_consistency
        self.temperature = temperature
        self.min_area = min_area
        self.colours = v2.ColorJitter(0.4 * jitter, 0.4 * jitter, 0.4 * jitter, 0.1 * jitter)
        self.projector = projector(detector.feature_dim, hidden, projection_dim)

    def forward(self, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.forward`; the parts are `cross_entropy`, `contrastive` and `consistency`."""
        detector = _worded(self.detector)
        prompts = detector.embed_prompts()  # (2, P, D)
        output = detector.compare(detector.embed_images(batch.image), prompts)
        first, second = (detector.embed_images(self._view(batch)) for _ in range(2))
        contrastive = simclr(self.projector(first), self.projector(second), self.temperature)
        consistency = disagreement(first, second, prompts[batch.label])
        cross_entropy = F.cross_entropy(output.logits, batch.label)
        loss = cross_entropy + self.lambda_contrastive * contrastive + self.lambda_consistency * consistency
        parts = scalar_parts(cross_entropy=cross_entropy, contrastive=contrastive, consistency=consistency)
        return {"loss": loss, "output": output, **parts}

    def _view(self, batch: FaceBatch) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1]."""
        view = second_view(replace(batch, cue=None), self.min_area, max_degrees=0.0).image
        return torch.stack([self.colours((face + 1) / 2) for face in view]) * 2 - 1


def projector(dim: int, hidden: int, projection_dim: int) -> nn.Sequential:
    """Three Linears, BatchNorm and ReLU behind the first two, whose bias the norm would take out again."""
    return nn.Sequential(
        nn.Linear(dim, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, projection_dim),
    )


def simclr(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """NT-Xent of two views (B, D) each (Chen et al. 2020, Eq. 1): every face is a class of two."""
    classes = torch.arange(len(first), device=first.device).repeat(2)
    both = torch.cat([first, second]).float()
    return supervised_contrast(both, classes, temperature, base_temperature=temperature)


def deal(count: int, prompts: int) -> torch.Tensor:
    """(count, prompts) bool: for each face, which prompts go to the first view; half of them, rounded down."""
    # On the CPU, so that a seed means the same on every device.
    return torch.rand(count, prompts).argsort(dim=1) < prompts // 2


def disagreement(first: torch.Tensor, second: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of the views' cosines, each with the mean of its half of the face's own prompts.

    Args:
        first, second: (B, D), the views' embeddings.
        prompts: (B, P, D), those of each face's class.
    """
    half = deal(*prompts.shape[:2]).to(prompts.device)[:, :, None]
    one = F.cosine_similarity(first, (prompts * half).sum(dim=1), dim=1)  # a sum has the mean's direction
    other = F.cosine_similarity(second, (prompts * ~half).sum(dim=1), dim=1)
    return F.mse_loss(one, other)


def _worded(detector: Detector) -> Worded:
    """The detector as the objective needs it. Raises ValueError that says what it lacks."""
    if isinstance(detector, Worded):
        if detector.needs_cue:
            raise ValueError(
                f"The objective 'flip_mcl' compares views of a face that have no cue; this {detector.name!r} needs one."
                " Leave its option cue out, or train it by another objective, such as erm."
            )
        return detector
    missing = [name for name in ("embed_images", "embed_prompts", "compare") if not hasattr(detector, name)]
    raise ValueError(
        f"The objective 'flip_mcl' needs a detector that compares pictures with words; {detector.name!r} has no"
        f" {', '.join(missing)} (see `oanet.objectives.flip_mcl.Worded`). Use the detector 'flip_mcl' or 'flip_it'."
    )

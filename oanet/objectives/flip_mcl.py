"""FLIP-MCL (Srivatsan et al., ICCV 2023): FLIP-IT's cross-entropy, and agreement of two views of every face.

The embeddings of the two views should be each other's nearest (SimCLR, Chen et al. 2020), and each view should be as
similar to half of its class's prompts as the other view is to the other half.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from oanet.batch import DetectorOutput, FaceBatch, send
from oanet.checks import check_range
from oanet.detectors.base import Detector
from oanet.objectives.base import Objective, check_protocol, losses
from oanet.objectives.sa_fas import random_view, supervised_contrast


@runtime_checkable
class Worded(Protocol):
    """What FLIP-MCL needs of a detector; `forward` is compare(embed_images(image), embed_prompts())."""

    def embed_images(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D)."""

    def embed_prompts(self) -> Tensor:
        """(2, P, D), attack first."""

    def compare(self, images: Tensor, prompts: Tensor) -> DetectorOutput:
        """(B, D) and (2, P, D) -> the output."""


@dataclass(frozen=True)
class _Views:
    """Outputs of B faces, embeddings (B, D) of their two views, and the prompts (B, P, D) of their classes."""

    output: DetectorOutput
    first: Tensor
    second: Tensor
    prompts: Tensor


class MultimodalContrast(Objective):
    """CE + lambda_contrastive * SimCLR + lambda_consistency * MSE of the two views' cosines with their prompts.

    The cross-entropy uses the unchanged faces. The views are mirrored and cropped (by a square window; the paper varies
    its aspect ratio) and have their colours jittered. For every face, the prompts of its class are split at random
    between the two views. The public code draws the first half with replacement and gives the second view all prompts
    that are left; here both halves have one size.

    Args:
        detector: the detector to train; see `Worded`.
        num_domains: ignored.
        lambda_contrastive: factor of SimCLR.
        lambda_consistency: factor of the mean squared difference.
        temperature: of SimCLR.
        hidden: width inside SimCLR's MLP, D -> hidden -> hidden -> projection_dim.
        projection_dim: width of its output.
        min_area: smallest area of a view's window, as a share of the image.
        jitter: factor of the colour jitter, in [0, 5]: 0.4 of brightness, contrast and saturation and 0.1 of hue, in
            random order; at 5 the hue is arbitrary.
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
        check_range("[0, inf)", lambda_contrastive=lambda_contrastive, lambda_consistency=lambda_consistency)
        check_range("(0, inf)", temperature=temperature)
        check_range("(0, 1]", min_area=min_area)
        check_range("[0, 5]", jitter=jitter)
        check_protocol(detector, Worded, "compares pictures with words", "Use the detector 'flip_mcl' or 'flip_it'.")
        if detector.needs_cue:
            raise ValueError(
                f"The objective 'flip_mcl' compares views of a face that have no cue; this {detector.name!r} needs one."
                " Remove its option cue, or use another objective, such as 'erm'."
            )
        self.weights = {"contrastive": lambda_contrastive, "consistency": lambda_consistency}
        self.temperature = temperature
        self.min_area = min_area
        self.colours = v2.ColorJitter(0.4 * jitter, 0.4 * jitter, 0.4 * jitter, 0.1 * jitter)
        self.projector = projector(detector.feature_dim, hidden, projection_dim)

    def observe(self, batch: FaceBatch) -> _Views:
        """The faces with the prompts, and the embeddings of their two views."""
        detector = cast(Worded, self.detector)
        prompts = detector.embed_prompts()  # (2, P, D)
        output = detector.compare(detector.embed_images(batch.image), prompts)
        first, second = (detector.embed_images(self._view(batch)) for _ in range(2))
        return _Views(output, first, second, prompts[batch.label])

    def loss(self, seen: _Views, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.loss`; the parts are `cross_entropy`, `contrastive` and `consistency`."""
        return losses(
            seen.output,
            self.weights,
            cross_entropy=F.cross_entropy(seen.output.logits, batch.label),
            contrastive=simclr(self.projector(seen.first), self.projector(seen.second), self.temperature),
            consistency=disagreement(seen.first, seen.second, seen.prompts),
        )

    def _view(self, batch: FaceBatch) -> Tensor:
        """(B, 3, H, W) in [-1, 1]."""
        view = random_view(replace(batch, cue=None), self.min_area, 0.0, self.share).image
        drawn = [self.colours.make_params([]) for _ in range(self.share.count(len(view)))]
        mine = self.share.rows(torch.arange(len(drawn))).tolist()
        coloured = [self.colours.transform((face + 1) / 2, drawn[row]) for face, row in zip(view, mine, strict=True)]
        return torch.stack(coloured) * 2 - 1


def projector(dim: int, hidden: int, projection_dim: int) -> nn.Sequential:
    """Three Linears; BatchNorm and ReLU follow the first two, whose bias BatchNorm would cancel."""
    layers: list[nn.Module] = []
    for before in (dim, hidden):
        layers += [nn.Linear(before, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(hidden, projection_dim))


def simclr(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """NT-Xent of two views (B, D) each (Chen et al. 2020, Eq. 1): every face is a class of two."""
    classes = torch.arange(len(first), device=first.device).repeat(2)
    both = torch.cat([first, second]).float()
    return supervised_contrast(both, classes, temperature, base_temperature=temperature)


def deal(count: int, prompts: int) -> Tensor:
    """(count, prompts) bool: for each face, the prompts of its first view; half of them, rounded down."""
    return torch.rand(count, prompts).argsort(dim=1) < prompts // 2  # drawn on the CPU: one seed for every device


def disagreement(first: Tensor, second: Tensor, prompts: Tensor) -> Tensor:
    """Mean squared difference of the views' cosines, each with the mean of its half of the face's own prompts.

    Args:
        first, second: (B, D), embeddings of the views.
        prompts: (B, P, D), embeddings of the prompts of each face's class.
    """
    half = send(deal(*prompts.shape[:2]), prompts.device)[:, :, None]
    one = F.cosine_similarity(first, (prompts * half).sum(dim=1), dim=1)  # a sum has the mean's direction
    other = F.cosine_similarity(second, (prompts * ~half).sum(dim=1), dim=1)
    return F.mse_loss(one, other)

"""FLIP-MCL (Srivatsan et al., ICCV 2023): FLIP-IT's cross-entropy, and agreement of two views of every face.

The embeddings of the two views should be each other's nearest (SimCLR, Chen et al. 2020), and each view should be as
similar to half of its class's prompts as the other view is to the other half.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from oanet.batch import DetectorOutput, FaceBatch, send
from oanet.checks import check_range
from oanet.detectors.base import Detector
from oanet.objectives.base import Objective, check_protocol, losses
from oanet.objectives.sa_fas import supervised_contrast


@runtime_checkable
class Worded(Protocol):
    """What FLIP-MCL and GD-FAS need of a detector; `forward` is compare(embed_images(image), embed_prompts())."""

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

    The cross-entropy uses the unchanged faces. The views are SimCLR's, as in the public code: a window of 3:4 to 4:3,
    jittered colours (4 of 5 views), grey (1 of 5), blurred (every other one), mirrored. For every face, the prompts of
    its class are split at random between the two views.

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
        released: draw the first view's prompts with replacement and give the second all that were not drawn, as the
            public code does; else both views get half of them.
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
        released: bool = False,
    ) -> None:
        super().__init__(detector, num_domains)
        check_range("[0, inf)", lambda_contrastive=lambda_contrastive, lambda_consistency=lambda_consistency)
        check_range("(0, inf)", temperature=temperature)
        check_range("(0, 1]", min_area=min_area)
        check_range("[0, 5]", jitter=jitter)
        check_worded(detector, "flip_mcl")
        self.weights = {"contrastive": lambda_contrastive, "consistency": lambda_consistency}
        self.temperature = temperature
        self.min_area, self.released = min_area, released
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
            consistency=disagreement(seen.first, seen.second, seen.prompts, self.released),
        )

    def _view(self, batch: FaceBatch) -> Tensor:
        """(B, 3, H, W) in [-1, 1]. Each face has a seed for its draws, the same on any number of processes."""
        seeds = torch.randint(2**62, (self.share.count(len(batch.image)),))
        transform = view_of(batch.image.shape[-1], self.min_area, self.colours)
        faces = []
        with torch.random.fork_rng(devices=[]):
            for face, seed in zip((batch.image + 1) / 2, self.share.rows(seeds).tolist(), strict=True):
                torch.random.default_generator.manual_seed(seed)
                faces.append(transform(face))
        return torch.stack(faces) * 2 - 1


def check_worded(detector: Detector, objective: str) -> None:
    """Raise ValueError unless the detector is `Worded` and without a cue."""
    advice = "Use the detector 'flip_it', 'flip_mcl' or 'gd_fas'."
    check_protocol(detector, Worded, "compares pictures with words", advice)
    if detector.needs_cue:
        raise ValueError(
            f"The objective {objective!r} compares views of a face that have no cue; this {detector.name!r} needs one."
            " Remove its option cue, or use another objective, such as 'erm'."
        )


def view_of(side: int, min_area: float, colours: v2.Transform) -> v2.Transform:
    """A random view of a face (3, H, W) in [0, 1], (3, side, side).

    The blur's deviation is 0.1 to 2 pixels of 224; at other sides it is that part of the face.
    """
    scale = side / 224
    blur = v2.GaussianBlur(2 * round(6 * scale) + 1, (0.1 * scale, 2.0 * scale))
    return v2.Compose(
        [
            v2.RandomResizedCrop(side, scale=(min_area, 1.0), antialias=True),
            v2.RandomApply([colours], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.RandomApply([blur], p=0.5),
            v2.RandomHorizontalFlip(),
        ]
    )


def projector(dim: int, hidden: int, projection_dim: int, last_normalized: bool = False) -> nn.Sequential:
    """Three Linears; BatchNorm and ReLU follow the first two, or all, whose bias BatchNorm would cancel."""
    sizes = list(itertools.pairwise((dim, hidden, hidden, projection_dim)))
    layers: list[nn.Module] = []
    for before, after in sizes if last_normalized else sizes[:-1]:
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *([] if last_normalized else [nn.Linear(hidden, projection_dim)]))


def simclr(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """NT-Xent of two views (B, D) each (Chen et al. 2020, Eq. 1): every face is a class of two."""
    classes = torch.arange(len(first), device=first.device).repeat(2)
    both = torch.cat([first, second]).float()
    return supervised_contrast(both, classes, temperature, base_temperature=temperature)


def deal(count: int, prompts: int, released: bool = False) -> tuple[Tensor, Tensor]:
    """For each of `count` faces, how often either view is given each prompt of its class, (count, prompts) each.

    Half of the prompts, rounded down, and the others; or, released, as many drawn with replacement, and those that were
    not drawn.
    """
    if released:
        drawn = torch.randint(prompts, (count, prompts // 2))
        first = F.one_hot(drawn, prompts).sum(dim=1)
        return first, (first == 0).long()
    half = (torch.rand(count, prompts).argsort(dim=1) < prompts // 2).long()
    return half, 1 - half


def disagreement(first: Tensor, second: Tensor, prompts: Tensor, released: bool = False) -> Tensor:
    """Mean squared difference of the views' cosines, each with the mean of its part of the face's own prompts.

    Args:
        first, second: (B, D), embeddings of the views.
        prompts: (B, P, D), embeddings of the prompts of each face's class.
        released: see `deal`.
    """
    # Drawn on the CPU: one seed for every device. A sum has the mean's direction.
    count, number = prompts.shape[:2]
    dealt = (send(part, prompts.device)[:, :, None] for part in deal(count, number, released))
    one, other = (
        F.cosine_similarity(view, (prompts * part).sum(dim=1), dim=1)
        for view, part in zip((first, second), dealt, strict=True)
    )
    return F.mse_loss(one, other)

"""SA-FAS (Sun et al., CVPR 2023): domains stay separate in the features, and share one live-to-attack direction.

Supervised contrast makes a cluster of every domain's live faces and of its attacks (separability). Every domain has a
logistic head. After the optimiser's step, each head is rotated a little towards the head most different from it
(alignment, the paper's PG-IRM), until they agree on one boundary. The score is the mean of their probabilities.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from oanet.batch import DetectorOutput, FaceBatch, send
from oanet.checks import check_range
from oanet.detectors.base import Detector
from oanet.head import DomainHeads, Head, unnormalize_feature
from oanet.objectives.base import Objective, Share, losses


class SAFAS(Objective):
    """Mean over domains of BCE of the domain's head + lambda_contrastive * supervised contrast of two views.

    `random_view` makes two views of every face, which both enter both losses. The heads read the feature before its
    normalisation, as in the public code. An extra live face of no training domain (-1) is trained on every head, and is
    a class of its own in the contrast.

    Args:
        detector: the detector to train; its head of `oanet.head` is given a classifier per domain.
        num_domains: number of heads.
        lambda_contrastive: factor of the contrastive loss.
        temperature: of the contrastive loss.
        base_temperature: the loss is multiplied by temperature / base_temperature (Khosla et al. 2020).
        alignment: share of itself that a head's direction keeps in each alignment, a; 1 turns alignment off.
        alignment_start: share of the training after which heads are aligned; 20 of 100 epochs in the paper.
        min_area: smallest area of a view's window, as a share of the image.
        max_degrees: largest rotation of a view.
    """

    needs_both_labels = True

    def __init__(
        self,
        detector: Detector,
        num_domains: int,
        lambda_contrastive: float = 0.1,
        temperature: float = 0.1,
        base_temperature: float = 0.07,
        alignment: float = 0.995,
        alignment_start: float = 0.2,
        min_area: float = 0.2,
        max_degrees: float = 180.0,
    ) -> None:
        super().__init__(detector, num_domains)
        check_range("[0, inf)", lambda_contrastive=lambda_contrastive, max_degrees=max_degrees)
        check_range("(0, inf)", temperature=temperature, base_temperature=base_temperature)
        check_range("[0, 1]", alignment=alignment, alignment_start=alignment_start)
        check_range("(0, 1]", min_area=min_area)
        self.weights = {"contrastive": lambda_contrastive}
        self.temperatures = (temperature, base_temperature)
        self.alignment, self.alignment_start = alignment, alignment_start
        self.window = (min_area, max_degrees)
        detector.use_domain_heads(num_domains)

    @property
    def heads(self) -> DomainHeads:
        """The detector's heads."""
        return cast(DomainHeads, cast(Head, self.detector.head).classifier)

    def observe(self, batch: FaceBatch) -> tuple[DetectorOutput, Tensor]:
        """The first view's output and the second view's features."""
        first, second = (random_view(batch, *self.window, self.share) for _ in range(2))
        both = self.detect(_stack(first, second))
        size = len(batch.label)
        return DetectorOutput(both.logits[:size], both.features[:size]), both.features[size:]

    def loss(self, seen: tuple[DetectorOutput, Tensor], batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.loss`; the parts are `domain_bce` and `contrastive`; `output` is the first view's."""
        first, second = seen
        features = torch.cat([first.features, second])
        label, domain = batch.label.repeat(2), batch.domain.repeat(2)
        classes = (domain + 1) * 2 + label  # domain -1 gives 1, a class of its own
        return losses(
            first,
            self.weights,
            domain_bce=domain_binary_cross_entropy(self.heads(unnormalize_feature(features)), label, domain),
            contrastive=supervised_contrast(features, classes, *self.temperatures),
        )

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Align the heads, once `alignment_start` of the training is done."""
        if progress > self.alignment_start:
            weight = self.heads.linear.weight
            weight.copy_(align_heads(weight, self.alignment))


def align_heads(weight: Tensor, keep: float) -> Tensor:
    """One projection of PG-IRM: each head's direction moves towards that of the head most different from it.

    u_i <- unit(keep * u_i + (1 - keep) * u_far(i)), where far(i) has the smallest cosine with i; norms are unchanged.
    All heads move at once, so that their order does not matter.

    Args:
        weight: (n, D), one head per row.
        keep: a, in [0, 1].

    Returns:
        (n, D).
    """
    if len(weight) < 2:
        return weight.clone()
    norm = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    unit = weight / norm.clamp_min(1e-12)
    furthest = (unit @ unit.T).argmin(dim=1)
    return F.normalize(keep * unit + (1 - keep) * unit[furthest], dim=1) * norm


def domain_binary_cross_entropy(log_odds: Tensor, label: Tensor, domain: Tensor) -> Tensor:
    """Mean over the heads of the mean BCE of a head on its domain's faces, which is zero if the batch has none.

    Args:
        log_odds: (B, n) of n heads.
        label: (B,), 1 bona fide.
        domain: (B,) in [0, n), or -1 for a face that counts for every head.
    """
    target = label.to(log_odds.dtype)[:, None].expand_as(log_odds)
    every = F.binary_cross_entropy_with_logits(log_odds, target, reduction="none")  # (B, n)
    heads = torch.arange(log_odds.shape[1], device=domain.device)
    used = (domain[:, None] == heads) | (domain[:, None] < 0)  # (B, n)
    count = used.sum(dim=0)
    means = (every * used).sum(dim=0) / count.clamp_min(1)
    return means.mean()


def supervised_contrast(
    features: Tensor, classes: Tensor, temperature: float = 0.1, base_temperature: float = 0.07
) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, Eq. 2) of unit vectors.

    Per face: minus the mean, over the other faces of its class, of the log-softmax of their similarity among all other
    faces. The mean over all faces with another face of their class, times temperature / base_temperature; zero, with
    its graph, where there is none.

    Args:
        features: (N, D).
        classes: (N,).
    """
    unit = F.normalize(features, dim=1)
    return temperature / base_temperature * contrast(unit @ unit.T / temperature, classes)


def contrast(similarity: Tensor, classes: Tensor) -> Tensor:
    """`supervised_contrast` of any similarities (N, N), already divided by a temperature."""
    itself = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    # No face is its own positive, nor in the softmax's denominator.
    log_share = similarity.masked_fill(itself, -torch.inf).log_softmax(dim=1).masked_fill(itself, 0.0)
    positive = (classes[:, None] == classes[None, :]) & ~itself
    count = positive.sum(dim=1)
    per_face = -(log_share * positive).sum(dim=1) / count.clamp_min(1)
    return per_face.sum() / (count > 0).sum().clamp_min(1)


def _stack(first: FaceBatch, second: FaceBatch) -> FaceBatch:
    """Both batches as one of 2B faces, without maps."""
    pairs = [(first.image, second.image), (first.label, second.label), (first.domain, second.domain)]
    image, label, domain = (torch.cat(pair) for pair in pairs)
    cue = None if first.cue is None or second.cue is None else torch.cat([first.cue, second.cue])
    return FaceBatch(image, cue, label, domain, [*first.key, *second.key])


def random_view(batch: FaceBatch, min_area: float, max_degrees: float, share: Share | None = None) -> FaceBatch:
    """A random square window of each face, of image and cue alike, resized to the batch's size; without the maps.

    The face is turned about its centre, cropped and mirrored, as torchvision does. Torch's global random stream decides
    the rotation (uniform within max_degrees either way), the window's area (uniform in [min_area, 1] of the image's)
    and place, and mirroring (probability 1/2). Outside the face the image is black, and the cue 0.

    Args:
        batch: B faces.
        min_area: in (0, 1].
        max_degrees: 0 to 180.
        share: of the batch in the global one, for which the windows are drawn. Default: all of it.
    """
    share = share or Share()
    drawn = random_windows(share.count(len(batch.label)), min_area, max_degrees)
    window = send(share.rows(drawn), batch.image.device)
    cue = None if batch.cue is None else sample_windows(batch.cue, window)
    image = sample_windows(batch.image + 1, window) - 1
    return replace(batch, image=image, cue=cue, depth=None, reflection=None, mask=None, patches=None)


def random_windows(count: int, min_area: float, max_degrees: float) -> Tensor:
    """(count, 2, 3): affine maps from positions in the view to positions in the image, both in [-1, 1]."""
    mirror, area, turn, column, row = torch.rand(5, count)
    scale = (min_area + (1 - min_area) * area).sqrt()
    angle = (2 * turn - 1) * math.radians(max_degrees)
    sign = torch.where(mirror < 0.5, -1.0, 1.0)
    x, y = ((2 * place - 1) * (1 - scale) for place in (column, row))  # in the turned image
    across = torch.stack([sign * scale * angle.cos(), -scale * angle.sin(), x * angle.cos() - y * angle.sin()], dim=1)
    down = torch.stack([sign * scale * angle.sin(), scale * angle.cos(), x * angle.sin() + y * angle.cos()], dim=1)
    return torch.stack([across, down], dim=1)


def sample_windows(image: Tensor, window: Tensor) -> Tensor:
    """Crop (B, C, H, W) by windows (B, 2, 3) and resize to (H, W); bilinear, 0 outside."""
    grid = F.affine_grid(window, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid.to(image.dtype), mode="bilinear", align_corners=False)

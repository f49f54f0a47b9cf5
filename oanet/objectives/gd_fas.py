"""GD-FAS (Jung et al., ICCV 2025): one threshold for all domains, and one direction from attack to live.

A group is the live faces or the attacks of one domain. Harder groups weigh more in the cross-entropy of picture and
words (GS-RM), so that no domain's threshold stays behind. What the words do not explain of a face's embedding tells
the domains apart (FOD), so that what they explain need not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oanet.batch import DetectorOutput, FaceBatch
from oanet.checks import check_range
from oanet.detectors.base import Detector
from oanet.objectives.base import Objective, losses
from oanet.objectives.flip_mcl import Worded, check_worded, projector, simclr
from oanet.objectives.sa_fas import contrast, random_view


@dataclass(frozen=True)
class _View:
    """One view of B faces: output, embeddings (B, D), and what of them the words do not explain (B, D)."""

    output: DetectorOutput
    embedding: Tensor
    unexplained: Tensor


class GroupScaling(Objective):
    """GS-RM + lambda_domain * FOD + lambda_contrastive * SimCLR + CE of a head beside the words.

    Two views of every face enter all four: turned, cropped and mirrored by `random_view`. The head and SimCLR read the
    embedding through an MLP; both leave with the objective, and the score is that of the words. An extra live face of
    no training domain (-1) belongs to one more group, and to one more domain of FOD.

    Args:
        detector: the detector to train; see `oanet.objectives.flip_mcl.Worded`.
        num_domains: sets how gently GS-RM tells groups apart, alpha = ln(num_domains) / 2; one domain counts as two.
        lambda_domain: factor of FOD.
        lambda_contrastive: factor of SimCLR.
        temperature: of FOD; in the public code 0.1 for the targets M and C, 1.1 for I and 1.0 for O.
        contrastive_temperature: of SimCLR.
        spread: beta; GS-RM's factors lie between 1 - beta / 2 and 1 + beta / 2.
        hidden: width inside the MLP, D -> hidden -> hidden -> projection_dim.
        projection_dim: width of its output.
        min_area: smallest area of a view's window, as a share of the image.
        max_degrees: largest rotation of a view.
        released: divide FOD by the number of other views in the batch, as the public code does: with its 192 views, the
            factor 0.8 acts as 0.0042.
    """

    def __init__(
        self,
        detector: Detector,
        num_domains: int,
        lambda_domain: float = 0.8,
        lambda_contrastive: float = 0.1,
        temperature: float = 0.1,
        contrastive_temperature: float = 0.8,
        spread: float = 1.5,
        hidden: int = 4096,
        projection_dim: int = 256,
        min_area: float = 0.9,
        max_degrees: float = 180.0,
        released: bool = False,
    ) -> None:
        super().__init__(detector, num_domains)
        check_range("[0, inf)", lambda_domain=lambda_domain, lambda_contrastive=lambda_contrastive)
        check_range("(0, inf)", temperature=temperature, contrastive_temperature=contrastive_temperature)
        check_range("[0, 2]", spread=spread)
        check_range("(0, 1]", min_area=min_area)
        check_range("[0, 180]", max_degrees=max_degrees)
        check_worded(detector, "gd_fas")
        self.weights = {"domain": lambda_domain, "contrastive": lambda_contrastive}
        self.temperature, self.contrastive_temperature = temperature, contrastive_temperature
        self.softness, self.spread = math.log(max(num_domains, 2)) / 2, spread
        self.window, self.released = (min_area, max_degrees), released
        self.projector = projector(detector.feature_dim, hidden, projection_dim, last_normalized=True)
        self.classifier = nn.Linear(projection_dim, 2)

    def observe(self, batch: FaceBatch) -> tuple[_View, _View]:
        """Both views of the faces, compared with the prompts as they are now."""
        detector = cast(Worded, self.detector)
        views = [random_view(batch, *self.window, self.share).image for _ in range(2)]
        images, prompts = detector.embed_images(torch.cat(views)), detector.embed_prompts()
        halves = zip(images.chunk(2), residual(images, prompts.mean(dim=1)).chunk(2), strict=True)
        first, second = (_View(detector.compare(image, prompts), image, rest) for image, rest in halves)
        return first, second

    def loss(self, seen: tuple[_View, _View], batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.loss`; the parts are `groups`, `domain`, `contrastive` and `cross_entropy`.

        `output` is the first view's.
        """
        label, domain = batch.label.repeat(2), batch.domain.repeat(2)
        logits = torch.cat([view.output.logits for view in seen])
        per_view = F.cross_entropy(logits, label, reduction="none")
        groups = (domain + 1) * 2 + label  # those of domain -1 come first
        projected = self.projector(torch.cat([view.embedding for view in seen]))
        one, other = projected.chunk(2)
        return losses(
            seen[0].output,
            self.weights,
            groups=scaled_by_group(per_view, groups, 2 * (self.num_domains + 1), self.softness, self.spread),
            domain=self._domain(torch.cat([view.unexplained for view in seen]), domain),
            contrastive=simclr(one, other, self.contrastive_temperature),
            cross_entropy=F.cross_entropy(self.classifier(projected).float(), label),
        )

    def _domain(self, unexplained: Tensor, domain: Tensor) -> Tensor:
        """FOD: supervised contrast of domains. Long vectors, so that bfloat16 would round away what it compares."""
        with torch.autocast(unexplained.device.type, enabled=False):
            similarity = unexplained @ unexplained.T / self.temperature
            loss = contrast(similarity, domain)
        return loss / (len(domain) - 1) if self.released else loss


def residual(images: Tensor, words: Tensor) -> Tensor:
    """(B, D) minus its projection on the plane of two vectors (2, D), which is held fixed: no gradient goes through it.

    Its basis is Gram and Schmidt's, the attack's vector first. Of two parallel vectors the first alone counts.
    """
    with torch.autocast(images.device.type, enabled=False):
        with torch.no_grad():
            first = F.normalize(words[0].float(), dim=0)
            second = F.normalize(words[1].float() - (words[1].float() @ first) * first, dim=0, eps=1e-6)
            basis = torch.stack([first, second])
            explained = images.float() @ basis.T @ basis
        return images.float() - explained


def scaled_by_group(per_face: Tensor, groups: Tensor, count: int, softness: float, spread: float) -> Tensor:
    """Sum over the groups of s(z) l, where a group's l is its part of the mean loss (GS-RM).

    z standardises l among the groups that have faces (deviation of the population; held fixed), and
    s(z) = 1 + spread * (1 / (1 + exp(-z / softness)) - 1 / 2).

    Args:
        per_face: (N,), the losses of the faces.
        groups: (N,) in [0, count).
        count: number of groups, of which some may have no faces.
        softness: alpha; the larger, the later s reaches its bounds.
        spread: beta; their distance.
    """
    member = groups[:, None] == torch.arange(count, device=groups.device)
    part = (per_face[:, None] * member).sum(dim=0) / len(per_face)  # (count,)
    with torch.no_grad():
        present = member.any(dim=0)
        number = present.sum()
        deviation = (part - part.sum() / number) * present
        z = deviation / (deviation.square().sum() / number).sqrt().clamp_min(1e-12)
        scale = 1 + spread * ((z / softness).sigmoid() - 0.5)
    return (scale * part).sum()

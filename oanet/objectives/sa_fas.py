"""SA-FAS (Sun et al., CVPR 2023): keep the domains apart in the features, and let one direction tell live in all.

Supervised contrast makes a cluster of every domain's live faces and of its attacks (separability). Every domain has
a logistic head of its own, and after the optimiser's step each head is turned a little towards the one that differs
most from it (alignment, the paper's PG-IRM), until they agree on one boundary. The score is their mean probability.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F

from oanet.batch import FaceBatch
from oanet.detectors.base import Detector
from oanet.head import DomainHeads, LinearHead, LivenessHead
from oanet.objectives.base import Objective, check_not_negative, scalar_parts
from oanet.objectives.views import second_view
from oanet.output import DetectorOutput


class SAFAS(Objective):
    """Mean over domains of BCE of the domain's head + lambda_contrastive * supervised contrast of two views.

    The batch gives one view of a face (mirrored and shifted as the training says); the second is made of it, see
    `oanet.objectives.views`. Both views enter both losses.

    An extra live face that belongs to no training domain (domain -1) goes to every head, and is a class of its own
    in the contrast.

    Args:
        detector: what is trained; it must end in a head of `oanet.head`, whose classifier is exchanged for the heads.
        num_domains: how many heads.
        lambda_contrastive: factor of the contrastive loss.
        temperature: of the contrastive loss.
        base_temperature: the loss is multiplied by temperature / base_temperature (Khosla et al. 2020).
        alignment: share of itself that a head's direction keeps in each alignment, a; 1 aligns nothing.
        alignment_start: share of the training after which heads are aligned; 20 of 100 epochs in the paper.
        min_area: smallest area of the second view's window.
        max_degrees: furthest turn of the second view.
    """

    needs_both_labels: ClassVar[bool] = True

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
        check_not_negative(lambda_contrastive=lambda_contrastive, max_degrees=max_degrees)
        for name, value in (("temperature", temperature), ("base_temperature", base_temperature)):
            if not value > 0:
                raise ValueError(f"{name} = {value}; it must be above zero.")
        for name, value in (("alignment", alignment), ("alignment_start", alignment_start)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} = {value}; it is a share, from 0 to 1.")
        if not 0 < min_area <= 1:
            raise ValueError(f"min_area = {min_area}; it is a share of the face, above 0 and at most 1.")
        self.lambda_contrastive = lambda_contrastive
        self.temperature = temperature
        self.base_temperature = base_temperature
        self.alignment = alignment
        self.alignment_start = alignment_start
        self.min_area = min_area
        self.max_degrees = max_degrees
        detector.use_domain_heads(num_domains)

    @property
    def heads(self) -> DomainHeads:
        """The detector's heads."""
        return cast(DomainHeads, cast(LivenessHead | LinearHead, self.detector.head).classifier)

    def forward(self, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.forward`; the parts are `domain_bce` and `contrastive`; `output` is the first view's."""
        views = _stack(batch, second_view(batch, self.min_area, self.max_degrees))
        both = self.detect(views)
        domain_bce = domain_binary_cross_entropy(self.heads(both.features), views.label, views.domain)
        classes = (views.domain + 1) * 2 + views.label
        contrastive = supervised_contrast(both.features, classes, self.temperature, self.base_temperature)
        size = len(batch.label)
        output = DetectorOutput(both.logits[:size], both.features[:size])
        loss = domain_bce + self.lambda_contrastive * contrastive
        parts = scalar_parts(domain_bce=domain_bce, contrastive=contrastive)
        return {"loss": loss, "output": output, **parts}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Turn the heads towards each other, once `alignment_start` of the training is done."""
        if progress > self.alignment_start:
            weight = self.heads.linear.weight
            weight.copy_(align_heads(weight, self.alignment))


def align_heads(weight: torch.Tensor, keep: float) -> torch.Tensor:
    """One step of PG-IRM's projection: each head's direction moves towards that of the head most different from it.

    u_i <- unit(keep * u_i + (1 - keep) * u_far(i)), where far(i) has the smallest cosine with i; the norms stay. All
    heads move at once, from the directions that they had, so that their order does not matter.

    Args:
        weight: (n, D), a head per row.
        keep: a, in [0, 1].

    Returns:
        (n, D); the same where there is one head.
    """
    if len(weight) < 2:
        return weight.clone()
    norm = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    unit = weight / norm.clamp_min(1e-12)
    furthest = (unit @ unit.T).argmin(dim=1)
    return F.normalize(keep * unit + (1 - keep) * unit[furthest], dim=1) * norm


def domain_binary_cross_entropy(log_odds: torch.Tensor, label: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
    """Mean over the domains in the batch of the mean BCE of the domain's head on the domain's faces.

    Args:
        log_odds: (B, n) of n heads.
        label: (B,), 1 bona fide.
        domain: (B,) in [0, n), or -1 for a face that every head judges.
    """
    target = label.to(log_odds.dtype)[:, None].expand_as(log_odds)
    every = F.binary_cross_entropy_with_logits(log_odds, target, reduction="none")  # (B, n)
    heads = torch.arange(log_odds.shape[1], device=domain.device)
    judged = (domain[:, None] == heads) | (domain[:, None] < 0)  # (B, n)
    count = judged.sum(dim=0)
    means = (every * judged).sum(dim=0) / count.clamp_min(1)
    return means.sum() / (count > 0).sum().clamp_min(1)


def supervised_contrast(
    features: torch.Tensor, classes: torch.Tensor, temperature: float = 0.1, base_temperature: float = 0.07
) -> torch.Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, Eq. 2), on unit vectors.

    For each face, minus the mean over the other faces of its class of the log-softmax of their similarity among all
    other faces; the mean of that over the faces that have another of their class, times temperature /
    base_temperature. Zero, with its graph, where none has.

    Args:
        features: (N, D).
        classes: (N,).
    """
    unit = F.normalize(features, dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    similarity = (unit @ unit.T / temperature).masked_fill(itself, -torch.inf)
    log_share = similarity.log_softmax(dim=1).masked_fill(itself, 0.0)
    positive = (classes[:, None] == classes[None, :]) & ~itself
    count = positive.sum(dim=1)
    per_face = -(log_share * positive).sum(dim=1) / count.clamp_min(1)
    return temperature / base_temperature * per_face.sum() / (count > 0).sum().clamp_min(1)


def _stack(first: FaceBatch, second: FaceBatch) -> FaceBatch:
    """Both batches as one of 2B faces."""
    cue = None if first.cue is None or second.cue is None else torch.cat([first.cue, second.cue])
    return FaceBatch(
        image=torch.cat([first.image, second.image]),
        cue=cue,
        label=torch.cat([first.label, second.label]),
        domain=torch.cat([first.domain, second.domain]),
        key=[*first.key, *second.key],
    )

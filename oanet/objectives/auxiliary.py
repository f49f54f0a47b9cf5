"""Auxiliary supervision: liveness plus any subset of depth, reflection, face mask and domain.

A live face has relief (Liu et al. 2018); a print or a screen reflects (Kim et al. 2019, "BASN"). No paper gives weights
for the sum. The defaults are 1 for cross-entropy and depth (with its contrastive part); a reflection weight of 0.1 to
0.5 is reasonable.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from oanet.batch import DetectorOutput, FaceBatch
from oanet.checks import check_name, check_range
from oanet.detectors.base import Detector
from oanet.objectives.base import Objective, domain_cross_entropy, losses
from oanet.objectives.depth import check_predicts, depth_losses, face_ellipse, predicted_map
from oanet.objectives.ssdg import DomainDiscriminator, reversal_coefficient, reverse_gradient
from oanet.trunks import resize_map

REFLECTION_TARGETS = ("given", "ellipse")


class AuxiliarySupervision(Objective):
    """Weighted sum of cross-entropy and auxiliary losses; a part with weight 0 is left out.

    Targets: depth as in `oanet.objectives.depth`. Reflection: the batch's maps, zero for live faces; or, with
    `reflection_target: ellipse`, a pseudo-target without any measurement: one inside an attack's face, zero elsewhere.
    Mask: the batch's face masks, of live faces and attacks alike. Domain: the training domain, which a discriminator
    predicts from the feature through a gradient reversal layer.

    Args:
        detector: the detector to train; it must predict a map for each of depth, reflection and mask with a weight.
        num_domains: number of domains that the discriminator predicts.
        lambda_cross_entropy: weight of the liveness cross-entropy.
        lambda_depth: weight of depth's MSE and contrastive loss.
        lambda_reflection: weight of the reflection map's MSE.
        lambda_mask: weight of the mask's binary cross-entropy.
        lambda_domain: weight of the domain's cross-entropy.
        reflection_target: `given` or `ellipse`.
    """

    def __init__(
        self,
        detector: Detector,
        num_domains: int,
        lambda_cross_entropy: float = 1.0,
        lambda_depth: float = 1.0,
        lambda_reflection: float = 0.0,
        lambda_mask: float = 0.0,
        lambda_domain: float = 0.0,
        reflection_target: str = "given",
    ) -> None:
        super().__init__(detector, num_domains)
        check_name("reflection_target", reflection_target, REFLECTION_TARGETS)
        self.weights = {
            "cross_entropy": lambda_cross_entropy,
            "depth": lambda_depth,
            "contrastive_depth": lambda_depth,
            "reflection": lambda_reflection,
            "mask": lambda_mask,
            "domain": lambda_domain,
        }
        check_range("[0, inf)", **{f"lambda_{part}": weight for part, weight in self.weights.items()})
        self.reflection_target = reflection_target
        self.trained_maps = tuple(name for name in ("depth", "reflection", "mask") if self.weights[name] > 0)
        for name in self.trained_maps:
            check_predicts(detector, name, f"The objective 'auxiliary' with lambda_{name} = {self.weights[name]}")
        self.wanted_maps, self.needed_maps = self._maps()
        self.discriminator = DomainDiscriminator(detector.feature_dim, num_domains) if lambda_domain > 0 else None

    def loss(self, seen: DetectorOutput, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.loss`; the parts are those with a weight, and `contrastive_depth` with `depth`."""
        parts = {"cross_entropy": F.cross_entropy(seen.logits, batch.label)}
        if "depth" in self.trained_maps:
            parts["depth"], parts["contrastive_depth"] = depth_losses(predicted_map(seen.maps, "depth"), batch)
        if "reflection" in self.trained_maps:
            predicted = predicted_map(seen.maps, "reflection")
            parts["reflection"] = F.mse_loss(predicted, self._reflection(batch, predicted.shape[-1]))
        if "mask" in self.trained_maps:
            parts["mask"] = mask_loss(predicted_map(seen.maps, "mask"), batch)
        if self.discriminator is not None:
            features = reverse_gradient(seen.features, reversal_coefficient(progress))
            parts["domain"] = domain_cross_entropy(self.discriminator(features), batch.domain)
        return losses(seen, self.weights, **parts)

    def _maps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The batch's maps that are read if available, and those that are required."""
        needed = [name for name in ("mask",) if name in self.trained_maps]
        if "reflection" in self.trained_maps and self.reflection_target == "given":
            needed.append("reflection")
        wanted = {*needed, *(("depth", "mask") if "depth" in self.trained_maps else ())}
        return tuple(sorted(wanted)), tuple(needed)

    def _reflection(self, batch: FaceBatch, side: int) -> Tensor:
        """(B, 1, side, side): zero for live faces."""
        attack = (batch.label == 0).view(-1, 1, 1, 1)
        if self.reflection_target == "ellipse":
            return face_ellipse(side, batch.label.device) * attack
        if batch.reflection is None:
            raise ValueError(
                "lambda_reflection is above 0, but the batch has no reflection maps. Set train.reflection_maps, or use"
                " the pseudo-target reflection_target = ellipse."
            )
        return resize_map(batch.reflection, side) * attack


def mask_loss(predicted: Tensor, batch: FaceBatch) -> Tensor:
    """Mean binary cross-entropy of predicted masks (B, 1, h, h) in [0, 1] and the batch's masks.

    Raises:
        ValueError: the batch has no masks.
    """
    if batch.mask is None:
        raise ValueError(
            "lambda_mask is above 0, but the faces have no masks. Prepare the dataset with"
            " `agfas prepare ... --parsing-weights FILE`, or set lambda_mask to 0."
        )
    with torch.autocast(predicted.device.type, enabled=False):  # binary_cross_entropy refuses autocast
        return F.binary_cross_entropy(predicted, resize_map(batch.mask, predicted.shape[-1]))

"""Auxiliary supervision: liveness beside depth, reflection, face mask and domain, any subset of them.

What a face is made of shows in more than a label: a live face has relief (Liu et al. 2018), a print or a screen
reflects (Kim et al. 2019, "BASN"). No paper gives weights for the sum; the defaults here are cross-entropy 1 and
depth 1 with its contrastive part, and a reflection weight of 0.1 to 0.5 is reasonable.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from oanet.batch import FaceBatch
from oanet.detectors.base import Detector
from oanet.names import check_name
from oanet.objectives.base import Objective, check_not_negative, domain_cross_entropy, scalar_parts
from oanet.objectives.depth import check_predicts, depth_losses, face_ellipse, predicted_map, resize_map
from oanet.objectives.ssdg import DomainDiscriminator, reversal_coefficient, reverse_gradient

REFLECTION_TARGETS = ("given", "ellipse")


class Auxiliary(Objective):
    """Weighted sum of cross-entropy and of what the detector predicts beside it; a part with weight 0 is left out.

    Targets: depth as `oanet.objectives.depth` has it. Reflection: the batch's maps, zero for live faces; or, with
    `reflection_target: ellipse`, a stated pseudo-target without any measurement behind it: one inside an attack's
    face, zero elsewhere. Mask: the batch's face masks, for live faces and attacks alike. Domain: the training
    domain, read by a discriminator from the feature through a gradient reversal layer, so that it unlearns it.

    Args:
        detector: what is trained; it must predict a map for each of depth, reflection and mask that has a weight.
        num_domains: how many domains the discriminator tells apart.
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
            "reflection": lambda_reflection,
            "mask": lambda_mask,
            "domain": lambda_domain,
        }
        check_not_negative(**{f"lambda_{part}": weight for part, weight in self.weights.items()})
        self.reflection_target = reflection_target
        self.trained_maps = tuple(name for name in ("depth", "reflection", "mask") if self.weights[name] > 0)
        for name in self.trained_maps:
            check_predicts(detector, name, f"The objective 'auxiliary' with lambda_{name} = {self.weights[name]}")
        self.wanted_maps, self.needed_maps = self._maps()
        self.discriminator = self._discriminator()

    def forward(self, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.forward`; the parts are those with a weight, and `contrastive_depth` beside `depth`."""
        output = self.detect(batch)
        parts = {"cross_entropy": F.cross_entropy(output.logits, batch.label)}
        loss = self.weights["cross_entropy"] * parts["cross_entropy"]
        if "depth" in self.trained_maps:
            parts["depth"], parts["contrastive_depth"] = depth_losses(predicted_map(output.maps, "depth"), batch)
            loss = loss + self.weights["depth"] * (parts["depth"] + parts["contrastive_depth"])
        if "reflection" in self.trained_maps:
            predicted = predicted_map(output.maps, "reflection")
            parts["reflection"] = F.mse_loss(predicted, self._reflection(batch, predicted.shape[-1]))
            loss = loss + self.weights["reflection"] * parts["reflection"]
        if "mask" in self.trained_maps:
            parts["mask"] = mask_loss(predicted_map(output.maps, "mask"), batch)
            loss = loss + self.weights["mask"] * parts["mask"]
        if self.discriminator is not None:
            features = reverse_gradient(output.features, reversal_coefficient(progress))
            parts["domain"] = domain_cross_entropy(self.discriminator(features), batch.domain)
            loss = loss + self.weights["domain"] * parts["domain"]
        return {"loss": loss, "output": output, **scalar_parts(**parts)}

    def _maps(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The batch's maps that are read where they are given, and those that must be."""
        needed = [name for name in ("mask",) if name in self.trained_maps]
        if "reflection" in self.trained_maps and self.reflection_target == "given":
            needed.append("reflection")
        wanted = {*needed, *(("depth", "mask") if "depth" in self.trained_maps else ())}
        return tuple(sorted(wanted)), tuple(needed)

    def _discriminator(self) -> DomainDiscriminator | None:
        if self.weights["domain"] == 0:
            return None
        return DomainDiscriminator(self.detector.feature_dim, self.num_domains)

    def _reflection(self, batch: FaceBatch, side: int) -> torch.Tensor:
        """(B, 1, side, side): zero for live faces."""
        attack = (batch.label == 0).view(-1, 1, 1, 1)
        if self.reflection_target == "ellipse":
            return face_ellipse(side, batch.image.device) * attack
        if batch.reflection is None:
            raise ValueError(
                "lambda_reflection is above 0, but the batch has no reflection maps. Give them (train.reflection_maps),"
                " or take the stated pseudo-target with reflection_target = ellipse."
            )
        return resize_map(batch.reflection, side) * attack


def mask_loss(predicted: torch.Tensor, batch: FaceBatch) -> torch.Tensor:
    """Mean binary cross-entropy of a predicted mask (B, 1, h, h) in [0, 1] against the batch's masks.

    Raises:
        ValueError: the batch has none.
    """
    if batch.mask is None:
        raise ValueError(
            "lambda_mask is above 0, but the faces have no masks. Prepare the dataset with"
            " `agfas prepare ... --parsing-weights FILE`, or leave the mask out."
        )
    with torch.autocast(predicted.device.type, enabled=False):  # it is not defined in half precision
        return F.binary_cross_entropy(predicted, resize_map(batch.mask, predicted.shape[-1]))

"""Depth supervision (Liu et al. 2018; the contrastive loss of Wang et al. 2020, used by CDCN): a face has relief.

A live face's depth map is to be predicted as it is, an attack's as flat, that is zero. The mean squared error compares
places, the contrastive depth loss compares how each place differs from its eight neighbours.

The papers' depth maps come from a 3D face reconstruction (PRNet) that nobody ships. Where the batch holds no depth
maps a pseudo-depth stands in: one inside the face, zero outside. Many re-implementations do so, and it is not the
papers' target: a constant says where the face is, not what relief it has. Numbers made with it are to be labelled so.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from oanet.batch import FaceBatch
from oanet.detectors.base import Detector
from oanet.objectives.base import Objective, check_not_negative, scalar_parts

# Half axes of the face in an aligned crop whose side is 2, by the crop's template: eyes at 28% of its height, 31% of
# its width apart, mouth at 72%.
_HALF_WIDTH, _HALF_HEIGHT = 0.76, 0.92


class DepthSupervision(Objective):
    """MSE + lambda_contrastive * contrastive depth loss, and cross-entropy where the score is not read from the map.

    CDCN reads its score from the map and has no other loss. A detector with a depth map beside a classifier would
    never train that classifier, so there cross-entropy is added with weight 1.

    Args:
        detector: what is trained; it must predict the map `depth`.
        num_domains: not used; every objective takes it.
        lambda_contrastive: factor of the contrastive depth loss.
        lambda_cross_entropy: factor of the logits' cross-entropy; None is 0 where the detector's `score_map` is
            `depth`, else 1.
    """

    trained_maps = ("depth",)
    wanted_maps = ("depth", "mask")

    def __init__(
        self,
        detector: Detector,
        num_domains: int,
        lambda_contrastive: float = 1.0,
        lambda_cross_entropy: float | None = None,
    ) -> None:
        super().__init__(detector, num_domains)
        check_predicts(detector, "depth", "The objective 'depth'")
        if lambda_cross_entropy is None:
            lambda_cross_entropy = 0.0 if detector.score_map == "depth" else 1.0
        check_not_negative(lambda_contrastive=lambda_contrastive, lambda_cross_entropy=lambda_cross_entropy)
        self.lambda_contrastive = lambda_contrastive
        self.lambda_cross_entropy = lambda_cross_entropy

    def forward(self, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.forward`; the parts are `depth`, `contrastive_depth` and `cross_entropy`."""
        output = self.detect(batch)
        depth, contrastive = depth_losses(predicted_map(output.maps, "depth"), batch)
        cross_entropy = F.cross_entropy(output.logits, batch.label)
        loss = depth + self.lambda_contrastive * contrastive + self.lambda_cross_entropy * cross_entropy
        parts = scalar_parts(depth=depth, contrastive_depth=contrastive, cross_entropy=cross_entropy)
        return {"loss": loss, "output": output, **parts}


def depth_losses(predicted: torch.Tensor, batch: FaceBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared error and contrastive depth loss of predicted maps (B, 1, h, w) against the batch's target."""
    target = depth_target(batch, predicted.shape[-1])
    return F.mse_loss(predicted, target), contrastive_depth_loss(predicted, target)


def contrastive_depth_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the differences to the eight neighbours (Wang et al., CVPR 2020, Eq. 11).

    Places on the border have fewer neighbours and are left out, as in CDCN.

    Args:
        predicted, target: (B, 1, h, w), h and w at least 3.
    """
    with torch.autocast(predicted.device.type, enabled=False):  # half precision would round the differences away
        error = predicted.float() - target.float()  # the differences are linear: those of the error are the error's
        return F.conv2d(error, _neighbour_differences(error)).square().mean()


def depth_target(batch: FaceBatch, side: int) -> torch.Tensor:
    """(B, 1, side, side) in [0, 1], float32: the batch's depth maps, else one inside the live faces; zero for attacks.

    Inside the face is inside the batch's masks, or, where it has none, inside the ellipse of an aligned crop.
    """
    if batch.depth is not None:
        shape = resize_map(batch.depth, side)
    elif batch.mask is not None:
        shape = resize_map(batch.mask, side)
    else:
        shape = face_ellipse(side, batch.image.device)
    return shape * (batch.label == 1).view(-1, 1, 1, 1)


def face_ellipse(side: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """(1, 1, side, side): 1 where an aligned crop usually shows the face, 0 elsewhere."""
    place = (torch.arange(side, device=device) + 0.5) * (2 / side) - 1
    inside = (place[None, :] / _HALF_WIDTH) ** 2 + (place[:, None] / _HALF_HEIGHT) ** 2 <= 1
    return inside.float()[None, None]


def resize_map(given: torch.Tensor, side: int) -> torch.Tensor:
    """(B, 1, H, W) -> (B, 1, side, side) float32, bilinear and antialiased."""
    if given.shape[-2:] == (side, side):
        return given.float()
    return F.interpolate(given.float(), size=(side, side), mode="bilinear", align_corners=False, antialias=True)


def check_predicts(detector: Detector, name: str, who: str) -> None:
    """Raise ValueError where the detector has no such map."""
    if name not in detector.map_names:
        has = f"it predicts {', '.join(detector.map_names)}" if detector.map_names else "it predicts no map"
        raise ValueError(
            f"{who} needs a detector that predicts the map {name!r}, and {detector.name!r} does not: {has}."
            f" Use a detector with such a map, for example 'auxiliary' with maps = [{name}]."
        )


def predicted_map(maps: dict[str, torch.Tensor] | None, name: str) -> torch.Tensor:
    """A detector's square map (B, 1, h, h) as float32.

    Raises:
        ValueError: the detector did not give it.
    """
    if maps is None or name not in maps:
        raise ValueError(f"The detector promised the map {name!r} (map_names) but its output has no such map.")
    return maps[name].float()


def _neighbour_differences(like: torch.Tensor) -> torch.Tensor:
    """(8, 1, 3, 3): each of the eight neighbours less the middle."""
    kernel = like.new_zeros(9, 9)
    kernel.fill_diagonal_(1.0)
    kernel[:, 4] -= 1.0
    return torch.cat([kernel[:4], kernel[5:]]).view(8, 1, 3, 3)

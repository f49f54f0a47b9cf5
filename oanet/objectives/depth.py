"""Depth supervision (Liu et al. 2018; the contrastive loss of Wang et al. 2020, used by CDCN): live faces have relief.

The target of a live face is its depth map, that of an attack is zero everywhere. The mean squared error compares
positions; the contrastive depth loss compares the differences of each position to its eight neighbours.

The papers' depth maps come from a 3D face reconstruction (PRNet) that is not distributed. A batch without depth maps
gets a pseudo-depth: one inside the face, zero outside. Many re-implementations do this, but it is not the papers'
target: a constant says where the face is, not what relief it has. Label results obtained with it accordingly.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from oanet.batch import DetectorOutput, FaceBatch
from oanet.checks import check_range
from oanet.detectors.base import Detector
from oanet.objectives.base import Objective, losses
from oanet.trunks import resize_map

# Half axes of the face in an aligned crop of side 2, from the crop's template: eyes at 28% of the height and 31% of
# the width apart, mouth at 72%.
_HALF_WIDTH, _HALF_HEIGHT = 0.76, 0.92


class DepthSupervision(Objective):
    """MSE + lambda_contrastive * contrastive depth loss + lambda_cross_entropy * CE.

    CDCN computes its score from the map and has no other loss. A classifier beside the map would stay untrained without
    cross-entropy, so its default factor is 1 for such detectors.

    Args:
        detector: the detector to train; it must predict the map `depth`.
        num_domains: ignored.
        lambda_contrastive: factor of the contrastive depth loss.
        lambda_cross_entropy: factor of the cross-entropy; default: 0 where the detector's `score_map` is `depth`,
            else 1.
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
        check_range("[0, inf)", lambda_contrastive=lambda_contrastive, lambda_cross_entropy=lambda_cross_entropy)
        self.weights = {"contrastive_depth": lambda_contrastive, "cross_entropy": lambda_cross_entropy}

    def loss(self, seen: DetectorOutput, batch: FaceBatch, progress: float) -> dict[str, Any]:
        """See `Objective.loss`; the parts are `depth`, `contrastive_depth` and `cross_entropy`."""
        depth, contrastive = depth_losses(predicted_map(seen.maps, "depth"), batch)
        cross_entropy = F.cross_entropy(seen.logits, batch.label)
        return losses(seen, self.weights, depth=depth, contrastive_depth=contrastive, cross_entropy=cross_entropy)


def depth_losses(predicted: Tensor, batch: FaceBatch) -> tuple[Tensor, Tensor]:
    """Mean squared error and contrastive depth loss of predicted maps (B, 1, h, w) against the batch's targets."""
    target = depth_target(batch, predicted.shape[-1])
    return F.mse_loss(predicted, target), contrastive_depth_loss(predicted, target)


def contrastive_depth_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of the differences to the eight neighbours (Wang et al., CVPR 2020, Eq. 11).

    Border positions have fewer neighbours and are left out, as in CDCN.

    Args:
        predicted, target: (B, 1, h, w), h and w at least 3.
    """
    with torch.autocast(predicted.device.type, enabled=False):  # half precision would round the differences away
        error = predicted.float() - target.float()  # differences are linear: of the error, they are the error's
        return F.conv2d(error, _neighbour_differences(error)).square().mean()


def depth_target(batch: FaceBatch, side: int) -> Tensor:
    """(B, 1, side, side) in [0, 1], float32: zero for attacks, depth or pseudo-depth for live faces.

    The pseudo-depth is the batch's face masks, or, without masks, the ellipse of an aligned crop.
    """
    if batch.depth is not None:
        shape = resize_map(batch.depth, side)
    elif batch.mask is not None:
        shape = resize_map(batch.mask, side)
    else:
        shape = face_ellipse(side, batch.label.device)
    return shape * (batch.label == 1).view(-1, 1, 1, 1)


def face_ellipse(side: int, device: torch.device | str = "cpu") -> Tensor:
    """(1, 1, side, side): 1 where an aligned crop usually shows the face, 0 elsewhere."""
    position = (torch.arange(side, device=device) + 0.5) * (2 / side) - 1
    inside = (position[None, :] / _HALF_WIDTH) ** 2 + (position[:, None] / _HALF_HEIGHT) ** 2 <= 1
    return inside.float()[None, None]


def check_predicts(detector: Detector, name: str, who: str) -> None:
    """Raise ValueError unless the detector predicts the map; `who` needs it."""
    if name not in detector.map_names:
        has = f"it predicts {', '.join(detector.map_names)}" if detector.map_names else "it predicts no map"
        raise ValueError(
            f"{who} needs a detector that predicts the map {name!r}, and {detector.name!r} does not: {has}."
            f" Use a detector with such a map, for example 'auxiliary' with maps = [{name}]."
        )


def predicted_map(maps: dict[str, Tensor] | None, name: str) -> Tensor:
    """A detector's square map (B, 1, h, h) as float32. Raises ValueError if the output has none."""
    if maps is None or name not in maps:
        raise ValueError(f"The detector lists the map {name!r} in `map_names`, but its output has no such map.")
    return maps[name].float()


def _neighbour_differences(like: Tensor) -> Tensor:
    """(8, 1, 3, 3): each of the eight neighbours minus the centre."""
    kernel = like.new_zeros(9, 9)
    kernel.fill_diagonal_(1.0)
    kernel[:, 4] -= 1.0
    return torch.cat([kernel[:4], kernel[5:]]).view(8, 1, 3, 3)

"""A CNN with a liveness classifier and maps of depth, reflection and face mask (auxiliary supervision).

After Liu et al. (CVPR 2018), who supervise depth, and Kim et al. (ICCVW 2019), who add reflection. Its losses are the
objective `auxiliary`, which also holds the domain discriminator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oanet.batch import DetectorOutput
from oanet.checks import check_name, check_range
from oanet.detectors.base import Detector
from oanet.head import LivenessHead
from oanet.trunks import Pyramid

MAPS = ("depth", "reflection", "mask")


class Auxiliary(Detector):
    """The coarsest feature map, pooled, goes to the shared head; all levels, concatenated, to one small head per map.

    Full size with the depth map: 11,176,512 (ResNet-18) + 263,682 (head) + 553,665 (depth) = 11,993,859 parameters;
    each further map adds 553,665.

    Args:
        backbone, image_size, pretrained, backbone_options: see `oanet.trunks.Pyramid`.
        embedding_dim: width of the feature.
        maps: which of `depth`, `reflection` and `mask` to predict; may be empty.
        map_size: side of the maps; 32 in the papers, at least 3 for the contrastive depth loss.
        map_width: hidden channels of a map's head.
    """

    name = "auxiliary"

    def __init__(
        self,
        backbone: str = "resnet18",
        image_size: int = 256,
        pretrained: bool = False,
        backbone_options: dict[str, Any] | None = None,
        embedding_dim: int = 512,
        maps: Sequence[str] = ("depth",),
        map_size: int = 32,
        map_width: int = 64,
    ) -> None:
        super().__init__()
        maps = [maps] if isinstance(maps, str) else maps
        check_range("[3, inf)", map_size=map_size)
        for name in maps:
            check_name("map of the detector 'auxiliary':", name, MAPS)
        self.map_size = map_size
        self.map_names = tuple(name for name in MAPS if name in maps)
        self.feature_dim = embedding_dim
        self.trunk = Pyramid(backbone, image_size, pretrained, backbone_options)
        self.head = LivenessHead(self.trunk.widths[-1], embedding_dim)
        self.map_heads = nn.ModuleDict({name: _map_head(sum(self.trunk.widths), map_width) for name in self.map_names})

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`; `maps` holds (B, 1, map_size, map_size) in (0, 1) for each of `map_names`."""
        levels = self.trunk(image)  # at strides 4, 8, 16 and 32
        logits, features = self.head(levels[-1].mean(dim=(2, 3)))
        if not self.map_names:
            return DetectorOutput(logits, features)
        size = (self.map_size, self.map_size)
        resized = [F.interpolate(level, size=size, mode="bilinear", align_corners=False) for level in levels]
        together = torch.cat(resized, dim=1)  # (B, sum of widths, map_size, map_size)
        maps = {name: head(together).float().sigmoid() for name, head in self.map_heads.items()}
        return DetectorOutput(logits, features, maps=maps)


def _map_head(before: int, width: int) -> nn.Sequential:
    """(B, before, h, w) -> (B, 1, h, w)."""
    return nn.Sequential(
        nn.Conv2d(before, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, 1, 3, padding=1),
    )

"""A timm CNN as a pyramid of feature maps, from fine and narrow to coarse and wide."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from oanet.pixels import standardize
from oanet.vit import create_timm, resize


class Pyramid(nn.Module):
    """The maps of a CNN's stages at strides of 4 and more.

    Args:
        backbone: any timm name that offers its features, such as a ResNet, EfficientNet or ConvNeXt.
        image_size: side that pictures are resized to; values are standardised by ImageNet's mean and deviation.
        pretrained: fetch timm's weights for the name.
        options: more of timm's arguments, such as a ResNet's `layers`, `channels`.
        levels: how many of the maps to keep, at strides 4, 8 and so on; what lies behind the last is not built.
            All where not given.

    Attributes:
        widths: channels of each map.
    """

    def __init__(
        self,
        backbone: str,
        image_size: int,
        pretrained: bool = False,
        options: dict[str, Any] | None = None,
        levels: int | None = None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        indices = {} if levels is None else {"out_indices": tuple(range(1, levels + 1))}
        # features_only counts the stem, at stride 2, as its first map.
        net: Any = create_timm(backbone, pretrained, features_only=True, **indices, **(options or {}))
        strides, widths = net.feature_info.reduction(), net.feature_info.channels()
        self._kept = [place for place, stride in enumerate(strides) if stride >= 4]
        wanted = [4 * 2**level for level in range(levels or 0)]
        if levels is not None and list(strides) != wanted:
            raise ValueError(
                f"{levels} maps at the strides {wanted} are needed, and behind its stem {backbone!r} has maps at"
                f" {list(strides)}. Use a backbone with a stem of stride 2, such as 'resnet18'."
            )
        self.widths = [widths[place] for place in self._kept]
        self.net = net.to(memory_format=torch.channels_last)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, 3, H, W) in [-1, 1] -> one (B, C, h, w) per level."""
        pixels = standardize(resize(image, self.image_size)).contiguous(memory_format=torch.channels_last)
        maps = self.net(pixels)
        return [maps[place] for place in self._kept]

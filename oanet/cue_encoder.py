"""The cue encoder: a ResNet whose last feature map becomes the cue tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from oanet.trunks import build_resnet


class CueEncoder(nn.Module):
    """timm's ResNet without pooling and classifier (AG-FAS, Sec. III-C).

    ResNet-18 with four stages turns a 256x256 cue into 8x8 = 64 tokens of width 512: 11,176,512 parameters.

    Args:
        backbone: any timm name of the ResNet family.
        in_channels: 3, or 6 for a two-part cue.
        stages: number of stages to keep, 1 to 4; each but the first halves the map.
        pretrained: fetch timm's weights; as in the public code, a fourth stage keeps random weights.
        options: more of timm's arguments, such as `channels`, `layers`, `stem_type`, `stem_width`.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        in_channels: int = 3,
        stages: int = 4,
        pretrained: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        resnet = build_resnet(backbone, in_channels, pretrained, options)
        every_stage = [child for name, child in resnet.named_children() if name.startswith("layer")]
        if not 1 <= stages <= len(every_stage):
            raise ValueError(f"stages = {stages}, but {backbone!r} has 1 to {len(every_stage)} stages.")
        if pretrained and stages == 4:
            _reset(every_stage[3])
        self.stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.act1, resnet.maxpool)
        self.stages = nn.Sequential(*every_stage[:stages])
        feature_info: list[dict[str, Any]] = list(resnet.feature_info)  # the stem, then each stage
        self.dim = int(feature_info[stages]["num_chs"])

    def forward(self, cue: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, h * w, dim), in row-major order."""
        cue = cue.contiguous(memory_format=torch.channels_last)
        return self.stages(self.stem(cue)).flatten(2).transpose(1, 2)  # (B, dim, h, w) -> (B, h * w, dim)


def _reset(stage: nn.Module) -> None:
    """ResNet's random initialisation (He et al. 2015, fan out)."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            module.reset_running_stats()

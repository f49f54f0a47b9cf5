"""ResNet-18 with a linear classifier: the binary baseline (He et al., CVPR 2016)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from timm.models.resnet import ResNet

from oanet.detectors.base import Detector, captures_config
from oanet.head import LinearHead
from oanet.output import DetectorOutput
from oanet.pixels import standardize
from oanet.vit import create_timm, resize


class ResNet18(Detector):
    """A timm ResNet, global average pooling, one Linear.

    Full size: 11,176,512 (ResNet-18 without classifier) + 1,026 = 11,177,538 parameters. The picture enters at
    `image_size` with ImageNet's mean and deviation.

    Args:
        backbone: any timm name of the ResNet family.
        image_size: side that pictures are resized to.
        pretrained: fetch timm's weights for the name, all four stages.
        backbone_options: more of timm's arguments, such as `layers`, `channels`, `stem_type`, `stem_width`.
    """

    name: ClassVar[str] = "resnet18"
    needs_cue: ClassVar[bool] = False

    @captures_config
    def __init__(
        self,
        backbone: str = "resnet18",
        image_size: int = 256,
        pretrained: bool = False,
        backbone_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        arguments = {"zero_init_last": False, **(backbone_options or {})}
        resnet = create_timm(backbone, pretrained, num_classes=0, **arguments)
        if not isinstance(resnet, ResNet):
            raise ValueError(f"{backbone!r} is a {type(resnet).__name__}; a timm ResNet is needed.")
        self.image_size = image_size
        self.resnet = resnet.to(memory_format=torch.channels_last)
        self.feature_dim = resnet.num_features
        self.head = LinearHead(self.feature_dim)

    def forward(
        self, image: torch.Tensor, cue: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> DetectorOutput:
        """See `Detector.forward`."""
        pixels = standardize(resize(image, self.image_size))
        return DetectorOutput(*self.head(self.resnet(pixels.contiguous(memory_format=torch.channels_last))))

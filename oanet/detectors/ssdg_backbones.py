"""SSDG's two networks (Jia et al., CVPR 2020); its losses are the objective `ssdg`."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from oanet.cue_encoder import CueEncoder
from oanet.detectors.base import Detector, captures_config
from oanet.head import LivenessHead
from oanet.output import DetectorOutput
from oanet.pixels import standardize
from oanet.vit import resize


class SSDGR(Detector):
    """SSDG-R: ResNet-18, average pooling, Linear-ReLU-dropout, normalised feature and classifier.

    Full size: 11,176,512 (ResNet-18) + 262,656 (embedder) + 1,026 (classifier) = 11,440,194 parameters. With
    `pretrained`, stem to third stage have ImageNet's weights and the fourth is random, as in the public code.

    Args:
        backbone, pretrained, stages, backbone_options: see `oanet.cue_encoder.CueEncoder`.
        image_size: side that pictures are resized to.
        embedding_dim: width of the feature.
    """

    name: ClassVar[str] = "ssdg_r"
    needs_cue: ClassVar[bool] = False

    @captures_config
    def __init__(
        self,
        backbone: str = "resnet18",
        image_size: int = 256,
        pretrained: bool = False,
        stages: int = 4,
        backbone_options: dict[str, Any] | None = None,
        embedding_dim: int = 512,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.feature_dim = embedding_dim
        self.trunk = CueEncoder(backbone, 3, stages, pretrained, backbone_options)
        self.head = LivenessHead(self.trunk.dim, embedding_dim, bottleneck=True)

    def forward(
        self, image: torch.Tensor, cue: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> DetectorOutput:
        """See `Detector.forward`."""
        places = self.trunk(standardize(resize(image, self.image_size)))  # (B, h * w, dim)
        return DetectorOutput(*self.head(places.mean(dim=1)))


class SSDGM(Detector):
    """SSDG-M: MADDG's plain convolutional network (Shao et al., CVPR 2019) under the same head.

    3x3 convolutions without bias, each with BatchNorm and ReLU: 64, 128, 196, 128 | 128, 196, 128 |
    128, 196, 128 | 128 | 256 | 512, where | is a 3x3 max pooling of stride 2; then average pooling. Full size:
    1,727,960 (first ten layers) + 1,623,808 (last three) + 262,656 (embedder) + 1,026 (classifier) = 3,615,450
    parameters; the 3.35 million that are often quoted leave the head out.

    Args:
        image_size: side that pictures are resized to.
        width: 128 is the paper's; every other number of channels follows in proportion.
        embedding_dim: width of the feature.
    """

    name: ClassVar[str] = "ssdg_m"
    needs_cue: ClassVar[bool] = False

    @captures_config
    def __init__(self, image_size: int = 256, width: int = 128, embedding_dim: int = 512) -> None:
        super().__init__()
        if width < 2:
            raise ValueError(f"width = {width}; the narrowest layers have half of it, so it must be at least 2.")
        self.image_size = image_size
        self.feature_dim = embedding_dim
        narrow, middle = width // 2, round(width * 196 / 128)
        stages = [
            (narrow, width, middle, width),
            (width, middle, width),
            (width, middle, width),
            (width,),
            (2 * width,),
            (4 * width,),
        ]
        layers: list[nn.Module] = []
        before = 3
        for number, stage in enumerate(stages):
            if number:
                layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            for after in stage:
                layers += [
                    nn.Conv2d(before, after, 3, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(inplace=True),
                ]
                before = after
        self.trunk = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.head = LivenessHead(before, embedding_dim, bottleneck=True)

    def forward(
        self, image: torch.Tensor, cue: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> DetectorOutput:
        """See `Detector.forward`."""
        pixels = standardize(resize(image, self.image_size)).contiguous(memory_format=torch.channels_last)
        return DetectorOutput(*self.head(self.trunk(pixels).mean(dim=(2, 3))))

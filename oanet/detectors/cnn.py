"""Plain convolutional networks: a trunk, average pooling, a head."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from oanet.batch import DetectorOutput
from oanet.checks import check_range
from oanet.cue_encoder import CueEncoder
from oanet.detectors.base import Detector
from oanet.head import LinearHead, LivenessHead
from oanet.trunks import build_resnet, detail, resize, standardize


class ResNet18(Detector):
    """A timm ResNet, global average pooling, one Linear: the binary baseline (He et al., CVPR 2016).

    Full size: 11,176,512 (ResNet-18 without classifier) + 1,026 = 11,177,538 parameters.

    Args:
        backbone: any timm name of the ResNet family.
        image_size: side that images are resized to; values are standardised by ImageNet's mean and deviation.
        pretrained: fetch timm's weights for the name, all four stages.
        backbone_options: more of timm's arguments, such as `layers`, `channels`, `stem_type`, `stem_width`.
        high_pass: odd side in pixels of the square whose mean is subtracted from each pixel, so that detail is seen but
            not light and colour; 0: the picture itself.
    """

    name = "resnet18"
    backbones = MappingProxyType({"backbone": "backbone_options"})

    def __init__(
        self,
        backbone: str = "resnet18",
        image_size: int = 256,
        pretrained: bool = False,
        backbone_options: dict[str, Any] | None = None,
        high_pass: int = 0,
    ) -> None:
        super().__init__()
        if high_pass and (high_pass % 2 == 0 or not 3 <= high_pass <= image_size):
            raise ValueError(f"high_pass = {high_pass}; it must be 0, or odd and from 3 to image_size = {image_size}.")
        self.image_size, self.high_pass = image_size, high_pass
        self.trunk = build_resnet(backbone, 3, pretrained, backbone_options)
        self.feature_dim = self.trunk.num_features
        self.head = LinearHead(self.feature_dim)

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`."""
        pixels = standardize(resize(image, self.image_size))
        if self.high_pass:
            pixels = detail(pixels, self.high_pass)
        return DetectorOutput(*self.head(self.trunk(pixels.contiguous(memory_format=torch.channels_last))))


class SSDGR(Detector):
    """SSDG-R (Jia et al., CVPR 2020): ResNet-18, average pooling, Linear-ReLU-dropout, normalised feature, classifier.

    Full size: 11,176,512 (ResNet-18) + 262,656 (embedder) + 1,026 (classifier) = 11,440,194 parameters. With
    `pretrained`, stem to third stage have ImageNet's weights and the fourth is random, as in the public code.

    Args:
        backbone, pretrained, stages, backbone_options: see `oanet.cue_encoder.CueEncoder`.
        image_size: side that images are resized to.
        embedding_dim: width of the feature.
    """

    name = "ssdg_r"
    backbones = MappingProxyType({"backbone": "backbone_options"})

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

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`."""
        tokens = self.trunk(standardize(resize(image, self.image_size)))  # (B, h * w, dim)
        return DetectorOutput(*self.head(tokens.mean(dim=1)))


class SSDGM(Detector):
    """SSDG-M: the plain CNN of MADDG (Shao et al., CVPR 2019) under the head of SSDG-R.

    3x3 convolutions without bias, each with BatchNorm and ReLU: 64, 128, 196, 128 | 128, 196, 128 |
    128, 196, 128 | 128 | 256 | 512, where | is a 3x3 max pooling of stride 2; then average pooling. Full size:
    1,727,960 (first ten layers) + 1,623,808 (last three) + 262,656 (embedder) + 1,026 (classifier) = 3,615,450
    parameters; the often quoted 3.35 million leave out the head.

    Args:
        image_size: side that images are resized to.
        width: 128 in the paper; every other number of channels is in proportion.
        embedding_dim: width of the feature.
    """

    name = "ssdg_m"

    def __init__(self, image_size: int = 256, width: int = 128, embedding_dim: int = 512) -> None:
        super().__init__()
        check_range("[2, inf)", width=width)  # the narrowest layers have half of it
        self.image_size = image_size
        self.feature_dim = embedding_dim
        layers: list[nn.Module] = []
        before = 3
        for number, stage in enumerate([*maddg_widths(width), (width,), (2 * width,), (4 * width,)]):
            if number:
                layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            layers += convolutions(before, stage)
            before = stage[-1]
        self.trunk = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.head = LivenessHead(before, embedding_dim, bottleneck=True)

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`."""
        pixels = standardize(resize(image, self.image_size)).contiguous(memory_format=torch.channels_last)
        features = self.trunk(pixels)  # (B, 4 * width, S / 32, S / 32)
        return DetectorOutput(*self.head(features.mean(dim=(2, 3))))


def maddg_widths(width: int) -> tuple[tuple[int, ...], ...]:
    """Channels of the convolutions of MADDG's three stages: 64, 128, 196, 128 | 128, 196, 128 | 128, 196, 128."""
    block = (width, round(width * 196 / 128), width)
    return (width // 2, *block), block, block


def convolutions(before: int, widths: Sequence[int]) -> list[nn.Module]:
    """3x3 convolutions without bias from each width to the next, each with BatchNorm and ReLU."""
    layers: list[nn.Module] = []
    for after in widths:
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        before = after
    return layers

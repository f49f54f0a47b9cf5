"""Central difference convolutional networks (Yu et al., CVPR 2020): a depth map, which is zero for attacks.

The score is the mean of the predicted map. The paper divides by a face mask, which needs a 3D face model even for
attacks; on aligned crops, where the face always fills the same part, the mean is the same up to a factor.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oanet.batch import DetectorOutput
from oanet.checks import check_range
from oanet.detectors.base import Detector
from oanet.head import normalize_feature, unnormalize_feature
from oanet.trunks import resize

MAP_SIDE = 32
"""Side of the depth map, for every image size."""

_CLIP = 1e-4


class CentralDifferenceConv2d(nn.Conv2d):
    """y(p) = sum_n w(n) x(p + n) - theta * x(p) * sum_n w(n) (Eq. 4); a 3x3 convolution without bias.

    The second sum only scales x(p), so it is subtracted from the kernel's centre, and one convolution does the work of
    two.

    Args:
        in_channels, out_channels: of the convolution; stride and padding are 1.
        theta: 0 is a plain convolution, 1 uses differences only; 0.7 in the paper.
    """

    centre: Tensor

    def __init__(self, in_channels: int, out_channels: int, theta: float = 0.7) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=False)
        self.theta = theta
        self.register_buffer("centre", F.pad(torch.ones(1, 1, 1, 1), (1, 1, 1, 1)), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        flat = self.weight.sum(dim=(2, 3), keepdim=True)
        return F.conv2d(input, self.weight - self.theta * flat * self.centre, padding=1)


class _DepthNet(Detector):
    """Stem, three blocks, their maps concatenated at 32x32, and a head that predicts depth from them.

    Attributes:
        attention_kernels: kernel sizes of the spatial attention after each block; empty for none.
    """

    map_names = ("depth",)
    score_map = "depth"
    attention_kernels: ClassVar[tuple[int, ...]] = ()

    def _build(
        self, image_size: int, width: int, theta: float, blocks: Sequence[Sequence[int]], head: Sequence[int]
    ) -> None:
        check_range("[0, 1]", theta=theta)
        check_range("[4, inf)", width=width)  # the narrowest layers have half of it
        self.image_size = image_size
        self.feature_dim = head[-1]
        self.stem = _layers((3, width // 2), theta)
        inner = [width // 2, width, width]  # input channels of the blocks
        self.blocks = nn.ModuleList(
            nn.Sequential(_layers((before, *block), theta), nn.MaxPool2d(3, stride=2, padding=1))
            for before, block in zip(inner, blocks, strict=True)
        )
        self.attention = nn.ModuleList(SpatialAttention(kernel) for kernel in self.attention_kernels)
        self.head = _layers((3 * width, *head), theta)
        self.depth = CentralDifferenceConv2d(head[-1], 1, theta)
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`; `maps` holds `depth` (B, 1, 32, 32), zero or more."""
        # Values in [-1, 1] times 127.5 / 128 are the paper's (pixel - 127.5) / 128.
        x = self.stem(resize(image, self.image_size) * (127.5 / 128))  # (B, width / 2, S, S)
        levels = []
        for number, block in enumerate(self.blocks):
            x = block(x)  # (B, width, S / 2, S / 2), then S / 4 and S / 8
            seen = x * self.attention[number](x) if self.attention else x
            levels.append(F.interpolate(seen, size=(MAP_SIDE, MAP_SIDE), mode="bilinear", align_corners=False))
        hidden = self.head(torch.cat(levels, dim=1))  # (B, D, 32, 32)
        depth = F.relu(self.depth(hidden)).float()  # (B, 1, 32, 32)
        features = normalize_feature(hidden.mean(dim=(2, 3)).float())
        return DetectorOutput(depth_logits(depth), features, maps={"depth": depth})

    def embedding(self, output: DetectorOutput) -> Tensor:
        """See `Detector.embedding`."""
        return unnormalize_feature(output.features)


class CDCN(_DepthNet):
    """CDCN: blocks of 128, 196, 128 channels, head 384 -> 128 -> 64 -> 1; 2,245,016 parameters.

    The feature is the average of the last 64 channels before the map, scaled by `normalize_feature`.

    Args:
        image_size: side that images are resized to; values become (pixel - 127.5) / 128.
        width: 128 in the paper; every other number of channels is in proportion.
        theta: of every convolution, see `CentralDifferenceConv2d`.
    """

    name = "cdcn"

    def __init__(self, image_size: int = 256, width: int = 128, theta: float = 0.7) -> None:
        super().__init__()
        block = (width, round(width * 196 / 128), width)
        self._build(image_size, width, theta, [block] * 3, head=(width, width // 2))


class CDCNpp(_DepthNet):
    """CDCN++: searched widths, spatial attention of 7, 5 and 3 on the three levels, head 384 -> 128 -> 1.

    2,257,352 parameters. The feature is the average of the last 128 channels before the map, scaled by
    `normalize_feature`.

    Args:
        image_size, width, theta: see `CDCN`.
    """

    name = "cdcn_pp"
    attention_kernels: ClassVar[tuple[int, ...]] = (7, 5, 3)

    def __init__(self, image_size: int = 256, width: int = 128, theta: float = 0.7) -> None:
        super().__init__()
        low, mid, high = (int(width * factor) for factor in (1.2, 1.4, 1.6))
        blocks = [(width, high, width), (low, width, mid, width), (width, low, width)]
        self._build(image_size, width, theta, blocks, head=(width,))


class SpatialAttention(nn.Module):
    """Mean and maximum over the channels, a convolution, a sigmoid (Sec. 3.3).

    Args:
        kernel: odd size of the convolution.
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W) in (0, 1)."""
        both = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return self.convolution(both).sigmoid()


def depth_logits(depth: Tensor) -> Tensor:
    """Logits whose softmax is (1 - m, m), m the mean of each map clipped to [1e-4, 1 - 1e-4].

    Only the value is clipped, not the gradient, so that cross-entropy can still correct a map that is nearly empty or
    too full. A map of CDCN that is zero everywhere has no gradient all the same, because of its ReLU.

    Args:
        depth: (B, 1, H, W), zero or more.

    Returns:
        (B, 2) float32: log(1 - m), log(m).
    """
    mean = depth.float().mean(dim=(1, 2, 3))
    mean = mean + (mean.clamp(_CLIP, 1 - _CLIP) - mean).detach()
    return torch.stack([torch.log1p(-mean), torch.log(mean)], dim=1)


def _layers(widths: Sequence[int], theta: float) -> nn.Sequential:
    """Central difference convolution, BatchNorm and ReLU from each width to the next."""
    layers: list[Any] = []
    for before, after in itertools.pairwise(widths):
        layers += [CentralDifferenceConv2d(before, after, theta), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)

"""Central difference convolutional networks (Yu et al., CVPR 2020): a depth map of the face, live where it has one.

The score is the mean of the predicted map. The paper divides by a face mask that needs a 3D face model even for
attacks; on aligned crops, where the face always fills the same part, the mean is the same up to a factor.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from oanet.detectors.base import Detector, captures_config
from oanet.head import normalize_feature
from oanet.output import DetectorOutput
from oanet.vit import resize

MAP_SIDE = 32
"""Side of the depth map, whatever the picture's."""

_CLIP = 1e-4


class CentralDifferenceConv2d(nn.Conv2d):
    """A 3x3 convolution, less `theta` times what it says of a flat picture of the centre's value (Eq. 4).

    y(p) = sum_n w(n) x(p + n) - theta * x(p) * sum_n w(n). Both sums read the same x(p), so the second is taken
    off the kernel's centre and one convolution does the work of two. No bias.

    Args:
        in_channels, out_channels: of the convolution; stride and padding are 1.
        theta: 0 is a plain convolution, 1 sees differences only; 0.7 in the paper.
    """

    centre: torch.Tensor

    def __init__(self, in_channels: int, out_channels: int, theta: float = 0.7) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=False)
        self.theta = theta
        self.register_buffer("centre", F.pad(torch.ones(1, 1, 1, 1), (1, 1, 1, 1)), persistent=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        flat = self.weight.sum(dim=(2, 3), keepdim=True)
        return F.conv2d(input, self.weight - self.theta * flat * self.centre, padding=1)


class _DepthNet(Detector):
    """Stem, three blocks, their maps side by side at 32x32, and a head that predicts depth from them.

    Attributes:
        attention_kernels: sizes of the spatial attention after each block; none where empty.
    """

    needs_cue: ClassVar[bool] = False
    map_names = ("depth",)
    score_map = "depth"
    attention_kernels: ClassVar[tuple[int, ...]] = ()

    def _build(
        self, image_size: int, width: int, theta: float, blocks: Sequence[Sequence[int]], head: Sequence[int]
    ) -> None:
        if not 0 <= theta <= 1:
            raise ValueError(f"theta = {theta}; it lies between 0, a plain convolution, and 1, differences only.")
        if width < 4:
            raise ValueError(f"width = {width}; the narrowest layers have half of it, so it must be at least 4.")
        self.image_size = image_size
        self.feature_dim = head[-1]
        self.stem = _layers((3, width // 2), theta)
        inner = [width // 2, width, width]
        self.blocks = nn.ModuleList(
            nn.Sequential(_layers((before, *block), theta), nn.MaxPool2d(3, stride=2, padding=1))
            for before, block in zip(inner, blocks, strict=True)
        )
        self.attention = nn.ModuleList(SpatialAttention(kernel) for kernel in self.attention_kernels)
        self.head = _layers((3 * width, *head), theta)
        self.depth = CentralDifferenceConv2d(head[-1], 1, theta)
        self.to(memory_format=torch.channels_last)

    def forward(
        self, image: torch.Tensor, cue: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> DetectorOutput:
        """See `Detector.forward`; `maps` holds `depth` (B, 1, 32, 32), zero or more."""
        # (x - 127.5) / 128 of pixels in [0, 255].
        places = self.stem(resize(image, self.image_size) * (127.5 / 128))
        levels = []
        for number, block in enumerate(self.blocks):
            places = block(places)
            seen = places * self.attention[number](places) if self.attention else places
            levels.append(F.interpolate(seen, size=(MAP_SIDE, MAP_SIDE), mode="bilinear", align_corners=False))
        hidden = self.head(torch.cat(levels, dim=1))
        depth = F.relu(self.depth(hidden)).float()
        features = normalize_feature(hidden.mean(dim=(2, 3)).float())
        return DetectorOutput(depth_logits(depth), features, maps={"depth": depth})


class CDCN(_DepthNet):
    """CDCN: blocks of 128, 196, 128 channels, head 384 -> 128 -> 64 -> 1; 2,245,016 parameters.

    The feature is the average of the last 64 channels before the map, scaled by `normalize_feature`.

    Args:
        image_size: side that pictures are resized to; values become (pixel - 127.5) / 128.
        width: 128 is the paper's; every other number of channels follows in proportion.
        theta: of every convolution, see `CentralDifferenceConv2d`.
    """

    name: ClassVar[str] = "cdcn"

    @captures_config
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

    name: ClassVar[str] = "cdcn_pp"
    attention_kernels: ClassVar[tuple[int, ...]] = (7, 5, 3)

    @captures_config
    def __init__(self, image_size: int = 256, width: int = 128, theta: float = 0.7) -> None:
        super().__init__()
        low, mid, high = (int(width * factor) for factor in (1.2, 1.4, 1.6))
        blocks = [(width, high, width), (low, width, mid, width), (width, low, width)]
        self._build(image_size, width, theta, blocks, head=(width,))


class SpatialAttention(nn.Module):
    """Where to look: mean and maximum over the channels, a convolution, a sigmoid (Sec. 3.3).

    Args:
        kernel: odd size of the convolution.
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, 1, H, W) in (0, 1)."""
        both = torch.cat([places.mean(dim=1, keepdim=True), places.amax(dim=1, keepdim=True)], dim=1)
        return self.convolution(both).sigmoid()


def depth_logits(depth: torch.Tensor) -> torch.Tensor:
    """Logits whose softmax is (1 - m, m), m the mean of each map clipped to [1e-4, 1 - 1e-4].

    Only the value is clipped: a map beyond the bounds still gets the gradient of the bound it lies behind, so that
    a cross-entropy can call back a network whose map is nearly empty, or too full. CDCN's own map comes out of a ReLU:
    one that is zero everywhere passes no gradient on, whatever comes behind it.

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

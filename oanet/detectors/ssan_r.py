"""SSAN-R (Wang et al., CVPR 2022): a ResNet-18 that separates a face's content and style.

Content is a feature map. Style is one vector per face, computed from three levels; it scales and shifts every channel
of a content map when the two are assembled (adaptive instance normalisation).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oanet.batch import DetectorOutput
from oanet.detectors.base import Detector
from oanet.trunks import Pyramid

# Stride of the coarsest maps of style and content; instance normalisation needs more than one pixel.
_SMALLEST = 32


class SSANR(Detector):
    """classify(assemble(*disentangle(image))): every face with its own style.

    At full size, a 256x256 face gives 256 channels at 16x16 after the third stage, content 256x8x8, style 2x256 and a
    feature of 512: 8,069,186 parameters, 5,709,890 as released. Train it with the objective `ssan`; every other
    objective trains it as a plain classifier.

    Args:
        backbone, image_size, pretrained, backbone_options: see `oanet.trunks.Pyramid`; three levels are used.
        released: use the AdaIN block of the public code, x + AdaIN(x), which skips both convolutions.
    """

    name = "ssan_r"

    def __init__(
        self,
        backbone: str = "resnet18",
        image_size: int = 256,
        pretrained: bool = False,
        backbone_options: dict[str, Any] | None = None,
        released: bool = False,
    ) -> None:
        super().__init__()
        if image_size <= _SMALLEST:
            raise ValueError(
                f"ssan_r normalises maps at a stride of 32, which have one pixel at image_size = {image_size};"
                f" it must be above {_SMALLEST}, such as 64 or the paper's 256."
            )
        self.trunk = Pyramid(backbone, image_size, pretrained, backbone_options, levels=3)
        fine, middle, width = self.trunk.widths
        self.released = released
        self.content_dim = width
        self.feature_dim = 2 * width
        self.content = nn.Sequential(_halve(width, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.style = StyleReader((fine, middle, width))
        self.blocks = nn.ModuleList(AdaptiveBlock(width, released) for _ in range(2))
        # Doubles the channels at half the height and width.
        self.joined = nn.Sequential(_halve(width, self.feature_dim), nn.BatchNorm2d(self.feature_dim))
        self.classifier = nn.Linear(self.feature_dim, 2)
        self.encoders = (self.trunk, self.content)

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`."""
        features = self.assemble(*self.disentangle(image))
        return DetectorOutput(self.classify(features), features)

    def disentangle(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [-1, 1] -> content (B, C, h, w) and style (B, 2, C), scale and shift per channel."""
        levels = self.trunk(image)
        return self.content(levels[-1]), self.style(levels)

    def assemble(self, content: Tensor, style: Tensor) -> Tensor:
        """Content (B, C, h, w) and any face's style (B, 2, C) -> features (B, 2 C), float32."""
        for block in self.blocks:
            content = block(content, style)  # (B, C, h, w)
        return self.joined(content).mean(dim=(2, 3)).float()

    def classify(self, features: Tensor) -> Tensor:
        """(B, 2 C) -> logits (B, 2), float32."""
        with torch.autocast(features.device.type, enabled=False):
            return self.classifier(features.float())


class StyleReader(nn.Module):
    """Levels added from fine to coarse, the maximum of each channel, then scale and shift; linears without bias.

    Args:
        widths: channels of the levels; the last is C.
    """

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        fine, middle, width = widths
        self.adapters = nn.ModuleList(
            nn.Sequential(_halve(before, after), nn.InstanceNorm2d(after), last)
            for before, after, last in (
                (fine, middle, nn.ReLU()), (middle, width, nn.ReLU()), (width, width, nn.Identity()),
            )
        )  # fmt: skip
        self.hidden = nn.Linear(width, width, bias=False)
        self.scale = nn.Linear(width, width, bias=False)
        self.shift = nn.Linear(width, width, bias=False)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """(B, C_i, h_i, w_i) for each level -> (B, 2, C)."""
        style: Any = 0
        for level, adapter in zip(levels, self.adapters, strict=True):
            style = adapter(level + style)  # half the height and width: that of the next level
        hidden = F.relu(self.hidden(style.amax(dim=(2, 3))))
        return torch.stack([self.scale(hidden), self.shift(hidden)], dim=1)


class AdaptiveBlock(nn.Module):
    """x + AdaIN(conv(ReLU(AdaIN(conv(x))))), 3x3 convolutions without bias, which AdaIN would cancel.

    Args:
        width: channels.
        released: x + AdaIN(x) without convolutions, as in the public code.
    """

    def __init__(self, width: int, released: bool = False) -> None:
        super().__init__()
        count = 0 if released else 2
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(count))

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        """(B, C, h, w) and (B, 2, C) -> (B, C, h, w)."""
        if not self.convolutions:
            return content + adaptive_instance_norm(content, style)
        first, second = self.convolutions
        inner = F.relu(adaptive_instance_norm(first(content), style))
        return content + adaptive_instance_norm(second(inner), style)


def adaptive_instance_norm(content: Tensor, style: Tensor) -> Tensor:
    """scale * (x - mean) / sqrt(variance + 1e-5) + shift, per face and channel (Huang and Belongie 2017, Eq. 8).

    The variance is the unbiased one, as in SSAN's code.

    Args:
        content: (B, C, h, w).
        style: (B, 2, C), scale and shift.
    """
    variance, mean = torch.var_mean(content, dim=(2, 3), keepdim=True)
    scale, shift = style[:, 0, :, None, None], style[:, 1, :, None, None]
    return scale * (content - mean) * (variance + 1e-5).rsqrt() + shift


def _halve(before: int, after: int) -> nn.Conv2d:
    """A 3x3 convolution of stride 2, without the bias, which the normalisation after it would cancel."""
    return nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)

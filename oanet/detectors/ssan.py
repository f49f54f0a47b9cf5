"""SSAN (Wang et al., CVPR 2022): networks that separate a face's content and style; SSAN-R and SSAN-M.

Content is a feature map. Style is one vector per face, computed from three levels; it scales and shifts every channel
of a content map when the two are assembled (adaptive instance normalisation).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oanet.batch import DetectorOutput
from oanet.checks import check_range
from oanet.detectors.base import Detector
from oanet.detectors.cdcn import depth_logits
from oanet.detectors.cnn import convolutions, maddg_widths
from oanet.trunks import Pyramid, resize


class _Disentangler(Detector):
    """judge(assemble(*disentangle(image))): every face with its own style."""

    def _build(self, trunk: nn.Module, levels: tuple[int, int, int], content: int, released: bool) -> None:
        """The parts that both networks have; `levels` and `content` are numbers of channels."""
        self.trunk = trunk
        self.released = released
        self.content_dim, self.feature_dim = content, 2 * content
        self.content = nn.Sequential(_halve(levels[-1], content), nn.BatchNorm2d(content), nn.ReLU(inplace=True))
        self.style = StyleReader(levels, content)
        self.blocks = nn.ModuleList(AdaptiveBlock(content, released) for _ in range(2))
        # Doubles the channels at half the height and width.
        self.joined = nn.Sequential(_halve(content, self.feature_dim), nn.BatchNorm2d(self.feature_dim))
        self.encoders = (self.trunk, self.content)

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`."""
        return self.judge(self.assemble(*self.disentangle(image)))

    def disentangle(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [-1, 1] -> content (B, C, h, w) and style (B, 2, C), scale and shift per channel."""
        levels = self.trunk(image)
        return self.content(levels[-1]), self.style(levels)

    def assemble(self, content: Tensor, style: Tensor) -> Tensor:
        """Content (B, C, h, w) and any face's style (B, 2, C) -> (B, 2 C, h / 2, w / 2), whose mean is the feature."""
        for block in self.blocks:
            content = block(content, style)  # (B, C, h, w)
        return self.joined(content)

    @abstractmethod
    def judge(self, assembled: Tensor) -> DetectorOutput:
        """(B, 2 C, h, w) -> logits, features and, if there are any, maps."""

    def _check_side(self, image_size: int, stride: int) -> None:
        """Instance normalisation needs more than one pixel of the coarsest maps of style and content."""
        if image_size <= stride:
            raise ValueError(
                f"{self.name} normalises maps at a stride of {stride}, which have one pixel at image_size ="
                f" {image_size}; it must be above {stride}, such as 64 or the paper's 256."
            )


class SSANR(_Disentangler):
    """SSAN-R: a ResNet-18 to its third stage, and one Linear.

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
        self._check_side(image_size, 32)
        trunk = Pyramid(backbone, image_size, pretrained, backbone_options, levels=3)
        fine, middle, width = trunk.widths
        self._build(trunk, (fine, middle, width), width, released)
        self.classifier = nn.Linear(self.feature_dim, 2)

    def judge(self, assembled: Tensor) -> DetectorOutput:
        """(B, 2 C, h, w) -> logits and features, float32."""
        features = assembled.mean(dim=(2, 3)).float()
        with torch.autocast(features.device.type, enabled=False):
            return DetectorOutput(self.classifier(features), features)


class SSANM(_Disentangler):
    """SSAN-M: the plain CNN of MADDG, and a decoder to the depth map that the score is the mean of.

    At full size, a 256x256 face gives content 256x16x16, style 2x256, a feature of 512 (the mean of 512x8x8, which the
    decoder reads) and a map of 32x32: 7,014,296 parameters, 4,655,000 as released. The objective `ssan` trains map,
    content and style.

    Args:
        image_size: side that images are resized to; values become (pixel - 127.5) / 128. The map's side is an eighth.
        width: 128 in the paper; every other number of channels is in proportion.
        released: see `SSANR`.
    """

    name = "ssan_m"
    map_names = ("depth",)
    score_map = "depth"

    def __init__(self, image_size: int = 256, width: int = 128, released: bool = False) -> None:
        super().__init__()
        self._check_side(image_size, 16)
        check_range("[2, inf)", width=width)  # the narrowest layers have half of it
        self._build(_PlainTrunk(image_size, width), (width, width, width), 2 * width, released)
        self.decoder = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            *convolutions(self.feature_dim, (width,)),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            *convolutions(width, (width // 2,)),
            nn.Conv2d(width // 2, 1, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
        )
        self.to(memory_format=torch.channels_last)

    def judge(self, assembled: Tensor) -> DetectorOutput:
        """(B, 4 width, h, w) -> logits and features, float32; `maps` holds `depth` (B, 1, 4 h, 4 w), zero or more."""
        depth = self.decoder(assembled).float()
        return DetectorOutput(depth_logits(depth), assembled.mean(dim=(2, 3)).float(), maps={"depth": depth})


class _PlainTrunk(nn.Module):
    """One convolution and three blocks of three, each followed by max pooling; see `oanet.detectors.cnn.SSDGM`."""

    def __init__(self, image_size: int, width: int) -> None:
        super().__init__()
        self.image_size = image_size
        (stem, *first), *others = maddg_widths(width)
        self.stem = nn.Sequential(*convolutions(3, (stem,)))
        inner = (stem, width, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(*convolutions(before, block), nn.MaxPool2d(3, stride=2, padding=1))
            for before, block in zip(inner, (first, *others), strict=True)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1] -> (B, width, S / 2, S / 2), then S / 4 and S / 8."""
        # Values in [-1, 1] times 127.5 / 128 are the paper's (pixel - 127.5) / 128.
        levels = [self.stem(resize(image, self.image_size) * (127.5 / 128))]
        for block in self.blocks:
            levels.append(block(levels[-1]))
        return levels[1:]


class StyleReader(nn.Module):
    """Levels added from fine to coarse, the maximum of each channel, then scale and shift; linears without bias.

    Args:
        widths: channels of the levels.
        width: C.
    """

    def __init__(self, widths: tuple[int, int, int], width: int) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.adapters = nn.ModuleList(
            nn.Sequential(_halve(before, after), nn.InstanceNorm2d(after), last)
            for before, after, last in (
                (fine, middle, nn.ReLU()), (middle, coarse, nn.ReLU()), (coarse, width, nn.Identity()),
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

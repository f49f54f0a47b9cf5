"""LivenessNet and AttackNet v1, v2.1, v2.2 (Kuznetsov et al., "Deep Learning Models for Robust Facial Liveness
Detection").

Four small networks in Keras' style: convolutions with bias, BatchNorm (epsilon 1e-3, momentum 0.99) after the
activation, and one wide layer on the flattened map, which holds nearly all parameters. Parameter counts below are the
paper's (Table 13); they include BatchNorm's running statistics. The paper's class 0 is bona fide, ours attack.

Where paper and public code differ, the defaults follow the paper and the preset `released` the code. The paper's
dropout is 0.25 after the convolutions and 0.5 before the classifier; the code uses half and full of one rate, and in
v2.1 the full rate everywhere. The paper has an L2 penalty of 1e-5; the code has it in v1, in v2.1 without the wide
layer, and nowhere in LivenessNet and v2.2. It is part of the loss, as in Keras, so Adam rescales its gradient;
AdamW's `weight_decay` would not.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oanet.batch import DetectorOutput
from oanet.checks import check_range
from oanet.detectors.base import Detector
from oanet.head import LinearHead
from oanet.trunks import resize


class LivenessNet(Detector):
    """Two blocks of convolution, ReLU, BatchNorm, twice each; then 64 ReLU units. 8,406,098 parameters.

    Args:
        image_size: side that images are resized to; 4 must divide it.
        width: channels of the first block; the second has twice as many.
        hidden: width of the wide layer and of the feature; default: 64 in LivenessNet, 128 in AttackNet.
        conv_dropout: dropout rate after each block.
        dropout: dropout rate before the classifier.
        momentum: of BatchNorm in torch's convention; 0.01 is Keras' 0.99.
        l2: factor of the sum of squares of all kernels in the loss.
        l2_wide: whether the wide layer's kernel is one of them.
    """

    name = "livenessnet"
    activation: type[nn.Module] = nn.ReLU  # of the wide layer
    default_hidden: ClassVar[int] = 64

    def __init__(
        self,
        image_size: int = 256,
        width: int = 16,
        hidden: int | None = None,
        conv_dropout: float = 0.25,
        dropout: float = 0.5,
        momentum: float = 0.01,
        l2: float = 1e-5,
        l2_wide: bool = True,
    ) -> None:
        super().__init__()
        check_range("[0, inf)", l2=l2)
        if image_size % 4:
            raise ValueError(f"image_size = {image_size}; it is halved twice, so 4 must divide it.")
        check_range("[1, inf)", width=width)
        check_range("[0, 1)", conv_dropout=conv_dropout, dropout=dropout)
        hidden = self.default_hidden if hidden is None else hidden
        self.image_size = image_size
        self.feature_dim = hidden
        self.l2, self.l2_wide = l2, l2_wide
        layers: list[nn.Module] = []
        channels = 3
        for after in (width, 2 * width):
            block, channels = self.block(channels, after, momentum)
            layers += [block, nn.MaxPool2d(2), nn.Dropout(conv_dropout)]
        self.blocks = nn.Sequential(*layers)
        self.hidden = nn.Sequential(
            nn.Flatten(),
            nn.Linear((image_size // 4) ** 2 * channels, hidden),
            self.activation(),
            DenseBatchNorm(hidden, eps=1e-3, momentum=momentum),
            nn.Dropout(dropout),
        )
        self.head = LinearHead(hidden)
        self.apply(_initialize)
        self.to(memory_format=torch.channels_last)

    def block(self, before: int, width: int, momentum: float) -> tuple[nn.Module, int]:
        """A block for `before` input channels, and its number of output channels."""
        layers: list[nn.Module] = []
        for channels in (before, width):
            norm = nn.BatchNorm2d(width, eps=1e-3, momentum=momentum)
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), norm]
        return nn.Sequential(*layers), width

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`; the network reads values in [-1, 1], as the data come."""
        pixels = resize(image, self.image_size).contiguous(memory_format=torch.channels_last)
        hidden = self.hidden(self.blocks(pixels))  # (B, C, S / 4, S / 4) -> (B, hidden)
        return DetectorOutput(*self.head(hidden))

    def penalty(self) -> Tensor | None:
        """See `Detector.penalty`."""
        parts = (self.blocks, self.hidden, self.head) if self.l2_wide else (self.blocks, self.head)
        layers = [layer for part in parts for layer in part.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        return self.l2 * torch.stack([layer.weight.square().sum() for layer in layers]).sum() if self.l2 else None


class DenseBatchNorm(nn.BatchNorm1d):
    """Batch normalisation whose running variance follows the biased one, as Keras keeps it after dense layers.

    torch's follows the unbiased variance, n / (n - 1) of the biased one for n faces, as Keras does after convolutions.
    """

    biased = True

    def forward(self, input: Tensor) -> Tensor:
        """(B, C) -> (B, C)."""
        if not self.training or self.momentum is None or self.running_mean is None or self.running_var is None:
            return super().forward(input)
        mean, variance = torch.zeros_like(self.running_mean), torch.ones_like(self.running_var)
        normal = F.batch_norm(input, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
        with torch.no_grad():
            cast(Tensor, self.num_batches_tracked).add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * ((len(input) - 1) / len(input)), self.momentum)
        return normal


class AttackNetV21(LivenessNet):
    """Blocks with a skip by concatenation and LeakyReLU(0.2), then 128 tanh units. 33,588,738 parameters."""

    name = "attacknet_v2_1"
    activation: type[nn.Module] = nn.Tanh
    default_hidden = 128
    concatenate: ClassVar[bool] = True
    slope: float = 0.2

    def block(self, before: int, width: int, momentum: float) -> tuple[nn.Module, int]:
        """See `LivenessNet.block`."""
        block = SkipBlock(before, width, momentum, self.concatenate, self.slope)
        return block, block.out_channels


class AttackNetV22(AttackNetV21):
    """v2.1 with a skip by addition, which halves the flattened map. 16,806,722 parameters."""

    name = "attacknet_v2_2"
    concatenate = False


class AttackNetV1(AttackNetV21):
    """v2.1 with ReLU everywhere. 33,588,738 parameters.

    Args:
        image_size, width, hidden, conv_dropout, dropout, momentum, l2, l2_wide: see `LivenessNet`.
        relu: False keeps LeakyReLU and tanh, as the public code of v1 does, which is v2.1.
    """

    name = "attacknet_v1"

    def __init__(
        self,
        image_size: int = 256,
        width: int = 16,
        hidden: int | None = None,
        conv_dropout: float = 0.25,
        dropout: float = 0.5,
        momentum: float = 0.01,
        l2: float = 1e-5,
        l2_wide: bool = True,
        relu: bool = True,
    ) -> None:
        if relu:  # before the base class builds the blocks with them
            self.activation, self.slope = nn.ReLU, 0.0
        super().__init__(image_size, width, hidden, conv_dropout, dropout, momentum, l2, l2_wide)


class SkipBlock(nn.Module):
    """y = conv(x), z = three convolutions deep; y and z joined, then BatchNorm.

    y is the first convolution before its activation, z the third after its own.

    Args:
        before: input channels.
        width: channels of every convolution.
        momentum: of BatchNorm.
        concatenate: join by concatenation (2 * width output channels) instead of addition (width).
        slope: of LeakyReLU; 0 is ReLU.
    """

    def __init__(self, before: int, width: int, momentum: float, concatenate: bool, slope: float) -> None:
        super().__init__()
        self.concatenate = concatenate
        self.out_channels = 2 * width if concatenate else width
        self.first = nn.Conv2d(before, width, 3, padding=1)
        self.deep = nn.Sequential(
            nn.LeakyReLU(slope),
            nn.BatchNorm2d(width, eps=1e-3, momentum=momentum),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(slope),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(slope),
        )
        self.norm = nn.BatchNorm2d(self.out_channels, eps=1e-3, momentum=momentum)

    def forward(self, features: Tensor) -> Tensor:
        """(B, before, H, W) -> (B, out_channels, H, W)."""
        first = self.first(features)  # (B, width, H, W)
        deep = self.deep(first)  # (B, width, H, W)
        return self.norm(torch.cat([first, deep], dim=1) if self.concatenate else first + deep)


def _initialize(module: nn.Module) -> None:
    """Keras' defaults: Glorot uniform kernels, zero biases."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

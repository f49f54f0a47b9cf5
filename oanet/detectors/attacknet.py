"""LivenessNet and AttackNet v1, v2.1, v2.2 (Kuznetsov et al., "Deep Learning Models for Robust Facial Liveness
Detection").

Four small networks in Keras' manner: convolutions with bias, BatchNorm of epsilon 1e-3 and momentum 0.99 after the
activation, one wide layer on the flattened map, where nearly all parameters are. The numbers below are the paper's
(Table 13), which count BatchNorm's running statistics.

Where code and text differ, the text is the default and the preset `released` the code: dropout is 0.25 after the
convolutions and 0.5 before the classifier in the text, half and full of one rate in the code, and the full rate
everywhere in its v2.1. The L2 penalty of 1e-5, which adds 2e-5 of a weight to its gradient, is the optimiser's affair
here. AdamW's `weight_decay` of 2e-5 stands for it and is not the same: it shrinks the weights beside Adam, unscaled by
its denominator. The paper's first class is bona fide, ours attack.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from oanet.detectors.base import Detector, captures_config
from oanet.head import LinearHead
from oanet.output import DetectorOutput
from oanet.vit import resize


class _KerasNet(Detector):
    """Two convolutional blocks, a wide layer, two classes; what differs is in the blocks and the activations."""

    needs_cue: ClassVar[bool] = False

    def _build(
        self,
        blocks: Sequence[tuple[nn.Module, int]],
        hidden_activation: nn.Module,
        image_size: int,
        hidden: int,
        conv_dropout: float,
        dropout: float,
        momentum: float,
    ) -> None:
        halvings = 2 ** len(blocks)
        if image_size % halvings:
            raise ValueError(
                f"image_size = {image_size}; it is halved {len(blocks)} times, so {halvings} must divide it."
            )
        for name, rate in (("conv_dropout", conv_dropout), ("dropout", dropout)):
            if not 0 <= rate < 1:
                raise ValueError(f"{name} = {rate}; a dropout rate lies in [0, 1).")
        self.image_size = image_size
        self.feature_dim = hidden
        layers: list[nn.Module] = []
        for block, _ in blocks:
            layers += [block, nn.MaxPool2d(2), nn.Dropout(conv_dropout)]
        self.blocks = nn.Sequential(*layers)
        flat = (image_size // halvings) ** 2 * blocks[-1][1]
        self.hidden = nn.Sequential(
            nn.Flatten(),
            nn.Linear(flat, hidden),
            hidden_activation,
            nn.BatchNorm1d(hidden, eps=1e-3, momentum=momentum),
            nn.Dropout(dropout),
        )
        self.head = LinearHead(hidden)
        self.apply(_initialize)
        self.to(memory_format=torch.channels_last)

    def forward(
        self, image: torch.Tensor, cue: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> DetectorOutput:
        """See `Detector.forward`; the network reads values in [-1, 1], as the data come."""
        pixels = resize(image, self.image_size).contiguous(memory_format=torch.channels_last)
        return DetectorOutput(*self.head(self.hidden(self.blocks(pixels))))


class LivenessNet(_KerasNet):
    """Per block: convolution, ReLU, BatchNorm, twice; then 64 ReLU units. 8,406,098 parameters.

    Args:
        image_size: side that pictures are resized to.
        width: channels of the first block; the second has twice as many.
        hidden: width of the wide layer and of the feature.
        conv_dropout: after each block.
        dropout: before the classifier.
        momentum: of BatchNorm, as torch counts it: 0.01 is Keras' 0.99.
    """

    name: ClassVar[str] = "livenessnet"

    @captures_config
    def __init__(
        self,
        image_size: int = 256,
        width: int = 16,
        hidden: int = 64,
        conv_dropout: float = 0.25,
        dropout: float = 0.5,
        momentum: float = 0.01,
    ) -> None:
        super().__init__()
        _check_width(width)
        blocks: list[tuple[nn.Module, int]] = []
        before = 3
        for after in (width, 2 * width):
            layers: list[nn.Module] = []
            for channels in (before, after):
                norm = nn.BatchNorm2d(after, eps=1e-3, momentum=momentum)
                layers += [nn.Conv2d(channels, after, 3, padding=1), nn.ReLU(), norm]
            blocks.append((nn.Sequential(*layers), after))
            before = after
        self._build(blocks, nn.ReLU(), image_size, hidden, conv_dropout, dropout, momentum)


class AttackNetV1(_KerasNet):
    """Blocks with a skip by concatenation, then 128 units. 33,588,738 parameters.

    Args:
        image_size, width, hidden, conv_dropout, dropout, momentum: see `LivenessNet`.
        relu: True has ReLU everywhere, as the paper's text; False has LeakyReLU and tanh, as its code, which is v2.1.
    """

    name: ClassVar[str] = "attacknet_v1"

    @captures_config
    def __init__(
        self,
        image_size: int = 256,
        width: int = 16,
        hidden: int = 128,
        conv_dropout: float = 0.25,
        dropout: float = 0.5,
        momentum: float = 0.01,
        relu: bool = True,
    ) -> None:
        super().__init__()
        blocks = _skip_blocks(width, momentum, concatenate=True, slope=0.0 if relu else 0.2)
        activation = nn.ReLU() if relu else nn.Tanh()
        self._build(blocks, activation, image_size, hidden, conv_dropout, dropout, momentum)


class AttackNetV21(_KerasNet):
    """v1 with LeakyReLU(0.2) in the blocks and tanh in the wide layer. 33,588,738 parameters.

    Args:
        image_size, width, hidden, conv_dropout, dropout, momentum: see `LivenessNet`.
    """

    name: ClassVar[str] = "attacknet_v2_1"
    concatenate: ClassVar[bool] = True

    @captures_config
    def __init__(
        self,
        image_size: int = 256,
        width: int = 16,
        hidden: int = 128,
        conv_dropout: float = 0.25,
        dropout: float = 0.5,
        momentum: float = 0.01,
    ) -> None:
        super().__init__()
        blocks = _skip_blocks(width, momentum, concatenate=self.concatenate, slope=0.2)
        self._build(blocks, nn.Tanh(), image_size, hidden, conv_dropout, dropout, momentum)


class AttackNetV22(AttackNetV21):
    """v2.1 with a skip by addition, which halves the flattened map. 16,806,722 parameters.

    Args:
        image_size, width, hidden, conv_dropout, dropout, momentum: see `LivenessNet`.
    """

    name: ClassVar[str] = "attacknet_v2_2"
    concatenate: ClassVar[bool] = False


class SkipBlock(nn.Module):
    """y = conv(x), z = three convolutions deep; y joined with z, then BatchNorm.

    y is the first convolution before its activation, z the third after its own.

    Args:
        before, width: channels that come in, and of every convolution.
        momentum: of BatchNorm.
        concatenate: join by concatenation (2 * width channels go out) instead of addition (width).
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

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        """(B, before, H, W) -> (B, out_channels, H, W)."""
        first = self.first(places)
        deep = self.deep(first)
        return self.norm(torch.cat([first, deep], dim=1) if self.concatenate else first + deep)


def _skip_blocks(width: int, momentum: float, concatenate: bool, slope: float) -> list[tuple[nn.Module, int]]:
    """The blocks and how many channels each gives."""
    _check_width(width)
    blocks: list[tuple[nn.Module, int]] = []
    before = 3
    for channels in (width, 2 * width):
        block = SkipBlock(before, channels, momentum, concatenate, slope)
        before = block.out_channels
        blocks.append((block, before))
    return blocks


def _check_width(width: int) -> None:
    if width < 1:
        raise ValueError(f"width = {width}; the first block needs at least one channel.")


def _initialize(module: nn.Module) -> None:
    """Keras' defaults: Glorot uniform kernels, zero biases."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

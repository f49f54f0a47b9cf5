"""iResNet, the backbone of ArcFace (Deng et al., CVPR 2019; residual unit of Han et al., CVPR 2017).

A residual unit is BN-conv-BN-PReLU-conv-BN without an activation after the sum; the stem keeps the resolution
and the stages halve it. Module names follow insightface's state dicts, so a `backbone.pth` loads as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

WIDTHS = (64, 128, 256, 512)

# Residual units per stage, by the depth in the network's name.
DEPTHS: dict[int, tuple[int, ...]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
}


class IResNetUnit(nn.Module):
    """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.prelu = nn.PReLU(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(x)) + shortcut


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    if stride == 1 and in_channels == out_channels:
        return None
    convolution = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


class IResNet(nn.Module):
    """An iResNet trunk, with ArcFace's embedding head on request.

    Args:
        layers: residual units of the four stages; `DEPTHS` holds those of the published networks.
        widths: channels of the four stages.
        input_size: height and width of the input in pixels; decides the head's number of weights.
        strides: of the four stages. The published networks halve in each; (1, 2, 2, 2) gives a map of
            input_size / 8, for small inputs.
        embedding_dim: length of the embedding, or None for the trunk alone.

    With widths 64 to 512 the trunk of depth 18 has 11,179,008 parameters, and the whole network 24,025,600.
    """

    def __init__(
        self,
        layers: Sequence[int],
        widths: Sequence[int] = WIDTHS,
        input_size: int = 112,
        strides: Sequence[int] = (2, 2, 2, 2),
        embedding_dim: int | None = 512,
    ) -> None:
        super().__init__()
        if not len(layers) == len(widths) == len(strides) == 4:
            raise ValueError(f"an iResNet has four stages; got {layers=}, {widths=}, {strides=}.")
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU(widths[0])
        incoming = (widths[0], *widths[:3])
        stages = [_stage(*arguments) for arguments in zip(layers, incoming, widths, strides, strict=True)]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.bn2 = nn.BatchNorm2d(widths[3])
        self.map_size = _map_size(input_size, strides)
        self.embedding_dim = embedding_dim
        if embedding_dim is not None:
            self.fc = nn.Linear(widths[3] * self.map_size**2, embedding_dim)
            self.features = _embedding_norm(embedding_dim)
        self._initialise()

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) in [-1, 1] -> the map before the head, (B, widths[3], map_size, map_size)."""
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.bn2(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) in [-1, 1] -> the embedding before normalisation, (B, embedding_dim).

        Raises:
            ValueError: the network was built as a trunk alone.
        """
        if self.embedding_dim is None:
            raise ValueError("this iResNet has no embedding head: it was built or loaded as a trunk alone.")
        return self.features(self.fc(self.trunk(x).flatten(1)))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.1)


def _stage(units: int, in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    first = IResNetUnit(in_channels, out_channels, stride)
    return nn.Sequential(first, *(IResNetUnit(out_channels, out_channels, 1) for _ in range(units - 1)))


def _map_size(input_size: int, strides: Sequence[int]) -> int:
    for stride in strides:
        input_size = (input_size - 1) // stride + 1
    return input_size


def _embedding_norm(embedding_dim: int) -> nn.BatchNorm1d:
    # ArcFace normalises the embedding afterwards, so insightface holds this layer's weight at one.
    norm = nn.BatchNorm1d(embedding_dim)
    norm.weight.requires_grad_(False)
    return norm

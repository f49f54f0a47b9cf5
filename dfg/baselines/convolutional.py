"""The convolutional halves of the autoencoders: MemAE's, in two dimensions.

Gong et al. 2019 ("Memorizing Normality to Detect Anomaly"), section 4.2, encode videos by four strided
3 x 3 x 3 convolutions with batch normalisation and LeakyReLU of 0.2 and decode by mirrored transposed ones; here the
time axis is left out. No connection leads from encoder to decoder but through the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

LEAK = 0.2


def check_size(image_size: int, channels: Sequence[int]) -> int:
    """Side of the last map.

    Raises:
        ValueError: the picture cannot be halved so often.
    """
    factor = 2 ** len(channels)
    if image_size < factor or image_size % factor:
        raise ValueError(f"image_size={image_size} must be a multiple of {factor}: {len(channels)} layers halve it.")
    return image_size // factor


def strided_encoder(channels: Sequence[int], biased: bool = True, eps: float = 1e-5) -> nn.Sequential:
    """(B, 3, H, W) -> (B, channels[-1], H / 2^n, W / 2^n).

    Args:
        channels: of the n layers.
        biased: False leaves out biases and batch normalisation's shift and scale: nothing can be made constant.
        eps: of the batch normalisation.
    """
    layers: list[nn.Module] = []
    for inner, outer in zip((3, *channels[:-1]), channels, strict=True):
        layers += [
            nn.Conv2d(inner, outer, 3, stride=2, padding=1, bias=biased),
            nn.BatchNorm2d(outer, eps=eps, affine=biased),
            nn.LeakyReLU(LEAK),
        ]
    return nn.Sequential(*layers)


def strided_decoder(channels: Sequence[int]) -> nn.Sequential:
    """(B, channels[-1], h, w) -> (B, 3, h * 2^n, w * 2^n), the last layer linear."""
    layers: list[nn.Module] = []
    for inner, outer in pairwise(reversed(channels)):
        layers += [_doubling(inner, outer), nn.BatchNorm2d(outer), nn.LeakyReLU(LEAK)]
    return nn.Sequential(*layers, _doubling(channels[0], 3))


def _doubling(inner: int, outer: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inner, outer, 3, stride=2, padding=1, output_padding=1)

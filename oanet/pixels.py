"""Pictures in [-1, 1] as each paper's network wants its pixels."""

from __future__ import annotations

import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def standardize(
    image: torch.Tensor, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD
) -> torch.Tensor:
    """(B, 3, H, W) in [-1, 1] -> (value in [0, 1] - mean) / std, channel by channel; ImageNet's where not given."""
    shift = image.new_tensor(mean).view(1, 3, 1, 1)
    scale = image.new_tensor(std).view(1, 3, 1, 1)
    return ((image + 1) / 2 - shift) / scale


def to_byte_range(image: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) in [-1, 1] -> the same picture in [0, 255]."""
    return (image + 1) * 127.5


def to_bgr_bytes(image: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) RGB in [-1, 1] -> BGR in [0, 255], as OpenCV reads a file."""
    return to_byte_range(image).flip(1)

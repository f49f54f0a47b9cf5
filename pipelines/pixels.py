"""Pixels: uint8 in [0, 255] on disk, float32 in [-1, 1] in networks.

The one mapping of the project is `x / 127.5 - 1`, whose inverse rounds to the nearest level.
"""

from __future__ import annotations

import numpy as np
import torch


def to_unit_range(pixels: np.ndarray) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [-1, 1], contiguous."""
    count, height, width, channels = pixels.shape
    values = torch.empty(count, channels, height, width)
    return values.copy_(torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)).div_(127.5).sub_(1)


def to_unit_face(pixels: np.ndarray, mirrored: bool = False) -> torch.Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float32 in [-1, 1], optionally mirrored left to right.

    The memory keeps the order of the pixels (channels last), which avoids the slow transposition.
    """
    picture = torch.from_numpy(np.ascontiguousarray(pixels))
    if mirrored:
        picture = picture.flip(1)
    return picture.to(torch.float32).div_(127.5).sub_(1).permute(2, 0, 1)


def to_unit_batch(pixels: np.ndarray, mirrored: np.ndarray | None = None) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [-1, 1], channels last in memory.

    Args:
        pixels: the pictures.
        mirrored: (B,) bool, which of them to mirror left to right.
    """
    count, height, width, channels = pixels.shape
    batch = torch.empty(count, height, width, channels).permute(0, 3, 1, 2)
    # One picture at a time fits the processor's cache; a batch does not.
    for place in range(count):
        batch[place] = to_unit_face(pixels[place], mirrored is not None and bool(mirrored[place]))
    return batch


def to_uint8(image: torch.Tensor) -> np.ndarray:
    """(B, 3, H, W), clamped to [-1, 1] -> (B, H, W, 3) uint8."""
    pixels = ((image.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()

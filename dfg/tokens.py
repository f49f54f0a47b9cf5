"""From a recogniser's feature map to the tokens that a U-Net attends to."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def resize_face(image: torch.Tensor, size: int) -> torch.Tensor:
    """Bilinear, without antialiasing, as the public AG-FAS resizes 256 to 112."""
    if image.shape[-2:] == (size, size):
        return image
    return F.interpolate(image, (size, size), mode="bilinear", align_corners=False)


def map_to_tokens(features: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) -> (B, h * w, C)."""
    return features.flatten(2).transpose(1, 2)


def pad_tokens(tokens: torch.Tensor, width: int) -> torch.Tensor:
    """Zero-pad (B, N, C) on the right to (B, N, width): 49 x 512 -> 49 x 768 for Stable Diffusion's U-Net.

    Raises:
        ValueError: the tokens are wider than `width`.
    """
    missing = width - tokens.shape[-1]
    if missing < 0:
        raise ValueError(
            f"identity tokens of {tokens.shape[-1]} values do not fit a U-Net with "
            f"cross_attention_dim={width}; build the U-Net with {tokens.shape[-1]} or more."
        )
    return F.pad(tokens, (0, missing))

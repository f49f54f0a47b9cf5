"""Identity tokens: the cells of a recogniser's feature map, padded or projected to the U-Net's width.

AG-FAS takes the 7 x 7 x 512 map of an iResNet before pooling as 49 tokens of 512 values, and pads them with zeros to
the 768 values that the cross-attention of Stable Diffusion expects.
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import nn
from torch.nn import functional as F

from dfg.saved import ModelMixin


def resize_face(image: torch.Tensor, size: int) -> torch.Tensor:
    """(B, C, H, W) -> (B, C, size, size), bilinear without antialiasing like the public AG-FAS code (256 to 112)."""
    if image.shape[-2:] == (size, size):
        return image
    return F.interpolate(image, (size, size), mode="bilinear", align_corners=False)


def map_to_tokens(features: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) -> (B, h * w, C), in row-major order."""
    return features.flatten(2).transpose(1, 2)


def check_width(token_dim: int, width: int) -> None:
    """Check that tokens of `token_dim` values can be padded to `width`.

    Raises:
        ValueError: they are wider.
    """
    if token_dim > width:
        raise ValueError(
            f"identity tokens of {token_dim} values do not fit a U-Net with cross_attention_dim={width}: build the"
            f" U-Net with {token_dim} or more, or project the tokens."
        )


def pad_tokens(tokens: torch.Tensor, width: int) -> torch.Tensor:
    """Zero-pad (B, N, C) on the right to (B, N, width): 49 x 512 -> 49 x 768 for Stable Diffusion's U-Net.

    Raises:
        ValueError: C is greater than `width`.
    """
    check_width(tokens.shape[-1], width)
    return F.pad(tokens, (0, width - tokens.shape[-1]))


class TokenProjection(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """(B, N, token_dim) -> (B, N, width): one linear map for all tokens, trained with the U-Net.

    Initialised as the identity with zero padding, so that training starts from the paper's condition. If `width` is
    smaller than `token_dim`, it starts by keeping the first `width` values.

    Args:
        token_dim: values per identity token, 512 for iResNet.
        width: `cross_attention_dim` of the U-Net.
    """

    @register_to_config
    def __init__(self, token_dim: int = 512, width: int = 768) -> None:
        super().__init__()
        self.linear = nn.Linear(token_dim, width)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, N, token_dim) -> (B, N, width)."""
        return self.linear(tokens)

"""A learned map from identity tokens to the U-Net's condition, in place of zero padding."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn


class TokenProjection(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """(B, N, token_dim) -> (B, N, width), one linear map for all tokens, trained with the U-Net.

    It starts as the zero padding of the paper (a unit matrix, no bias), so that training leaves it only where that
    lowers the loss. `width` may be smaller than `token_dim`; then it starts with the first values.

    Args:
        token_dim: values of an identity token, 512 for iResNet.
        width: the U-Net's cross_attention_dim.
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

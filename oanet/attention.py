"""The off-real cross-attention: image tokens ask the cue tokens where the face is off from real."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class OffRealCrossAttention(nn.Module):
    """Pre-norm cross-attention from image tokens to cue tokens (AG-FAS, Sec. III-C).

    Only the query is normalised; the cue tokens enter raw, without position code or projection. The output
    projection starts at exactly zero, so a network with this layer starts as the same network without it.

    Args:
        dim: width of the image tokens.
        cue_dim: width of the cue tokens.
        num_heads: must divide `dim`.
        layer_norm_eps: epsilon of the query's LayerNorm.
    """

    def __init__(self, dim: int, cue_dim: int, num_heads: int, layer_norm_eps: float = 1e-12) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads = {num_heads} does not divide the width {dim}.")
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(cue_dim, dim)
        self.value = nn.Linear(cue_dim, dim)
        self.output = nn.Linear(dim, dim)
        for layer in (self.query, self.key, self.value):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(
        self, tokens: torch.Tensor, cue_tokens: torch.Tensor, need_weights: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What to add to the image tokens.

        Args:
            tokens: (B, T, dim).
            cue_tokens: (B, N, cue_dim).
            need_weights: also return the attention map, at the price of forming it.

        Returns:
            The update (B, T, dim), and the map (B, num_heads, T, N) or None.
        """
        query = self._split(self.query(self.norm(tokens)))  # (B, heads, T, dim / heads)
        key, value = self._split(self.key(cue_tokens)), self._split(self.value(cue_tokens))
        weights = None
        if need_weights:
            scale = query.shape[-1] ** -0.5
            weights = ((query * scale) @ key.transpose(-2, -1)).float().softmax(dim=-1)
            attended = weights.to(value.dtype) @ value
        else:
            attended = F.scaled_dot_product_attention(query, key, value)
        return self.output(attended.transpose(1, 2).flatten(2)), weights

    def _split(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T, dim) -> (B, heads, T, dim / heads)."""
        return tokens.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

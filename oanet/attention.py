"""The off-real cross-attention (AG-FAS, Sec. III-C), and its place in the blocks of an image transformer."""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from oanet.cue_encoder import CueEncoder
from oanet.detectors.base import Detector, check_cue
from oanet.towers import Half


class OffRealCrossAttention(nn.Module):
    """Pre-norm cross-attention from image tokens to cue tokens (AG-FAS, Sec. III-C).

    Only the query is normalised; the cue tokens have no norm, position code or projection. The output projection
    starts at zero, so that a network with this layer starts as the same network without it.

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

    def forward(self, tokens: Tensor, cue_tokens: Tensor, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """The update of the image tokens.

        Args:
            tokens: (B, T, dim).
            cue_tokens: (B, N, cue_dim).
            need_weights: also return the attention map, which the fused kernel does not form.

        Returns:
            The update (B, T, dim), and the map (B, num_heads, T, N) or None.
        """
        query = self._split(self.query(self.norm(tokens)))  # (B, heads, T, dim / heads)
        key, value = self._split(self.key(cue_tokens)), self._split(self.value(cue_tokens))
        weights = None
        if need_weights:
            scale = query.shape[-1] ** -0.5
            # Softmax in float32, so that the rows of the map sum to one under autocast too.
            weights = ((query * scale) @ key.transpose(-2, -1)).float().softmax(dim=-1)
            attended = weights.to(value.dtype) @ value
        else:
            attended = F.scaled_dot_product_attention(query, key, value)
        return self.output(attended.transpose(1, 2).flatten(2)), weights

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, T, dim) -> (B, heads, T, dim / heads)."""
        return tokens.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class Pluggable(Detector):
    """Base class of transformers that can be conditioned on the cue.

    After `plug_in`, each block computes h = SA(h); h = h + CA(LNx(h), cue); h = MLP(h), where SA and MLP are the
    block's halves with their residuals and norms. CA's output starts at zero, so an untrained network ignores the cue.

    Attributes:
        cue_channels: 3, or 6 for a two-part cue.
        cue_encoder: turns the cue, at its own size, into tokens.
        cross_attention: one `OffRealCrossAttention` per block.
    """

    cue_channels: int
    cue_encoder: CueEncoder
    cross_attention: nn.ModuleList

    def plug_in(self, cue_encoder: CueEncoder, dim: int, num_heads: int, depth: int, layer_norm_eps: float) -> None:
        """Add the cue encoder, and cross-attention in every block; from now on the detector needs a cue.

        Args:
            cue_encoder: makes the cue tokens.
            dim, num_heads, depth: width, heads and number of the transformer's blocks.
            layer_norm_eps: epsilon of the query's LayerNorm.
        """
        self.needs_cue = True
        self.cue_channels = cue_encoder.in_channels
        self.cue_encoder = cue_encoder
        self.cross_attention = nn.ModuleList(
            OffRealCrossAttention(dim, cue_encoder.dim, num_heads, layer_norm_eps) for _ in range(depth)
        )

    def attend(
        self,
        tokens: Tensor,
        cue: Tensor | None,
        blocks: Iterable[nn.Module],
        halves: tuple[Half, Half],
        need_weights: bool,
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """Run all blocks, each attending to the cue.

        Args:
            tokens: (B, T, dim), input of the first block.
            cue: (B, cue_channels, H, W).
            blocks: of the transformer.
            halves: functions that compute the self-attention half and the MLP half of a block.
            need_weights: also return the attention maps.

        Returns:
            Tokens (B, T, dim), and one map (B, num_heads, T, N) per block or None.

        Raises:
            ValueError: the cue is missing, or has another number of channels.
        """
        cue_tokens = self.cue_encoder(check_cue(cue, self.name, self.cue_channels))  # (B, N, cue_dim)
        maps: list[Tensor] = []
        self_attention, mlp = halves
        for block, cross_attention in zip(blocks, self.cross_attention, strict=True):
            tokens = self_attention(block, tokens)
            update, weights = cross_attention(tokens, cue_tokens, need_weights)
            tokens = mlp(block, tokens + update)
            if weights is not None:
                maps.append(weights)
        return tokens, tuple(maps) if need_weights else None

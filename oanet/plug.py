"""OA-Net's plug: the cue, by cross-attention, in every block of an image transformer (AG-FAS, Sec. III-C)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from oanet.attention import OffRealCrossAttention
from oanet.cue_encoder import CueEncoder
from oanet.detectors.base import Detector, check_cue

Half = Callable[[torch.Tensor], torch.Tensor]
"""Half of a block, its own residual included: tokens (B, T, width) -> (B, T, width)."""


class Pluggable(Detector):
    """A transformer that may be given the cue.

    In each block h = SA(h); h = h + CA(LNx(h), cue); h = MLP(h), where SA and MLP are the block's halves with their
    residuals and norms. CA's output starts at zero, so a fresh one answers exactly as it would without the plug,
    whatever the cue. Until `plug_in` is called there is neither plug nor cue.

    Attributes:
        cue_channels: 3, or 6 for a two-part cue.
        cue_encoder: turns the cue, at its own size, into tokens.
        cross_attention: one `OffRealCrossAttention` a block.
    """

    cue_channels: int
    cue_encoder: CueEncoder
    cross_attention: nn.ModuleList

    def plug_in(self, cue_encoder: CueEncoder, dim: int, num_heads: int, depth: int, layer_norm_eps: float) -> None:
        """Add the cue encoder, and cross-attention to it in every block; from now on the detector needs a cue.

        Args:
            cue_encoder: for `cue_channels` channels.
            dim, num_heads, depth: width, heads and number of the transformer's blocks.
            layer_norm_eps: of the cross-attention's query.
        """
        self.needs_cue = True  # type: ignore[misc]  # a constant of most classes, an option of these
        self.cue_channels = cue_encoder.in_channels
        self.cue_encoder = cue_encoder
        self.cross_attention = nn.ModuleList(
            OffRealCrossAttention(dim, cue_encoder.dim, num_heads, layer_norm_eps) for _ in range(depth)
        )

    def plug_into(
        self, vit: VisionTransformer, backbone: str, layer_norm_eps: float | None, encoder: CueEncoder
    ) -> None:
        """`plug_in` for the blocks of a timm ViT; see `vit_blocks` for what `backbone` may be."""
        blocks: list[Any] = list(vit.blocks)
        vit_blocks(vit, backbone)
        eps = 1e-6 if layer_norm_eps is None else layer_norm_eps
        self.plug_in(encoder, vit.embed_dim, blocks[0].attn.num_heads, len(blocks), eps)

    def attend(
        self, tokens: torch.Tensor, cue: torch.Tensor | None, blocks: Iterable[tuple[Half, Half]], need_weights: bool
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...] | None]:
        """The image tokens behind all blocks, the cue attended to in each.

        Args:
            tokens: (B, T, dim), as the first block takes them.
            cue: (B, cue_channels, H, W).
            blocks: self-attention half and MLP half of each block.
            need_weights: return the attention maps, too.

        Returns:
            Tokens (B, T, dim), and one map (B, num_heads, T, N) per block or None.

        Raises:
            ValueError: for a missing cue, or one with other channels.
        """
        cue_tokens = self.cue_encoder(check_cue(cue, self.name, self.cue_channels))  # (B, N, cue_dim)
        maps: list[torch.Tensor] = []
        for (self_attention, mlp), cross_attention in zip(blocks, self.cross_attention, strict=True):
            tokens = self_attention(tokens)
            update, weights = cross_attention(tokens, cue_tokens, need_weights)
            tokens = mlp(tokens + update)
            if weights is not None:
                maps.append(weights)
        return tokens, tuple(maps) if need_weights else None


def embed(vit: VisionTransformer, image: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) -> (B, T, width): patches, class token and position codes, as timm's own `forward_features`."""
    return vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(image))))


def vit_blocks(vit: VisionTransformer, backbone: str = "the ViT") -> list[tuple[Half, Half]]:
    """The halves of a timm ViT's blocks.

    Raises:
        ValueError: where the blocks are not of the one kind that can be opened up like this.
    """
    blocks: list[Any] = list(vit.blocks)
    kinds = {type(block) for block in blocks}
    if kinds != {Block}:
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(
            f"{backbone!r} has blocks of the kind {found}; cross-attention goes between the self-attention "
            "and the MLP of plain pre-norm blocks, such as those of 'vit_base_patch16_224' or "
            "'vit_small_patch14_dinov2'."
        )
    return [(partial(_self_attention, block), partial(_mlp, block)) for block in blocks]


def _self_attention(block: Any, tokens: torch.Tensor) -> torch.Tensor:
    return tokens + block.drop_path1(block.ls1(block.attn(block.norm1(tokens))))


def _mlp(block: Any, tokens: torch.Tensor) -> torch.Tensor:
    return tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))

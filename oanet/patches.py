"""The patch tokens of a detector's ViTs, and how the class token attends to them in the last block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from oanet.attention import Pluggable
from oanet.batch import DetectorOutput
from oanet.cue_encoder import CueEncoder
from oanet.networks import Attention, EvaAttention, apply_rot_embed_cat
from oanet.towers import ViTTower, check_blocks


@runtime_checkable
class PatchDetector(Protocol):
    """What losses of patches need of a detector.

    Attributes:
        patch_dim: C, width of a patch token.
        patch_grid: rows and columns of patches, N = rows * columns.
    """

    patch_dim: int
    patch_grid: tuple[int, int]

    def see_patches(self, image: Tensor, cue: Tensor | None = None) -> DetectorOutput:
        """`forward` with `patches` and `patch_attention`."""


class ViTDetector(Pluggable):
    """Base class of detectors made of timm's ViTs; a `PatchDetector`."""

    backbones = MappingProxyType({"backbone": "backbone_options", "cue_backbone": "cue_options"})

    def towers(self) -> tuple[ViTTower, ...]:
        """The ViTs in the order in which their pooled vectors are concatenated."""
        vits = (getattr(self, name, None) for name in ("vit", "cue_vit"))
        return tuple(vit for vit in vits if vit is not None)

    def plug_into(self, vit: ViTTower, backbone: str, encoder: CueEncoder) -> None:
        """`plug_in` for a ViT. Raises ValueError unless its blocks are plain pre-norm ones."""
        check_blocks(vit, backbone)
        blocks: list[Any] = list(vit.blocks)
        self.plug_in(encoder, vit.embed_dim, blocks[0].attn.num_heads, len(blocks), blocks[0].norm1.eps)

    @property
    def patch_dim(self) -> int:
        """C of `DetectorOutput.patches`: the widths of all ViTs."""
        return sum(vit.embed_dim for vit in self.towers())

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of patches, equal in all ViTs."""
        rows, columns = self.towers()[0].patch_embed.grid_size
        return rows, columns

    def see_patches(self, image: Tensor, cue: Tensor | None = None) -> DetectorOutput:
        """`forward` with `patches` and `patch_attention`: two ViTs' tokens side by side, and the mean attention.

        Raises:
            ValueError: see `forward`; or a ViT has no class token, another kind of attention, or drops patches.
        """
        with ExitStack() as open_views:
            views = [open_views.enter_context(watched(vit)) for vit in self.towers()]
            output = self(image, cue)
        attention = torch.stack([view.class_attention() for view in views]).mean(dim=0)
        return replace(output, patches=torch.cat([view.patches() for view in views], dim=2), patch_attention=attention)


@dataclass
class View:
    """What one forward pass of a ViT leaves behind.

    Attributes:
        vit: that was run.
        tokens: (B, T, width), after the final norm.
        read: (B, T, width), what the last block's attention has read.
        rope: the rotary codes of the patches, of DINOv3.
    """

    vit: ViTTower
    tokens: Tensor | None = None
    read: Tensor | None = None
    rope: Tensor | None = None

    def patches(self) -> Tensor:
        """(B, N, width): the normalised tokens without class token and registers, in row-major order."""
        assert self.tokens is not None
        patches = self.vit.fc_norm(self.tokens[:, self.vit.num_prefix_tokens :])  # the identity where `norm` is none
        rows, columns = self.vit.patch_embed.grid_size
        if patches.shape[1] != rows * columns:
            raise ValueError(f"{patches.shape[1]} of {rows * columns} patches are left; set patch_drop_rate to 0.")
        return patches

    @torch.no_grad()
    def class_attention(self) -> Tensor:
        """(B, N) float32 in [0, 1]: the class token's attention to the patches, averaged over heads."""
        assert self.read is not None
        attention: Any = self.vit.blocks[-1].attn
        prefix = self.vit.num_prefix_tokens
        query = attention.q_norm(_project(attention, self.read[:, :1], 0))
        key = attention.k_norm(_project(attention, self.read, 1))
        if self.rope is not None:  # of the patches alone
            turned = apply_rot_embed_cat(key[:, :, prefix:], self.rope, half=attention.rotate_half)
            key = torch.cat([key[:, :, :prefix], turned], dim=2).type_as(query)
        scores = (query * attention.scale) @ key.transpose(-2, -1)  # (B, heads, 1, T)
        return scores.float().softmax(dim=-1).mean(dim=1)[:, 0, prefix:]


@contextmanager
def watched(vit: ViTTower) -> Iterator[View]:
    """Keep what the ViT computes while this is open; the fused attention itself forms no map.

    Raises:
        ValueError: the ViT has no class token, or another kind of attention.
    """
    attention = getattr(vit.blocks[-1], "attn", None)
    if vit.cls_token is None or not isinstance(attention, Attention | EvaAttention) or attention.qkv is None:
        raise ValueError("Patch tokens are given by ViTs with a class token and plain attention in their last block.")
    view = View(vit)

    def read(module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        view.read, view.rope = inputs[0].detach(), options.get("rope")

    def tokens(module: Any, inputs: Any, output: Tensor) -> None:
        view.tokens = output

    handles = (attention.register_forward_pre_hook(read, with_kwargs=True), vit.norm.register_forward_hook(tokens))
    try:
        yield view
    finally:
        for handle in handles:
            handle.remove()


def _project(attention: Any, tokens: Tensor, part: int) -> Tensor:
    """(B, T, width) -> the queries (part 0) or keys (1) of the tokens (B, heads, T, width / heads)."""
    width = attention.num_heads * attention.head_dim
    rows = slice(part * width, (part + 1) * width)
    bias = None if attention.qkv.bias is None else attention.qkv.bias[rows]
    if part == 0 and bias is None:  # DINOv3 keeps the queries' bias, if any, beside the matrix, and has none of keys
        bias = getattr(attention, "q_bias", None)
    projected = F.linear(tokens, attention.qkv.weight[rows], bias)
    return projected.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)

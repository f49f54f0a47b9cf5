"""Cross-attention that projects a face's identity once, and the choice of the attention kernel.

A cue takes tens of calls of the U-Net per face and t, and the identity tokens are the same in all of them; so are the
keys and values that every cross-attention projects from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import nn
from torch.nn import functional as F

ATTENTIONS = ("sdpa", "eager", "xformers")


class HeldCrossAttention:
    """A processor of diffusers' Attention that can hold the keys and values of some tokens.

    With nothing held it computes what `AttnProcessor2_0` computes, or `AttnProcessor` where it is `eager`; with held
    ones the same numbers without the two projections.

    Attributes:
        eager: two products and a softmax instead of torch's fused kernel.
        tokens: (B, N, D), those whose keys and values are held, or None.
        key, value: (B, heads, N, D / heads).
    """

    def __init__(self, eager: bool = False) -> None:
        self.eager = eager
        self.tokens: torch.Tensor | None = None
        self.key: torch.Tensor | None = None
        self.value: torch.Tensor | None = None

    def hold(self, attention: Any, tokens: torch.Tensor) -> None:
        """Project the tokens' keys and values for the calls to come."""
        self.tokens = tokens
        self.key, self.value = _keys_and_values(attention, tokens)

    def forget(self) -> None:
        """Hold nothing."""
        self.tokens = self.key = self.value = None

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend from hidden_states (B, L, C) to the tokens (B, N, D); the names are diffusers'."""
        if attention_mask is not None:
            raise ValueError("identity tokens are all attended to: no attention_mask is taken.")
        tokens = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        key, value = self._held(attn, tokens)
        query = _heads(attn, attn.to_q(hidden_states))
        if self.eager:
            attended = _products(attn, query, key, value)
        else:
            attended = F.scaled_dot_product_attention(query, key, value)
        merged = attended.transpose(1, 2).reshape(len(hidden_states), -1, attn.heads * query.shape[-1])
        return attn.to_out[1](attn.to_out[0](merged)) / attn.rescale_output_factor

    def _held(self, attn: Any, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.key is None or self.value is None:
            return _keys_and_values(attn, tokens)
        if tokens is not self.tokens:
            raise ValueError("the U-Net was called with other tokens than those whose keys and values are held.")
        return self.key, self.value


@contextmanager
def identity_held(unet: nn.Module, tokens: torch.Tensor) -> Iterator[None]:
    """Inside, the U-Net may be called with these very tokens only, and does not project them again.

    Args:
        unet: UNet2DConditionModel or PreconditionedUNet. Cross-attentions with a processor of another kind (xformers,
            LoRA) are left as they are.
        tokens: (B, N, D) of the U-Net's type and on its device.
    """
    layers = _plain_cross_attentions(unet)
    former = [layer.processor for layer in layers]
    for layer in layers:
        if not isinstance(layer.processor, HeldCrossAttention):
            layer.set_processor(_holding(layer))
        layer.processor.hold(layer, tokens)
    try:
        yield
    finally:
        for layer, processor in zip(layers, former, strict=True):
            layer.processor.forget()
            layer.set_processor(processor)


def install_held(unet: nn.Module) -> None:
    """Put the processors of `identity_held` in for good, so that a compiled U-Net sees no change of them."""
    for layer in _plain_cross_attentions(unet):
        layer.set_processor(_holding(layer))


def use_attention(unet: Any, kernel: str) -> None:
    """Choose the attention kernel: torch's own (`sdpa`, the default), two products and a softmax, or that of xformers.

    `eager` keeps every weight of the attention in memory; at narrow heads, in bfloat16 on a processor, it can be the
    faster one all the same.

    Raises:
        ValueError: no such kernel; or xformers without CUDA or without the package.
    """
    if kernel not in ATTENTIONS:
        raise ValueError(f"no attention {kernel!r}; there are {', '.join(ATTENTIONS)}.")
    if kernel == "sdpa":
        return
    if kernel == "eager":
        for layer in _plain_attentions(unet):
            layer.set_processor(AttnProcessor())
        return
    if not torch.cuda.is_available():
        raise ValueError("attention: xformers needs a CUDA device, and there is none here: use attention: sdpa.")
    try:
        unet.enable_xformers_memory_efficient_attention()
    except ModuleNotFoundError as error:
        raise ValueError('attention: xformers needs the package: pip install "agfas[xformers]".') from error


def _plain_attentions(unet: nn.Module) -> list[Any]:
    return [module for module in unet.modules() if isinstance(module, Attention) and _is_plain(module)]


def _plain_cross_attentions(unet: nn.Module) -> list[Any]:
    return [layer for layer in _plain_attentions(unet) if layer.is_cross_attention]


def _holding(layer: Any) -> HeldCrossAttention:
    return HeldCrossAttention(eager=isinstance(layer.processor, AttnProcessor))


def _is_plain(layer: Attention) -> bool:
    """Whether nothing happens in it beyond projections, attention and output, as in Stable Diffusion's blocks."""
    known = isinstance(layer.processor, (AttnProcessor2_0, AttnProcessor, HeldCrossAttention))
    norms = (layer.spatial_norm, layer.group_norm, layer.norm_cross, layer.norm_q, layer.norm_k)
    plain = all(norm is None for norm in norms) and layer.added_kv_proj_dim is None
    return known and plain and not layer.residual_connection


def _keys_and_values(attn: Any, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return _heads(attn, attn.to_k(tokens)), _heads(attn, attn.to_v(tokens))


def _products(attn: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """(B, heads, L, d) and two of (B, heads, N, d) -> (B, heads, L, d), by the very operations of `AttnProcessor`."""
    weights = attn.get_attention_scores(query.flatten(0, 1), key.flatten(0, 1))
    return torch.bmm(weights, value.flatten(0, 1)).view_as(query)


def _heads(attn: Any, values: torch.Tensor) -> torch.Tensor:
    """(B, L, heads * d) -> (B, heads, L, d)."""
    return values.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

"""Cross-attention with cached keys and values, and the choice of the attention kernel.

Restoring one face takes tens of U-Net calls per timestep, all with the same identity tokens. The keys and values that
every cross-attention layer projects from these tokens do not depend on the latents, so they are projected once.
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


class CachedCrossAttention:
    """A processor for diffusers' `Attention` that can cache keys and values.

    Bit-identical to `AttnProcessor2_0`, or to `AttnProcessor` if `eager`, with or without a cache.

    Attributes:
        eager: two matrix products and a softmax instead of torch's fused kernel.
        tokens: (B, N, D), the tokens whose keys and values are cached, or None.
        key, value: (B, heads, N, D / heads), or None.
    """

    def __init__(self, eager: bool = False) -> None:
        self.eager = eager
        self.tokens: torch.Tensor | None = None
        self.key: torch.Tensor | None = None
        self.value: torch.Tensor | None = None

    def fill(self, attn: Attention, tokens: torch.Tensor) -> None:
        """Cache the keys and values of `tokens`."""
        self.tokens = tokens
        self.key, self.value = _keys_and_values(attn, tokens)

    def clear(self) -> None:
        """Empty the cache."""
        self.tokens = self.key = self.value = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend from hidden_states (B, L, C) to encoder_hidden_states (B, N, D). Argument names are diffusers'."""
        if attention_mask is not None:
            raise ValueError("attention_mask is not supported: all identity tokens are attended to.")
        tokens = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        key, value = self._cached_or_projected(attn, tokens)
        query = _heads(attn, attn.to_q(hidden_states))
        if self.eager:
            attended = _eager_attention(attn, query, key, value)
        else:
            attended = F.scaled_dot_product_attention(query, key, value)
        merged = attended.transpose(1, 2).reshape(hidden_states.shape[0], -1, attn.heads * query.shape[-1])
        return attn.to_out[1](attn.to_out[0](merged)) / attn.rescale_output_factor

    def _cached_or_projected(self, attn: Attention, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.key is None or self.value is None:
            return _keys_and_values(attn, tokens)
        # Compared by identity, not by value: comparing values would cost a synchronisation per layer and call.
        if tokens is not self.tokens:
            raise ValueError("the U-Net was called with other tokens than those whose keys and values are cached.")
        return self.key, self.value


@contextmanager
def cached_cross_attention(unet: nn.Module, tokens: torch.Tensor) -> Iterator[None]:
    """Cache the keys and values of `tokens` in every cross-attention of the U-Net inside the block.

    Inside, the U-Net accepts this very tensor only.

    Args:
        unet: UNet2DConditionModel or PreconditionedUNet. Cross-attention layers with another kind of processor
            (xformers, LoRA) are left unchanged, and are not cached.
        tokens: (B, N, D), with the U-Net's dtype and on its device.
    """
    layers = _plain_cross_attentions(unet)
    former = [layer.processor for layer in layers]
    for layer in layers:
        if not isinstance(layer.processor, CachedCrossAttention):
            layer.set_processor(_cached_processor(layer))
        layer.processor.fill(layer, tokens)
    try:
        yield
    finally:
        for layer, processor in zip(layers, former, strict=True):
            layer.processor.clear()
            layer.set_processor(processor)


def install_cached_attention(unet: nn.Module) -> None:
    """Install the processors of `cached_cross_attention` permanently.

    A compiled U-Net then sees the same processors in every call; replacing them would trigger a recompilation.
    """
    for layer in _plain_cross_attentions(unet):
        layer.set_processor(_cached_processor(layer))


def use_attention(unet: Any, kernel: str) -> None:
    """Choose the attention kernel: `sdpa` (torch's fused kernel, the default), `eager` or `xformers`.

    `eager` materialises the attention weights, which costs memory. On a CPU in bfloat16 with narrow heads it can
    still be the faster one.

    Raises:
        ValueError: an unknown kernel; or xformers without CUDA or without the package.
    """
    if kernel not in ATTENTIONS:
        raise ValueError(f"unknown attention {kernel!r}. Allowed: {', '.join(ATTENTIONS)}.")
    if kernel == "sdpa":
        return
    if kernel == "eager":
        for layer in _plain_attentions(unet):
            layer.set_processor(AttnProcessor())
        return
    if not torch.cuda.is_available():
        raise ValueError("attention: xformers needs a CUDA device, and none was found. Use attention: sdpa.")
    try:
        unet.enable_xformers_memory_efficient_attention()
    except ModuleNotFoundError as error:
        raise ValueError('attention: xformers needs the package: pip install "agfas[xformers]".') from error


def _plain_attentions(unet: nn.Module) -> list[Any]:
    return [module for module in unet.modules() if isinstance(module, Attention) and _is_plain(module)]


def _plain_cross_attentions(unet: nn.Module) -> list[Any]:
    return [layer for layer in _plain_attentions(unet) if layer.is_cross_attention]


def _cached_processor(layer: Attention) -> CachedCrossAttention:
    return CachedCrossAttention(eager=isinstance(layer.processor, AttnProcessor))


def _is_plain(layer: Attention) -> bool:
    """Whether the layer only projects, attends and projects back, as in Stable Diffusion's transformer blocks."""
    known = isinstance(layer.processor, (AttnProcessor2_0, AttnProcessor, CachedCrossAttention))
    norms = (layer.spatial_norm, layer.group_norm, layer.norm_cross, layer.norm_q, layer.norm_k)
    plain = all(norm is None for norm in norms) and layer.added_kv_proj_dim is None
    return known and plain and not layer.residual_connection


def _keys_and_values(attn: Attention, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return _heads(attn, attn.to_k(tokens)), _heads(attn, attn.to_v(tokens))


def _eager_attention(attn: Attention, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """(B, heads, L, d) attends to (B, heads, N, d); the operations of `AttnProcessor`, for equal bits."""
    weights = attn.get_attention_scores(query.flatten(0, 1), key.flatten(0, 1))
    return torch.bmm(weights, value.flatten(0, 1)).view_as(query)


def _heads(attn: Attention, values: torch.Tensor) -> torch.Tensor:
    """(B, L, heads * d) -> (B, heads, L, d)."""
    return values.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

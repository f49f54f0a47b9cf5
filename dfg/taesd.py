"""Tiny autoencoders in the layout of madebyollin/taesd (TAESD, TAESD3, TAEF1, TAEF2).

diffusers' AutoencoderTiny is the same network without the pooled blocks that TAEF2 has at the lowest resolution.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import nn

from dfg.saved import ModelMixin
from dfg.state_dict import read_state_dict

_WIDTH = 64
_GROUPS = 4
_BLOCKS_PER_STAGE = 3
HALVINGS = 3
"""How often the encoder halves the sides."""


class TaesdBlock(nn.Module):
    """A residual block, (B, 64, h, w) -> (B, 64, h, w); `pooled` adds a normalised 1x1 branch before it."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(), nn.ReLU(), _conv(), nn.ReLU(), _conv())
        self.pool = _pooled_branch() if pooled else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class TaesdAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Deterministic autoencoder, factor 8: (B, 3, H, W) in [-1, 1] <-> (B, latent_channels, H / 8, W / 8).

    Args:
        latent_channels: 4, 16 or 32 in the published models.
        pooled: whether the blocks at the lowest resolution have the 1x1 branch.
        scaling_factor, shift_factor: `encode_latents` returns (latents - shift_factor) * scaling_factor.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        pooled: bool = True,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = _encoder(latent_channels, pooled)
        self.decoder = _decoder(latent_channels, pooled)

    def encode(self, x: torch.Tensor, return_dict: bool = True) -> Any:
        """(B, 3, H, W) in [-1, 1], sides multiples of 8 -> `.latents`, (B, latent_channels, H / 8, W / 8)."""
        # The published weights work on pixels in [0, 1].
        latents = self.encoder((x + 1) / 2)
        return AutoencoderTinyOutput(latents=latents) if return_dict else (latents,)

    def decode(self, z: torch.Tensor, return_dict: bool = True, **kwargs: Any) -> Any:
        """(B, latent_channels, h, w) -> `.sample`, (B, 3, 8h, 8w), not clamped."""
        sample = self.decoder(z) * 2 - 1
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        """Encode and decode: (B, 3, H, W) -> (B, 3, H, W)."""
        return self.decode(self.encode(sample).latents).sample


class SoftClamp(nn.Module):
    """3 tanh(z / 3): the decoder was trained on latents in (-3, 3)."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(z / 3) * 3


def load_taesd(encoder_path: str | Path, decoder_path: str | Path) -> TaesdAutoencoder:
    """Build a `TaesdAutoencoder` in float32 from two state dicts; their names and shapes determine the variant.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or the two are not an encoder and a decoder of this layout.
    """
    encoder, decoder = read_state_dict(encoder_path), read_state_dict(decoder_path)
    convolutions = [tensor for name, tensor in encoder.items() if re.fullmatch(r"\d+\.weight", name)]
    if not convolutions:
        raise ValueError(f"{encoder_path} is no TAESD encoder: it has no tensors with names such as '0.weight'.")
    pooled = any(".pool." in name for name in encoder)
    model = TaesdAutoencoder(latent_channels=len(convolutions[-1]), pooled=pooled)
    _load(model.encoder, encoder, encoder_path)
    _load(model.decoder, decoder, decoder_path)
    return model.eval()


def _load(module: nn.Module, state: dict[str, torch.Tensor], path: str | Path) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} is not of the TAESD layout: {error}") from error


def _encoder(latent_channels: int, pooled: bool) -> nn.Sequential:
    layers: list[nn.Module] = [_conv(3), TaesdBlock(False)]
    for stage in range(HALVINGS):
        deepest = stage == HALVINGS - 1
        layers.append(_conv(stride=2, bias=False))
        layers += [TaesdBlock(pooled and deepest) for _ in range(_BLOCKS_PER_STAGE)]
    return nn.Sequential(*layers, _conv(out_channels=latent_channels))


def _decoder(latent_channels: int, pooled: bool) -> nn.Sequential:
    layers: list[nn.Module] = [SoftClamp(), _conv(latent_channels), nn.ReLU()]
    for stage in range(HALVINGS):
        layers += [TaesdBlock(pooled and stage == 0) for _ in range(_BLOCKS_PER_STAGE)]
        layers += [nn.Upsample(scale_factor=2), _conv(bias=False)]
    return nn.Sequential(*layers, TaesdBlock(False), _conv(out_channels=3))


def _conv(in_channels: int = _WIDTH, out_channels: int = _WIDTH, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias)


def _pooled_branch() -> nn.Sequential:
    wide = _WIDTH * 4
    return nn.Sequential(
        nn.Conv2d(_WIDTH, wide, 1, bias=False),
        nn.GroupNorm(_GROUPS, wide),
        nn.ReLU(),
        nn.Conv2d(wide, _WIDTH, 1, bias=False),
    )

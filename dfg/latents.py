"""Picture <-> latents of unit scale, whichever autoencoder it is."""

from __future__ import annotations

from typing import Any

import torch


def encode_latents(autoencoder: Any, image: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) in [-1, 1] -> latents as diffusion sees them, (B, C, h, w) float32.

    Takes the posterior's mode, never a sample: the public recipe samples, so every run makes other cues.
    AutoencoderKL, AutoencoderTiny, PatchAutoencoder and TaesdAutoencoder are understood, with their
    `scaling_factor` and `shift_factor`.
    """
    output = autoencoder.encode(image.to(autoencoder.dtype))
    latents = output.latent_dist.mode() if hasattr(output, "latent_dist") else output.latents
    scale, shift = _scale_and_shift(autoencoder)
    return (latents.float() - shift) * scale


def decode_latents(autoencoder: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents as diffusion sees them, (B, C, h, w) -> picture (B, 3, H, W) float32, clamped to [-1, 1]."""
    scale, shift = _scale_and_shift(autoencoder)
    sample = autoencoder.decode((latents / scale + shift).to(autoencoder.dtype)).sample
    return sample.float().clamp(-1, 1)


@torch.no_grad()
def calibrate_scale(autoencoder: Any, images: torch.Tensor) -> None:
    """Set `scaling_factor` and `shift_factor` so that latents of `images` have mean 0 and deviation 1.

    For autoencoders whose latents the schedule does not fit; an AutoencoderKL brings its own factor.

    Args:
        images: (N, 3, H, W) in [-1, 1], live faces.
    """
    autoencoder.register_to_config(scaling_factor=1.0, shift_factor=0.0)
    latents = encode_latents(autoencoder, images)
    autoencoder.register_to_config(scaling_factor=1 / latents.std().item(), shift_factor=latents.mean().item())


def latent_channels(autoencoder: Any) -> int:
    """The number of channels of the autoencoder's latents."""
    return int(autoencoder.config["latent_channels"])


def _scale_and_shift(autoencoder: Any) -> tuple[float, float]:
    config = autoencoder.config
    return float(config.get("scaling_factor") or 1.0), float(config.get("shift_factor") or 0.0)

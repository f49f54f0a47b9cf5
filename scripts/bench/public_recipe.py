"""The public recipe of a cue, ported to plain diffusers: what every speed of ours is to be held against.

As the public code does it: float32, eager, one call of the U-Net after the other with diffusers' own scheduler,
identity tokens projected in every call, a PNG for every face. Two things are changed, so that quality can be compared:
the posterior's mode in place of a sample, and noise drawn from each face's key in place of an unseeded one. A third
follows the paper: DDIM, where the public code takes the PNDM of Stable Diffusion's folder, cut in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from PIL import Image
from torch.nn import functional as F

from dfg.noise import noise_for_keys
from dfg.pipeline import DeFakePipeline


@torch.no_grad()
def restore_publicly(
    parts: DeFakePipeline, image: torch.Tensor, keys: Sequence[str], timestep: int, num_inference_steps: int = 50
) -> torch.Tensor:
    """Faces (B, 3, H, W) in [-1, 1] -> restored ones, by the parts of a pipeline but none of its methods."""
    autoencoder, unet = parts.autoencoder, parts.unet
    scale = autoencoder.config.get("scaling_factor") or 1.0
    latents = autoencoder.encode(image).latent_dist.mode() * scale
    tokens = parts.identity_encoder(image)
    tokens = F.pad(tokens, (0, unet.config["cross_attention_dim"] - tokens.shape[-1]))
    scheduler = DDIMScheduler.from_config(parts.scheduler.config)
    scheduler.set_timesteps(num_inference_steps)
    timesteps = [t for t in scheduler.timesteps if t <= timestep]
    noise = noise_for_keys(keys, tuple(latents.shape[1:]))
    noisy = scheduler.add_noise(latents, noise, timesteps[0].expand(len(latents)))
    for t in timesteps:
        epsilon = unet(noisy, t, encoder_hidden_states=tokens).sample
        noisy = scheduler.step(epsilon, t, noisy, eta=0.0).prev_sample
    return autoencoder.decode(noisy / scale).sample.clamp(-1, 1)


def write_pictures(folder: Path, restored: torch.Tensor, keys: Sequence[str]) -> None:
    """A PNG for every face, as the public code caches its cues."""
    pixels = ((restored + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).numpy()
    for picture, key in zip(pixels, keys, strict=True):
        Image.fromarray(np.ascontiguousarray(picture)).save(folder / f"{key.replace('/', '_')}.png")

"""A patch transform in place of a trained autoencoder: linear, closed-form, lossless with all channels kept.

A generator's cue is what its restoration changes; an autoencoder that changes more drowns it. Principal
components of pixel patches (Pearson 1901) of live faces give latents of unit variance without any training,
and decoding undoes encoding exactly.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch.nn import functional as F

# Standard deviation of rounding to 8 bits, in [-1, 1]: no direction of an 8-bit picture says less than this.
_ROUNDING_STD = 2 / 255 / 12**0.5

# Faces whose patches are held in memory at once while fitting.
_CHUNK = 256


class PointDistribution:
    """A posterior without width: its mode and all its samples are the latents themselves."""

    def __init__(self, latents: torch.Tensor) -> None:
        self.mean = latents

    def mode(self) -> torch.Tensor:
        """(B, C, h, w)."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """(B, C, h, w); the generator is not used."""
        return self.mean


class PatchAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Face (B, 3, H, W) <-> latents (B, latent_channels, H / patch_size, W / patch_size), as AutoencoderKL.

    Args:
        patch_size: side of a patch in pixels.
        latent_channels: principal components kept; patch_size**2 * in_channels keeps all and loses nothing.
        in_channels: colours of the picture.
        whitening: exponent w in [0, 1]: component k is divided by std_k**w, then all by one number so that
            the latents' overall standard deviation is 1. At 1 every component has unit variance, so noise
            hides the faint ones (texture) no sooner than the strong ones (light); at 0 it acts as on pixels.
    """

    @register_to_config
    def __init__(
        self,
        patch_size: int = 4,
        latent_channels: int = 16,
        in_channels: int = 3,
        whitening: float = 1.0,
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()
        values = patch_size**2 * in_channels
        if not 1 <= latent_channels <= values:
            raise ValueError(
                f"latent_channels={latent_channels}, but patches of {patch_size}x{patch_size}x{in_channels} "
                f"have between 1 and {values} components."
            )
        if not 0 <= whitening <= 1:
            raise ValueError(f"whitening={whitening} must lie in [0, 1].")
        self.register_buffer("mean", torch.zeros(values))
        self.register_buffer("components", torch.zeros(latent_channels, values))
        # Zero marks a transform that was never fitted.
        self.register_buffer("scale", torch.zeros(latent_channels))

    @torch.no_grad()
    def fit(self, images: torch.Tensor) -> None:
        """Take the principal components of the patches of `images` (N, 3, H, W) in [-1, 1], N >= 1.

        The result depends on the pictures alone, not on a seed: each component's sign is such that its
        largest weight is positive.
        """
        mean, covariance = _patch_moments(images, self.config["patch_size"])
        variances, vectors = torch.linalg.eigh(covariance)
        components = vectors.flip(1)[:, : self.config["latent_channels"]].T
        largest = components.abs().argmax(1, keepdim=True)
        components = components * components.gather(1, largest).sign()
        std = variances.flip(0)[: len(components)].clamp_min(_ROUNDING_STD**2).sqrt()
        scale = std ** self.config["whitening"]
        overall = (std / scale).square().mean().sqrt()
        self.mean.copy_(mean)
        self.components.copy_(components)
        self.scale.copy_(scale * overall)

    def encode(self, x: torch.Tensor, return_dict: bool = True) -> Any:
        """(B, 3, H, W) in [-1, 1] -> `.latent_dist`, whose `mode()` is (B, latent_channels, H / p, W / p).

        Raises:
            ValueError: the transform is not fitted, or H or W is no multiple of the patch size.
        """
        self._require_fit()
        patch = self.config["patch_size"]
        if x.shape[-2] % patch or x.shape[-1] % patch:
            raise ValueError(f"pictures of {tuple(x.shape[-2:])} do not divide into patches of {patch}x{patch}.")
        centred = F.pixel_unshuffle(x, patch) - self.mean[:, None, None]
        latents = torch.einsum("cv,bvhw->bchw", self.components, centred) / self.scale[:, None, None]
        posterior = PointDistribution(latents)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(self, z: torch.Tensor, return_dict: bool = True, **kwargs: Any) -> Any:
        """(B, latent_channels, h, w) -> `.sample`, (B, 3, h * p, w * p), not clamped.

        Raises:
            ValueError: the transform is not fitted.
        """
        self._require_fit()
        centred = torch.einsum("cv,bchw->bvhw", self.components, z * self.scale[:, None, None])
        sample = F.pixel_shuffle(centred + self.mean[:, None, None], self.config["patch_size"])
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        """Encode and decode: (B, 3, H, W) -> (B, 3, H, W)."""
        return self.decode(self.encode(sample).latent_dist.mode()).sample

    def _require_fit(self) -> None:
        if not self.scale.any():
            raise ValueError("this PatchAutoencoder is not fitted: call fit(images) with live faces.")


def _patch_moments(images: torch.Tensor, patch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (V,) and covariance (V, V) of all patches, V = 3 * patch**2, in float64."""
    total, outer, count = torch.zeros(()), torch.zeros(()), 0
    for chunk in images.split(_CHUNK):
        patches = F.pixel_unshuffle(chunk.double().cpu(), patch).movedim(1, -1).flatten(0, -2)
        total = total + patches.sum(0)
        outer = outer + patches.T @ patches
        count += len(patches)
    mean = total / count
    return mean, outer / count - mean.outer(mean)

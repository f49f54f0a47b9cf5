"""Between faces and latents: `encode_latents` and `decode_latents` for any autoencoder, and the `PatchAutoencoder`.

A cue is the difference between a face and its restoration. An autoencoder that changes the face more than the
restoration does would drown it. `PatchAutoencoder` needs no training and is lossless if it keeps all components:
principal components of pixel patches of live faces (Pearson 1901), whitened to unit variance as diffusion expects.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch.nn import functional as F

from dfg.saved import ModelMixin

# Rounding to 8 bits has the variance step^2 / 12 with step = 2 / 255 in [-1, 1]. A component below it holds no
# signal; without this floor, whitening would divide by its near-zero deviation.
_ROUNDING_STD = 2 / 255 / 12**0.5

# Faces whose patches are held in memory at a time by `fit`.
_CHUNK = 256


# diffusers checks the components that it loads against the types of the pipeline's constructor.
@runtime_checkable
class Autoencoder(Protocol):
    """AutoencoderKL, AutoencoderTiny, PatchAutoencoder or TaesdAutoencoder."""

    @property
    def config(self) -> Any: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def encode(self, x: torch.Tensor, /) -> Any: ...

    def decode(self, z: torch.Tensor, /) -> Any: ...

    def register_to_config(self, **values: Any) -> None: ...


def check_image(image: torch.Tensor) -> None:
    """Check that `image` is a batch of RGB faces (B, 3, H, W) in [-1, 1].

    Raises:
        ValueError: another shape, dtype or range.
    """
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise ValueError(f"faces must be float tensors (B, 3, H, W); got {tuple(image.shape)} of {image.dtype}.")
    # Written so that NaN fails too: every comparison with NaN is false.
    if image.numel() and not image.abs().max() <= 1 + 1e-3:
        raise ValueError(
            f"faces must be in [-1, 1], but range from {image.min():.3g} to {image.max():.3g}: "
            "convert bytes by x / 127.5 - 1."
        )


def encode_latents(autoencoder: Autoencoder, image: torch.Tensor) -> torch.Tensor:
    """Encode faces to scaled latents, deterministically: the mode of the posterior.

    Args:
        autoencoder: its `scaling_factor` and `shift_factor` are applied.
        image: (B, 3, H, W) in [-1, 1].

    Returns:
        (B, C, h, w) float32, of roughly unit variance.
    """
    return encode_posterior(autoencoder, image)[0]


def encode_posterior(autoencoder: Autoencoder, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mode and standard deviation of the scaled latents' posterior, which is a Gaussian, both (B, C, h, w) float32.

    Arguments as of `encode_latents`; an autoencoder without a posterior has the deviation 0.
    """
    output = autoencoder.encode(image.to(autoencoder.dtype))
    scale, shift = _scale_and_shift(autoencoder)
    if not hasattr(output, "latent_dist"):
        latents = (output.latents.float() - shift) * scale
        return latents, torch.zeros_like(latents)
    posterior = output.latent_dist
    return (posterior.mode().float() - shift) * scale, posterior.std.float() * scale


def decode_latents(autoencoder: Autoencoder, latents: torch.Tensor) -> torch.Tensor:
    """Decode scaled latents (B, C, h, w) to faces (B, 3, H, W), float32 clamped to [-1, 1]."""
    return decode_unclamped(autoencoder, latents).clamp(-1, 1)


def decode_unclamped(autoencoder: Autoencoder, latents: torch.Tensor) -> torch.Tensor:
    """As `decode_latents`, but values beyond [-1, 1] are kept."""
    scale, shift = _scale_and_shift(autoencoder)
    return autoencoder.decode((latents / scale + shift).to(autoencoder.dtype)).sample.float()


@torch.no_grad()
def calibrate_scale(autoencoder: Autoencoder, images: torch.Tensor) -> None:
    """Set `scaling_factor` and `shift_factor` so that the latents of `images` have mean 0 and standard deviation 1.

    The noise schedule assumes unit variance. Not needed for an AutoencoderKL, whose config has its own factor.

    Args:
        autoencoder: its config is updated.
        images: (N, 3, H, W) in [-1, 1], live faces.
    """
    autoencoder.register_to_config(scaling_factor=1.0, shift_factor=0.0)
    latents = encode_latents(autoencoder, images)
    autoencoder.register_to_config(scaling_factor=1 / latents.std().item(), shift_factor=latents.mean().item())


def latent_channels(autoencoder: Autoencoder) -> int:
    """C of the latents (B, C, h, w)."""
    return int(autoencoder.config["latent_channels"])


def _scale_and_shift(autoencoder: Autoencoder) -> tuple[float, float]:
    # diffusers' configs may lack either entry or hold None.
    config = autoencoder.config
    return float(config.get("scaling_factor") or 1.0), float(config.get("shift_factor") or 0.0)


class PointDistribution:
    """A posterior of zero width, with the interface of diffusers' `DiagonalGaussianDistribution`."""

    def __init__(self, latents: torch.Tensor) -> None:
        self.mean, self.std = latents, torch.zeros_like(latents)

    def mode(self) -> torch.Tensor:
        """(B, C, h, w)."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """(B, C, h, w), equal to the mode; `generator` is ignored."""
        return self.mean


class PatchAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Face (B, 3, H, W) <-> latents (B, latent_channels, H / patch_size, W / patch_size), like AutoencoderKL.

    Args:
        patch_size: side of a patch in pixels.
        latent_channels: principal components kept; patch_size**2 * in_channels keeps all and is lossless.
        in_channels: color channels.
        whitening: exponent w in [0, 1]. Component k is divided by std_k**w, then all by one factor that gives the
            latents unit standard deviation overall. With 1 every component has unit variance, so noise hides faint
            components (texture) at the same timestep as strong ones (illumination); with 0 it acts as on pixels.
        scaling_factor: applied by `encode_latents`.
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
            raise ValueError(f"whitening={whitening} must be in [0, 1].")
        self.register_buffer("mean", torch.zeros(values))
        self.register_buffer("components", torch.zeros(latent_channels, values))
        # All zeros until `fit`.
        self.register_buffer("scale", torch.zeros(latent_channels))
        self._fitted = False

    @torch.no_grad()
    def fit(self, images: torch.Tensor) -> None:
        """Compute the principal components of the patches of `images` (N, 3, H, W) in [-1, 1], N >= 1.

        Deterministic. Eigenvectors are defined up to their sign: here the largest weight of each is positive.
        """
        mean, covariance = _patch_moments(images, self.config["patch_size"])
        # eigh sorts eigenvalues in ascending order; the strongest components come first here.
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
        """Project patches onto the components: y_k = u_k^T (x - mean) / scale_k.

        Args:
            x: (B, 3, H, W) in [-1, 1], H and W multiples of the patch size.
            return_dict: False returns a tuple.

        Returns:
            `.latent_dist`, whose `mode()` is (B, latent_channels, H / patch_size, W / patch_size).

        Raises:
            ValueError: not fitted, or H or W is not a multiple of the patch size.
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
        """(B, latent_channels, h, w) -> `.sample`, (B, 3, h * patch_size, w * patch_size), not clamped.

        Raises:
            ValueError: not fitted.
        """
        self._require_fit()
        centred = torch.einsum("cv,bchw->bvhw", self.components, z * self.scale[:, None, None])
        sample = F.pixel_shuffle(centred + self.mean[:, None, None], self.config["patch_size"])
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        """Encode and decode: (B, 3, H, W) -> (B, 3, H, W)."""
        return self.decode(self.encode(sample).latent_dist.mode()).sample

    def _require_fit(self) -> None:
        # Looked at once: each look waits for a GPU.
        self._fitted = self._fitted or bool(self.scale.any())
        if not self._fitted:
            raise ValueError("this PatchAutoencoder is not fitted: call fit(images) with live faces.")


def _patch_moments(images: torch.Tensor, patch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (V,) and covariance (V, V) over all patches, V = 3 * patch**2.

    In float64: E[x x^T] - mean mean^T cancels badly in float32.
    """
    total, outer, count = torch.zeros(()), torch.zeros(()), 0
    for chunk in images.split(_CHUNK):
        patches = F.pixel_unshuffle(chunk.double().cpu(), patch).movedim(1, -1).flatten(0, -2)
        total = total + patches.sum(0)
        outer = outer + patches.T @ patches
        count += len(patches)
    mean = total / count
    return mean, outer / count - mean.outer(mean)

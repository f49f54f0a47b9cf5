"""AnoDDPM with Gaussian noise: unconditional partial diffusion in pixel space (Wyatt et al., CVPR Workshops 2022).

A face is noised by n of 1,000 steps and denoised by n ancestral steps of an unconditional DDPM of live faces (Ho et
al. 2020). AG-FAS uses n = 200 (Table IV), where 81 % of the face's amplitude is left: sqrt(abar) = 0.81.

Steps are counted from 1 to T here, so that abar_0 = 1 is the clean face; the U-Net's timestep embedding is 0-based.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import nn
from torch.nn import functional as F

from dfg.baselines.base import Baseline
from dfg.noise import evaluating, generator_for_key, noise_from_generators
from dfg.schedule import spaced_timesteps

STEPS = 1000
"""T of the schedule, whose betas are linear from 1e-4 to 2e-2 (Ho et al., section 4)."""

_HEADS = 2


def linear_alphas_cumprod() -> torch.Tensor:
    """abar_n for n = 0 (1.0) to T, (T + 1,) float64."""
    # The device is explicit, so that the values exist even if the model is built on the meta device.
    betas = torch.linspace(1e-4, 2e-2, STEPS, dtype=torch.float64, device="cpu")
    return torch.cat([torch.ones(1, dtype=torch.float64, device="cpu"), (1 - betas).cumprod(0)])


class AnoDdpm(Baseline):
    """Noise prediction on RGB faces by diffusers' UNet2DModel.

    With the default channels and 256 pixels, attention is at 16 x 16 and 8 x 8, with two heads.

    Args:
        image_size: side of the faces in pixels, a multiple of 2^(len(channels) - 1).
        channels: per resolution, from the full one down.
        layers_per_block: residual blocks per resolution.
        attention_levels: how many of the lowest resolutions have attention.
        norm_num_groups: of the group normalisation.
    """

    name: ClassVar[str] = "anoddpm"

    @register_to_config
    def __init__(
        self,
        image_size: int = 256,
        channels: Sequence[int] = (128, 128, 256, 256, 512, 512),
        layers_per_block: int = 2,
        attention_levels: int = 2,
        norm_num_groups: int = 32,
    ) -> None:
        super().__init__()
        factor = 2 ** (len(channels) - 1)
        if image_size % factor or not 0 <= attention_levels <= len(channels):
            raise ValueError(
                f"image_size={image_size} must be a multiple of {factor}, and attention_levels={attention_levels} be"
                f" between 0 and {len(channels)}, for {len(channels)} resolutions."
            )
        plain = len(channels) - attention_levels
        net: Any = UNet2DModel(
            sample_size=image_size,
            in_channels=3,
            out_channels=3,
            block_out_channels=tuple(channels),
            layers_per_block=layers_per_block,
            down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",) * attention_levels,
            up_block_types=("AttnUpBlock2D",) * attention_levels + ("UpBlock2D",) * plain,
            attention_head_dim=channels[-1] // _HEADS,
            norm_num_groups=norm_num_groups,
        )
        self.unet: Any = net
        self._alphas_cumprod = linear_alphas_cumprod()

    def forward(self, noisy: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """The predicted noise in faces (B, 3, H, H) after n steps of noise, with `index` = n - 1, (B,) int64."""
        return self.unet(noisy, index).sample

    def reconstruct(
        self,
        image: torch.Tensor,
        keys: Sequence[str],
        timestep: int = 200,
        calls: int | None = None,
        seed: int = 0,
    ) -> torch.Tensor:
        """See `Baseline.reconstruct`.

        Args:
            image: faces.
            keys: seed each face's noise: one draw to noise it, then one for each step down except the last.
            timestep: n, the number of noising steps, in [1, 1000].
            calls: number of evenly spaced steps down; each samples the exact posterior over the steps it skips.
                Default: n.
            seed: another seed gives every key other noise.

        Raises:
            ValueError: faces of another shape, size or range, not one key per face, or steps out of range.
        """
        if len(keys) != len(image):
            raise ValueError(f"{len(image)} faces need as many keys to seed their noise; got {len(keys)}.")
        steps = ancestral_steps(timestep, calls)
        faces = self.check_faces(image).float()
        streams = [generator_for_key(key, seed) for key in keys]
        shape, device = tuple(faces.shape[1:]), faces.device
        abar = self._alphas_cumprod.tolist()
        noise = noise_from_generators(streams, shape, device)
        noisy = abar[timestep] ** 0.5 * faces + (1 - abar[timestep]) ** 0.5 * noise
        with evaluating(self):
            for now, following in zip(steps, [*steps[1:], 0], strict=True):
                index = torch.full((len(noisy),), now - 1, device=device)
                epsilon = self(noisy.to(self.dtype), index).float()
                noisy, deviation = ancestral_mean(noisy, epsilon, abar[now], abar[following])
                if following:
                    noisy = noisy + deviation * noise_from_generators(streams, shape, device)
        return noisy.clamp(-1, 1)


def ancestral_steps(timestep: int, calls: int | None = None) -> list[int]:
    """The noise level, in steps, of each U-Net call, descending: n, n - 1, ..., 1, or `calls` of them.

    Raises:
        ValueError: n is not in [1, 1000], or `calls` not in [1, n].
    """
    if not 1 <= timestep <= STEPS:
        raise ValueError(f"timestep={timestep} must be between 1 and {STEPS}.")
    return spaced_timesteps(timestep, timestep if calls is None else calls)


def ancestral_mean(
    noisy: torch.Tensor, epsilon: torch.Tensor, now: float, following: float
) -> tuple[torch.Tensor, float]:
    """Mean and standard deviation of the posterior q(x_s | x_t, x_0), s < t (Ho et al. 2020, equations 6 and 7).

    x_0 is the predicted face, clamped to [-1, 1] as in the code of both papers.

    Args:
        noisy: x_t, (B, 3, H, H).
        epsilon: the predicted noise, (B, 3, H, H).
        now: abar_t.
        following: abar_s; 1 for the face itself.
    """
    clean = ((noisy - (1 - now) ** 0.5 * epsilon) / now**0.5).clamp(-1, 1)
    # alpha and beta of one step from s to t; with s = t - 1 they are alpha_t and beta_t of the paper.
    alpha = now / following
    beta = 1 - alpha
    mean = (following**0.5 * beta * clean + alpha**0.5 * (1 - following) * noisy) / (1 - now)
    return mean, (beta * (1 - following) / (1 - now)) ** 0.5


class AnoDdpmObjective(nn.Module):
    """Mean squared error of the predicted noise (Ho et al. 2020, equation 14).

    Args:
        model: trained in place.
    """

    alphas_cumprod: torch.Tensor

    def __init__(self, model: AnoDdpm) -> None:
        super().__init__()
        self.model = model
        # Not persistent: the schedule is a constant.
        self.register_buffer("alphas_cumprod", linear_alphas_cumprod().float(), persistent=False)

    def forward(self, batch: dict[str, torch.Tensor], progress: float = 0.0) -> dict[str, torch.Tensor]:
        """Compute the loss of a batch.

        Args:
            batch: `image` (B, 3, H, H) in [-1, 1], `noise` (B, 3, H, H), and 0-based `timesteps` (B,) int64 in
                [0, 1000).
            progress: of training, in [0, 1]; ignored.

        Returns:
            `loss`, a scalar in float32.
        """
        image, noise, index = batch["image"], batch["noise"], batch["timesteps"]
        abar = self.alphas_cumprod[index + 1].view(-1, 1, 1, 1)
        noisy = abar.sqrt() * image + (1 - abar).sqrt() * noise
        return {"loss": F.mse_loss(self.model(noisy, index).float(), noise)}

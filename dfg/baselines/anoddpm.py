"""AnoDDPM with Gaussian noise: partial diffusion in pixel space, told nothing (Wyatt et al., CVPR Workshops 2022).

A face is noised by n of the 1,000 steps and taken back by n ancestral ones of an unconditional DDPM (Ho et al. 2020)
of live faces. AG-FAS takes n = 200 (Table IV), where the schedule has let 81 % of the face's amplitude through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import nn
from torch.nn import functional as F

from dfg.baselines.base import Baseline, evaluating
from dfg.noise import generator_for_key, noise_from_generators
from dfg.schedule import spaced_timesteps

STEPS = 1000
"""T of the schedule, whose betas are linear from 1e-4 to 2e-2 (Ho et al., section 4)."""

_HEADS = 2


def linear_alphas_cumprod() -> torch.Tensor:
    """(T + 1,) float64: what is left of the variance of a face after n steps, from n = 0 (1.0) on."""
    # On the CPU by name: it holds numbers even where a model is built without any, on the meta device.
    betas = torch.linspace(1e-4, 2e-2, STEPS, dtype=torch.float64, device="cpu")
    return torch.cat([torch.ones(1, dtype=torch.float64, device="cpu"), (1 - betas).cumprod(0)])


class AnoDdpm(Baseline):
    """Noise prediction by diffusers' UNet2DModel on RGB faces.

    With `channels` (128, 128, 256, 256, 512, 512) at 256 pixels and two attention levels, attention is at 16 x 16 and
    8 x 8, with two heads.

    Args:
        image_size: side of the faces in pixels, a multiple of 2^(len(channels) - 1).
        channels: of the resolutions, from the full one down.
        layers_per_block: residual blocks of each.
        attention_levels: lowest resolutions that have attention.
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
                f"image_size={image_size} must be a multiple of {factor}, and attention_levels={attention_levels} lie"
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
        self._left = linear_alphas_cumprod()

    def forward(self, noisy: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """The noise seen in faces (B, 3, H, H) at 0-based timesteps `index` (B,): index n - 1 is after n steps."""
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
            keys: name each face's stream of noise: one draw for the way up, and one for every step down but the last.
            timestep: n, steps up, and down again; in [1, 1000].
            calls: so many evenly spaced steps down instead, each the exact posterior of the steps that it skips
                (`dfg.schedule.spaced_timesteps`).
            seed: makes another noise for every key.

        Raises:
            ValueError: not such faces, not a key for each, or impossible steps.
        """
        if len(keys) != len(image):
            raise ValueError(f"{len(image)} faces need as many keys, which name their noise; got {len(keys)}.")
        steps = ancestral_steps(timestep, calls)
        faces = self.check_faces(image).float()
        streams = [generator_for_key(key, seed) for key in keys]
        shape, device = tuple(faces.shape[1:]), faces.device
        left = float(self._left[timestep])
        noisy = left**0.5 * faces + (1 - left) ** 0.5 * noise_from_generators(streams, shape, device)
        with evaluating(self):
            for now, following in zip(steps, [*steps[1:], 0], strict=True):
                index = torch.full((len(noisy),), now - 1, device=device)
                seen = self(noisy.to(self.dtype), index).float()
                noisy, deviation = ancestral_mean(noisy, seen, float(self._left[now]), float(self._left[following]))
                if following:
                    noisy = noisy + deviation * noise_from_generators(streams, shape, device)
        return noisy.clamp(-1, 1)


def ancestral_steps(timestep: int, calls: int | None = None) -> list[int]:
    """Numbers of steps that the noise stands for at every call, falling: n, n - 1, ..., 1, or `calls` of them.

    Raises:
        ValueError: n is not in [1, 1000], or calls not in [1, n].
    """
    if not 1 <= timestep <= STEPS:
        raise ValueError(f"timestep={timestep} must lie between 1 and {STEPS}.")
    return spaced_timesteps(timestep, timestep if calls is None else calls)


def ancestral_mean(
    noisy: torch.Tensor, epsilon: torch.Tensor, now: float, following: float
) -> tuple[torch.Tensor, float]:
    """Mean and deviation of the posterior q(x_s | x_t, x_0) with x_0 as predicted (Ho et al. 2020, equations 6 and 7).

    The predicted face is clamped to [-1, 1] first, as in the code of both papers.

    Args:
        noisy: x_t, (B, 3, H, H).
        epsilon: the noise seen in it, the same shape.
        now: abar_t.
        following: abar_s of the less noisy level s, 1 for the face itself.
    """
    clean = ((noisy - (1 - now) ** 0.5 * epsilon) / now**0.5).clamp(-1, 1)
    alpha = now / following
    beta = 1 - alpha
    mean = (following**0.5 * beta * clean + alpha**0.5 * (1 - following) * noisy) / (1 - now)
    return mean, (beta * (1 - following) / (1 - now)) ** 0.5


class AnoDdpmObjective(nn.Module):
    """Mean squared error of the predicted noise (Ho et al. 2020, equation 14).

    Args:
        model: trained in place.
    """

    left: torch.Tensor

    def __init__(self, model: AnoDdpm) -> None:
        super().__init__()
        self.model = model
        # Not persistent: it is the schedule's, the same for all.
        self.register_buffer("left", linear_alphas_cumprod().float(), persistent=False)

    def forward(self, batch: dict[str, torch.Tensor], progress: float = 0.0) -> dict[str, torch.Tensor]:
        """The loss of a batch.

        Args:
            batch: `image` (B, 3, H, H) in [-1, 1], `noise` of the same shape, and `timesteps` (B,) int64 in [0, 1000):
                0-based, so that t is after t + 1 steps.
            progress: of the training; the loss does not change with it.

        Returns:
            `loss`, a scalar in float32.
        """
        image, noise, index = batch["image"], batch["noise"], batch["timesteps"]
        left = self.left[index + 1].view(-1, 1, 1, 1)
        noisy = left.sqrt() * image + (1 - left).sqrt() * noise
        return {"loss": F.mse_loss(self.model(noisy, index).float(), noise)}

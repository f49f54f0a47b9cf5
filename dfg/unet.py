"""U-Nets of the generator: presets of diffusers' UNet2DConditionModel, and a preconditioned one for small models."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel, UNet2DConditionOutput
from torch import nn

from dfg.noise import seeded
from dfg.saved import ModelMixin
from dfg.schedule import sd_scheduler

UNET_PRESETS: dict[str, dict[str, Any]] = {
    # For 16 x 16 latents on a CPU: trains in minutes.
    "tiny": {
        "block_out_channels": (32, 64, 128),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
        "norm_num_groups": 8,
        "cross_attention_dim": 128,
    },
    # 111.7 M parameters, for identity tokens of 512 values without padding.
    "compact": {"block_out_channels": (128, 256, 384, 512), "cross_attention_dim": 512},
    # Stable Diffusion 1.5: 859,520,964 parameters with 4 latent channels; its weights load.
    "sd15": {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768},
}


class PreconditionedUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A U-Net that starts as the best linear denoiser: epsilon(z, t) = w z + s F(c z, t).

    A small U-Net on latent channels of very different variance spends its training on learning that most of its
    output is its input, and its restorations stay noisy. Here the linear part is fixed in closed form, and the network
    F predicts the rest, which has unit variance. This is the preconditioning of Karras et al. 2022 ("Elucidating the
    Design Space of Diffusion-Based Generative Models", equations 7 and 8) for epsilon prediction, per latent channel.
    The paper's generator is fine-tuned from Stable Diffusion and does not need it.

    With z = sqrt(abar_t) x + sqrt(1 - abar_t) eps and Var(x) = v, the total variance is q = abar_t v + 1 - abar_t:
        w = sqrt(1 - abar_t) / q    slope of the regression of eps on z
        s = sqrt(abar_t v / q)      deviation of what w z leaves
        c = 1 / sqrt(q)             gives F an input of unit variance

    Args:
        unet: arguments of the UNet2DConditionModel F; its output layer is initialised to zero.
        latent_variance: v, one value per latent channel, measured on live faces.
        in_channels, out_channels, cross_attention_dim: of F; in this config too, where a U-Net's config has them.
        seed: of the initial weights.
    """

    @register_to_config
    def __init__(
        self,
        unet: dict[str, Any],
        latent_variance: list[float],
        in_channels: int,
        out_channels: int,
        cross_attention_dim: int,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if len(latent_variance) != in_channels or min(latent_variance) <= 0:
            raise ValueError(f"latent_variance must hold {in_channels} numbers above 0, one per latent channel.")
        with seeded(seed):
            net: Any = UNet2DConditionModel(
                in_channels=in_channels, out_channels=out_channels, cross_attention_dim=cross_attention_dim, **unet
            )
        nn.init.zeros_(net.conv_out.weight)
        nn.init.zeros_(net.conv_out.bias)
        self.net: Any = net
        # Not buffers: `to(torch.bfloat16)` would round the schedule to three digits.
        self._schedule = sd_scheduler().alphas_cumprod.float()
        self._variance = torch.tensor(latent_variance).view(1, -1, 1, 1)

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor | int, encoder_hidden_states: torch.Tensor
    ) -> UNet2DConditionOutput:
        """Predict the noise.

        Args:
            sample: noisy latents (B, C, h, w); pass float32 to keep the linear part exact while F is in bfloat16.
            timestep: (B,) int64 or a single value, in [0, 1000).
            encoder_hidden_states: identity tokens (B, N, D).
        """
        times = torch.as_tensor(timestep, device=sample.device).expand(sample.shape[0])
        self._schedule, self._variance = self._schedule.to(sample.device), self._variance.to(sample.device)
        abar = self._schedule[times].view(-1, 1, 1, 1)
        total = abar * self._variance + (1 - abar)
        linear = (1 - abar).sqrt() / total
        rest = (abar * self._variance / total).sqrt()
        scaled = (sample / total.sqrt()).to(self.net.dtype)
        predicted = self.net(scaled, times, encoder_hidden_states=encoder_hidden_states).sample
        return UNet2DConditionOutput(sample=(linear * sample + rest * predicted).to(sample.dtype))


def build_unet(
    preset: str,
    *,
    in_channels: int,
    sample_size: int,
    cross_attention_dim: int | None = None,
    seed: int = 0,
    latent_variance: list[float] | None = None,
    **overrides: Any,
) -> UNet2DConditionModel | PreconditionedUNet:
    """A randomly initialised U-Net whose output has the shape of its input.

    Args:
        preset: `tiny`, `compact` or `sd15`.
        in_channels: channels of the latents.
        sample_size: height and width of the latents.
        cross_attention_dim: width of the identity tokens after padding. Default: the preset's (128, 512, 768).
        seed: of the initial weights.
        latent_variance: variance of each latent channel; builds a `PreconditionedUNet`. Default: none.
        overrides: arguments of UNet2DConditionModel that replace the preset's.

    Raises:
        ValueError: an unknown preset.
    """
    if preset not in UNET_PRESETS:
        raise ValueError(f"unknown U-Net preset {preset!r}. Allowed: {', '.join(UNET_PRESETS)}.")
    config = {**UNET_PRESETS[preset], **overrides}
    if cross_attention_dim is not None:
        config["cross_attention_dim"] = cross_attention_dim
    if latent_variance is not None:
        width = config.pop("cross_attention_dim")
        inner = {**config, "sample_size": sample_size}
        return PreconditionedUNet(inner, latent_variance, in_channels, in_channels, width, seed)
    with seeded(seed):
        return UNet2DConditionModel(
            in_channels=in_channels, out_channels=in_channels, sample_size=sample_size, **config
        )


def check_prediction(unet: Any, prediction: str) -> None:
    """Check that the U-Net supports a prediction type: a `PreconditionedUNet` predicts the noise only.

    Raises:
        ValueError: it does not.
    """
    if isinstance(unet, PreconditionedUNet) and prediction != "epsilon":
        raise ValueError(
            f"a PreconditionedUNet predicts the noise (epsilon), not {prediction}: its linear part is that of the "
            "noise. Use epsilon, or a U-Net without preconditioning."
        )


def checkpoint_gradients(unet: Any) -> None:
    """Recompute activations in the backward pass: less memory, more time, the same gradients."""
    net = unet.net if isinstance(unet, PreconditionedUNet) else unet
    net.enable_gradient_checkpointing()

"""A U-Net that starts from the best linear denoiser of its latents.

A small U-Net must spend its training on learning that its output is mostly its input: with 24 latent channels of
very different variance and 32 channels of its own it has not learned that in minutes, and its restorations stay
noisy. So the part of the noise that a linear map of one latent value can tell is put in by hand, and the network
predicts the rest, which has unit variance. This is the preconditioning of Karras et al. 2022 ("Elucidating the
Design Space of Diffusion-Based Generative Models", equations 7 and 8), for epsilon prediction and with a
variance of its own for every latent channel. The paper's generator, fine-tuned from Stable Diffusion, needs none.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import nn

from dfg.noise import seeded
from dfg.schedule import sd_scheduler


class PreconditionedUNet(ModelMixin, ConfigMixin):
    """epsilon(z, t) = w z + s F(c z, t), per latent channel k of variance v_k.

    With z = a x + b e, a^2 = abar_t, b^2 = 1 - abar_t and total variance q = a^2 v + b^2: the linear part is
    w = b / q, the rest has deviation s = a sqrt(v / q), and c = 1 / sqrt(q) gives F an input of unit variance.

    Args:
        unet: arguments of the UNet2DConditionModel F; its output layer starts at zero.
        latent_variance: v_k, one number per latent channel, measured on live faces.
        in_channels, out_channels, cross_attention_dim: of F, repeated here for those who ask a U-Net for them.
        seed: of the first weights.
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
        # No buffers: `to(torch.bfloat16)` would round the schedule to three digits.
        self._schedule = sd_scheduler().alphas_cumprod.float()
        self._variance = torch.tensor(latent_variance).view(1, -1, 1, 1)

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor | int, encoder_hidden_states: torch.Tensor
    ) -> UNet2DConditionOutput:
        """Predict the noise.

        Args:
            sample: (B, C, h, w) noisy latents; float32 keeps the linear part exact where the network is bfloat16.
            timestep: (B,) int64 or one number, in [0, 1000).
            encoder_hidden_states: (B, N, D) identity tokens.
        """
        times = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        self._schedule, self._variance = self._schedule.to(sample.device), self._variance.to(sample.device)
        abar = self._schedule[times].view(-1, 1, 1, 1)
        total = abar * self._variance + (1 - abar)
        linear = (1 - abar).sqrt() / total
        rest = (abar * self._variance / total).sqrt()
        scaled = (sample / total.sqrt()).to(self.net.dtype)
        predicted = self.net(scaled, times, encoder_hidden_states=encoder_hidden_states).sample
        return UNet2DConditionOutput(sample=(linear * sample + rest * predicted).to(sample.dtype))


def check_prediction(unet: Any, prediction: str) -> None:
    """Refuse a `PreconditionedUNet` for anything but the noise, which its linear part is.

    Raises:
        ValueError: it is to predict something else.
    """
    if isinstance(unet, PreconditionedUNet) and prediction != "epsilon":
        raise ValueError(
            f"a PreconditionedUNet predicts the noise (epsilon), not {prediction}: its linear part is that of the "
            "noise. Use epsilon, or a U-Net without preconditioning."
        )

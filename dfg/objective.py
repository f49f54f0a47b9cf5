"""What the generator learns: the noise in a live face's latents, told who it is (Ho et al. 2020, eq. 14)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class DenoisingObjective(nn.Module):
    """Mean squared error between the noise that was added and the noise that the U-Net sees.

    Args:
        unet: trained in place.
        scheduler: with epsilon prediction; gives the schedule.
        generator: a CPU generator for noise and timesteps; None uses torch's global one, which a training
            loop seeds and stores.

    Raises:
        ValueError: the scheduler predicts something else than epsilon.
    """

    alphas_cumprod: torch.Tensor

    def __init__(self, unet: nn.Module, scheduler: Any, generator: torch.Generator | None = None) -> None:
        super().__init__()
        prediction = scheduler.config["prediction_type"]
        if prediction != "epsilon":
            raise ValueError(f"prediction_type must be 'epsilon', the noise, not {prediction!r}.")
        self.unet = unet
        self.generator = generator
        # Not persistent: the schedule is the scheduler's, and is saved with it.
        self.register_buffer("alphas_cumprod", scheduler.alphas_cumprod.float(), persistent=False)

    def forward(self, batch: dict[str, torch.Tensor], progress: float = 0.0) -> dict[str, torch.Tensor]:
        """The loss of a batch.

        Args:
            batch: `latents` (B, C, h, w) of unit scale; `tokens` (B, N, D) as wide as the U-Net's
                cross-attention; optionally `noise` (B, C, h, w) and `timesteps` (B,) int64 in [0, T), which
                are drawn where they are not given.
            progress: of the training in [0, 1]; the loss does not change with it.

        Returns:
            `loss`, a scalar in float32.
        """
        latents = batch["latents"]
        timesteps = batch["timesteps"] if "timesteps" in batch else self._draw_timesteps(latents)
        noise = batch["noise"] if "noise" in batch else self._draw_noise(latents)
        abar = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        noisy = abar.sqrt() * latents + (1 - abar).sqrt() * noise
        predicted = self.unet(noisy, timesteps, encoder_hidden_states=batch["tokens"]).sample
        return {"loss": F.mse_loss(predicted.float(), noise.float())}

    def _draw_timesteps(self, latents: torch.Tensor) -> torch.Tensor:
        steps = len(self.alphas_cumprod)
        return torch.randint(steps, (len(latents),), generator=self.generator).to(latents.device)

    def _draw_noise(self, latents: torch.Tensor) -> torch.Tensor:
        # Drawn on the processor, so that a run on another device sees the same noise.
        return torch.randn(latents.shape, generator=self.generator).to(latents)

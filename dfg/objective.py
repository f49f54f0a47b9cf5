"""What the generator learns: the noise in a live face's latents, told who it is (Ho et al. 2020, eq. 14)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from dfg.preconditioned import check_prediction
from dfg.prediction import min_snr_weight, prediction_of, target


class DenoisingObjective(nn.Module):
    """Mean squared error between what the scheduler's prediction type asks for and what the U-Net predicts.

    Args:
        unet: trained in place.
        scheduler: with epsilon or v prediction; gives the schedule.
        generator: a CPU generator for noise and timesteps; None uses torch's global one, which a training
            loop seeds and stores.
        min_snr_gamma: weights every face's error by its timestep (`dfg.prediction.min_snr_weight`); None does not.
        projection: a `dfg.projection.TokenProjection` that is trained too, for tokens narrower or wider than the
            U-Net attends to; None takes tokens of the U-Net's width.

    Raises:
        ValueError: the scheduler predicts something else, or something that the U-Net cannot, or gamma is not above 0.
    """

    alphas_cumprod: torch.Tensor

    def __init__(
        self,
        unet: nn.Module,
        scheduler: Any,
        generator: torch.Generator | None = None,
        min_snr_gamma: float | None = None,
        projection: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.prediction = prediction_of(scheduler)
        check_prediction(unet, self.prediction)
        if min_snr_gamma is not None and min_snr_gamma <= 0:
            raise ValueError(f"min_snr_gamma={min_snr_gamma} must be above 0; None does not weight.")
        self.unet = unet
        self.generator = generator
        self.min_snr_gamma = min_snr_gamma
        self.projection = projection
        # Not persistent: the schedule is the scheduler's, and is saved with it.
        self.register_buffer("alphas_cumprod", scheduler.alphas_cumprod.float(), persistent=False)

    def forward(self, batch: dict[str, torch.Tensor], progress: float = 0.0) -> dict[str, torch.Tensor]:
        """The loss of a batch.

        Args:
            batch: `latents` (B, C, h, w) of unit scale; `tokens` (B, N, D) as wide as the U-Net's
                cross-attention, or as the projection takes them; optionally `dropped` (B,) bool, faces whose
                condition becomes zero (after the projection, as `condition="none"` of the pipeline is), and `noise`
                (B, C, h, w) and `timesteps` (B,) int64 in [0, T), which are drawn where they are not given.
            progress: of the training in [0, 1]; the loss does not change with it.

        Returns:
            `loss`, a scalar in float32.
        """
        latents = batch["latents"]
        timesteps = batch["timesteps"] if "timesteps" in batch else self._draw_timesteps(latents)
        noise = batch["noise"] if "noise" in batch else self._draw_noise(latents)
        abar = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        noisy = abar.sqrt() * latents + (1 - abar).sqrt() * noise
        predicted = self.unet(noisy, timesteps, encoder_hidden_states=self._condition(batch)).sample
        wanted = target(self.prediction, latents, noise, abar)
        return {"loss": self._error(predicted.float(), wanted.float(), abar)}

    def _condition(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        tokens = batch["tokens"] if self.projection is None else self.projection(batch["tokens"])
        if "dropped" in batch:
            tokens = tokens.masked_fill(batch["dropped"].view(-1, 1, 1), 0)
        return tokens

    def _error(self, predicted: torch.Tensor, wanted: torch.Tensor, abar: torch.Tensor) -> torch.Tensor:
        if self.min_snr_gamma is None:
            return F.mse_loss(predicted, wanted)
        weight = min_snr_weight(self.prediction, abar, self.min_snr_gamma)
        return (weight * (predicted - wanted).square()).mean()

    def _draw_timesteps(self, latents: torch.Tensor) -> torch.Tensor:
        steps = len(self.alphas_cumprod)
        return torch.randint(steps, (len(latents),), generator=self.generator).to(latents.device)

    def _draw_noise(self, latents: torch.Tensor) -> torch.Tensor:
        # Drawn on the processor, so that a run on another device sees the same noise.
        return torch.randn(latents.shape, generator=self.generator).to(latents)

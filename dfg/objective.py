"""The training objective of the generator: denoise the latents of live faces conditioned on identity."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from dfg.noise import to_device
from dfg.prediction import min_snr_weight, prediction_of, target
from dfg.schedule import NoiseSchedule
from dfg.unet import check_prediction


class DenoisingObjective(nn.Module):
    """Mean squared error of the predicted noise or velocity (Ho et al. 2020, equation 14).

    Args:
        unet: trained in place.
        scheduler: gives the noise schedule and the prediction type, `epsilon` or `v_prediction`.
        generator: a CPU generator for noise and timesteps. Default: torch's global one.
        min_snr_gamma: weight each face's error by its timestep; see `dfg.prediction.min_snr_weight`. Default: no
            weighting.
        projection: a `dfg.tokens.TokenProjection`, trained in place, for tokens whose width differs from the U-Net's
            `cross_attention_dim`.

    Raises:
        ValueError: another prediction type, one that the U-Net does not support, or gamma <= 0.
    """

    alphas_cumprod: torch.Tensor

    def __init__(
        self,
        unet: nn.Module,
        scheduler: NoiseSchedule,
        generator: torch.Generator | None = None,
        min_snr_gamma: float | None = None,
        projection: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.prediction = prediction_of(scheduler)
        check_prediction(unet, self.prediction)
        if min_snr_gamma is not None and min_snr_gamma <= 0:
            raise ValueError(f"min_snr_gamma={min_snr_gamma} must be above 0; use None for no weighting.")
        self.unet = unet
        self.generator = generator
        self.min_snr_gamma = min_snr_gamma
        self.projection = projection
        # Not persistent: the schedule is saved with the scheduler.
        self.register_buffer("alphas_cumprod", scheduler.alphas_cumprod.float(), persistent=False)

    def forward(self, batch: dict[str, torch.Tensor], progress: float = 0.0) -> dict[str, torch.Tensor]:
        """Compute the loss of a batch.

        Args:
            batch: with the entries
                - `latents` (B, C, h, w), of unit variance;
                - `tokens` (B, N, D), of the width of the U-Net's cross-attention or of the projection's input;
                - `dropped` (B,) bool, optional: faces whose tokens are set to zero, after the projection, as
                  `condition="none"` of the pipeline does;
                - `noise` (B, C, h, w) and `timesteps` (B,) int64 in [0, T), optional; default: drawn here.
            progress: of training, in [0, 1]; ignored.

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
        return to_device(torch.randint(steps, (len(latents),), generator=self.generator), latents.device)

    def _draw_noise(self, latents: torch.Tensor) -> torch.Tensor:
        # Drawn on the CPU, so that every device sees the same noise.
        return to_device(torch.randn(latents.shape, generator=self.generator), latents.device).to(latents.dtype)

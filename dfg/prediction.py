"""What the U-Net is asked for, noise or velocity, and how much a timestep counts in its training."""

from __future__ import annotations

from typing import Any

import torch

PREDICTIONS = ("epsilon", "v_prediction")


def prediction_of(scheduler: Any) -> str:
    """The scheduler's `prediction_type`.

    Raises:
        ValueError: it is neither `epsilon` nor `v_prediction`.
    """
    prediction = str(scheduler.config["prediction_type"])
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction_type must be 'epsilon' (the noise) or 'v_prediction', not {prediction!r}.")
    return prediction


def target(prediction: str, latents: torch.Tensor, noise: torch.Tensor, abar: torch.Tensor) -> torch.Tensor:
    """What the U-Net is to predict, of the latents' shape (B, C, h, w).

    The noise eps, or the velocity v = sqrt(abar) eps - sqrt(1 - abar) z_0 (Salimans and Ho 2022, "Progressive
    Distillation for Fast Sampling of Diffusion Models", section 4).

    Args:
        prediction: `epsilon` or `v_prediction`.
        latents: z_0.
        noise: eps.
        abar: the schedule's value at each face's t, broadcastable to the latents.
    """
    if prediction == "epsilon":
        return noise
    return abar.sqrt() * noise - (1 - abar).sqrt() * latents


def as_epsilon(prediction: str, output: torch.Tensor, noisy: torch.Tensor, abar: float) -> torch.Tensor:
    """The noise that an output of the U-Net stands for: eps = sqrt(abar) v + sqrt(1 - abar) z_t.

    Args:
        prediction: of the U-Net.
        output: (B, C, h, w).
        noisy: z_t, what the U-Net saw, the same shape.
        abar: the schedule's value at t.
    """
    if prediction == "epsilon":
        return output
    return abar**0.5 * output + (1 - abar) ** 0.5 * noisy


def min_snr_weight(prediction: str, abar: torch.Tensor, gamma: float) -> torch.Tensor:
    """The weight of a timestep's squared error (Hang et al. 2023, "Efficient Diffusion Training via Min-SNR
    Weighting Strategy", section 3.4).

    On the error of z_0 it is min(SNR, gamma) with SNR = abar / (1 - abar). The squared error of the noise is SNR
    times that of z_0, and of the velocity SNR + 1 times, so theirs is min(SNR, gamma) / SNR and / (SNR + 1).

    Args:
        prediction: `epsilon` or `v_prediction`.
        abar: at each face's t, any shape, in (0, 1).
        gamma: where the weight is cut; the paper uses 5.
    """
    snr = abar / (1 - abar)
    return snr.clamp(max=gamma) / (snr if prediction == "epsilon" else snr + 1)

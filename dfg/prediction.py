"""What the U-Net predicts, noise or velocity, and the weight of each timestep in its loss.

For z_t = sqrt(abar) z_0 + sqrt(1 - abar) eps, the signal-to-noise ratio is SNR = abar / (1 - abar).
"""

from __future__ import annotations

import torch

from dfg.schedule import NoiseSchedule

PREDICTIONS = ("epsilon", "v_prediction")


def prediction_of(scheduler: NoiseSchedule) -> str:
    """The scheduler's `prediction_type`.

    Raises:
        ValueError: it is neither `epsilon` nor `v_prediction`.
    """
    prediction = str(scheduler.config["prediction_type"])
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction_type must be 'epsilon' (the noise) or 'v_prediction', not {prediction!r}.")
    return prediction


def target(prediction: str, latents: torch.Tensor, noise: torch.Tensor, abar: torch.Tensor) -> torch.Tensor:
    """The regression target of the U-Net, (B, C, h, w).

    The noise eps, or the velocity v = sqrt(abar) eps - sqrt(1 - abar) z_0 (Salimans and Ho 2022, "Progressive
    Distillation for Fast Sampling of Diffusion Models", section 4).

    Args:
        prediction: `epsilon` or `v_prediction`.
        latents: z_0, (B, C, h, w).
        noise: eps, (B, C, h, w).
        abar: at each face's timestep, broadcastable to the latents.
    """
    if prediction == "epsilon":
        return noise
    return abar.sqrt() * noise - (1 - abar).sqrt() * latents


def as_epsilon(prediction: str, output: torch.Tensor, noisy: torch.Tensor, abar: float) -> torch.Tensor:
    """Convert the U-Net's output to predicted noise: eps = sqrt(abar) v + sqrt(1 - abar) z_t.

    Args:
        prediction: `epsilon` or `v_prediction`.
        output: of the U-Net, (B, C, h, w).
        noisy: z_t, the U-Net's input, (B, C, h, w).
        abar: at t.
    """
    if prediction == "epsilon":
        return output
    return abar**0.5 * output + (1 - abar) ** 0.5 * noisy


def min_snr_weight(prediction: str, abar: torch.Tensor, gamma: float) -> torch.Tensor:
    """The weight of a timestep's squared error (Hang et al. 2023, "Efficient Diffusion Training via Min-SNR
    Weighting Strategy", section 3.4).

    The weight of the error of z_0 is min(SNR, gamma). The squared error of eps is SNR times that of z_0, and that of v
    is SNR + 1 times, so the weights are min(SNR, gamma) / SNR and min(SNR, gamma) / (SNR + 1).

    Args:
        prediction: `epsilon` or `v_prediction`.
        abar: at each face's timestep, any shape, in (0, 1).
        gamma: upper bound of the weight; the paper uses 5.
    """
    snr = abar / (1 - abar)
    return snr.clamp(max=gamma) / (snr if prediction == "epsilon" else snr + 1)

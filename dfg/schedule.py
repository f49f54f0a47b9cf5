"""The noise schedule of Stable Diffusion, its grid of inference steps, and deterministic DDIM on it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler


def sd_scheduler(prediction: str = "epsilon") -> DDIMScheduler:
    """1,000 steps, betas linear in their square roots from 0.00085 to 0.012.

    Args:
        prediction: what the U-Net predicts, `epsilon` or `v_prediction`; saved with the scheduler.
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


def timesteps_from(scheduler: Any, timestep: int, num_inference_steps: int = 50) -> list[int]:
    """The timesteps at which the U-Net is called to restore a face noised to `timestep`, falling.

    With 50 steps the grid is 981, 961, ..., 1, and t = 801 leaves 801, 781, ..., 1: 41 calls. Two starts
    beyond the grid are allowed: the last training step (999: as good as pure noise), put before the whole
    grid, which makes 51 calls; and 0, which adds no noise and makes none: the autoencoder alone, the control
    of every cue.

    Args:
        scheduler: any of diffusers'; only its configuration is read, so Stable Diffusion's PNDM gives the
            same grid, without PNDM's doubled entry.

    Raises:
        ValueError: `timestep` is not on the grid (names the nearest ones), or there are no or too many steps.
    """
    last = scheduler.config["num_train_timesteps"] - 1
    if not 1 <= num_inference_steps <= last + 1:
        raise ValueError(f"num_inference_steps={num_inference_steps} must lie between 1 and {last + 1}.")
    grid = _grid(scheduler, num_inference_steps)
    if timestep not in {0, *grid, last}:
        nearest = sorted(sorted(grid, key=lambda t: abs(t - timestep))[:2], reverse=True)
        raise ValueError(
            f"timestep={timestep} is not on the grid of {num_inference_steps} steps; the nearest are "
            f"{' and '.join(map(str, nearest))}. The grid is {grid[0]}, {grid[1] if len(grid) > 1 else ''}"
            f" ... {grid[-1]}; {last} (pure noise) and 0 (no noise) are allowed too."
        )
    return [timestep] * (timestep == last and last not in grid) + [t for t in grid if t <= timestep]


def spaced_timesteps(timestep: int, calls: int) -> list[int]:
    """`calls` timesteps from `timestep` down, evenly spaced over [0, timestep] without the 0.

    The spacing of diffusers' multistep solvers ("linspace"), on a schedule that ends at `timestep`: the last step
    is as long as the others, so that no call is spent on a level that holds almost no noise. With t = 801 and four
    calls: 801, 601, 400, 200.

    Raises:
        ValueError: there are no calls, or more than timesteps.
    """
    if not 1 <= calls <= timestep:
        raise ValueError(f"calls={calls} must lie between 1 and the timestep, {timestep}.")
    return [round(timestep * (calls - i) / calls) for i in range(calls)]


def _grid(scheduler: Any, num_inference_steps: int) -> list[int]:
    ddim = DDIMScheduler.from_config(scheduler.config)
    ddim.set_timesteps(num_inference_steps)
    return [t for t in ddim.timesteps.tolist() if t < ddim.config["num_train_timesteps"]]


def add_noise(scheduler: Any, latents: torch.Tensor, noise: torch.Tensor, timestep: int) -> torch.Tensor:
    """z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps (Ho et al. 2020, equation 4), all (B, C, h, w)."""
    abar = float(scheduler.alphas_cumprod[timestep])
    return abar**0.5 * latents + (1 - abar) ** 0.5 * noise


def ddim_step(
    scheduler: Any, latents: torch.Tensor, epsilon: torch.Tensor, timestep: int, next_timestep: int | None
) -> torch.Tensor:
    """One deterministic DDIM step (Song et al. 2021, equation 12 with sigma = 0) between any two timesteps.

    diffusers' own step assumes an even grid; here the two levels are given, so a start off the grid is exact.

    Args:
        latents: z_t, (B, C, h, w).
        epsilon: the noise that the U-Net sees in them, the same shape.
        timestep: t.
        next_timestep: the level to step down to, or None after the last one: abar at index 0, because
            Stable Diffusion's schedule has `set_alpha_to_one` false.
    """
    abar = float(scheduler.alphas_cumprod[timestep])
    target = float(scheduler.alphas_cumprod[0 if next_timestep is None else next_timestep])
    clean = (latents - (1 - abar) ** 0.5 * epsilon) / abar**0.5
    return target**0.5 * clean + (1 - target) ** 0.5 * epsilon

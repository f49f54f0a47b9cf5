"""The noise schedule of Stable Diffusion, its grid of inference timesteps, and the deterministic DDIM step.

Notation: abar_t = `alphas_cumprod[t]` is the share of the signal's variance left at timestep t. The signal's amplitude
sqrt(abar_t) is 0.87 at t = 201, 0.65 at 401, 0.40 at 601, 0.19 at 801 and 0.07 at 999.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler


# diffusers checks the components that it loads against the types of the pipeline's constructor.
@runtime_checkable
class NoiseSchedule(Protocol):
    """What is used of a diffusers scheduler."""

    alphas_cumprod: torch.Tensor

    @property
    def config(self) -> Any: ...


def sd_scheduler(prediction: str = "epsilon") -> DDIMScheduler:
    """1,000 steps, with sqrt(beta) linear from sqrt(0.00085) to sqrt(0.012).

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


def timesteps_from(scheduler: NoiseSchedule, timestep: int, num_inference_steps: int = 50) -> list[int]:
    """The timesteps of the U-Net calls that restore a face noised to `timestep`, descending.

    With 50 steps the grid is 981, 961, ..., 1, so that t = 801 gives 801, 781, ..., 1: 41 calls. Two values off the
    grid are allowed: the last training timestep, 999 (almost pure noise), which is put before the whole grid (51
    calls); and 0, which adds no noise and needs no call: the autoencoder alone, the control of every cue.

    Args:
        scheduler: any of diffusers'. Only its config is read: Stable Diffusion's PNDM gives the same grid, without
            the timestep that PNDM itself repeats; see `dfg.samplers.CutPndmSampler`.
        timestep: on the grid, or one of the two exceptions.
        num_inference_steps: size of the whole grid.

    Raises:
        ValueError: `timestep` is not allowed (names the nearest ones), or `num_inference_steps` is out of range.
    """
    last = scheduler.config["num_train_timesteps"] - 1
    if not 1 <= num_inference_steps <= last + 1:
        raise ValueError(f"num_inference_steps={num_inference_steps} must be between 1 and {last + 1}.")
    grid = inference_grid(scheduler, num_inference_steps)
    if timestep not in {0, *grid, last}:
        nearest = sorted(sorted(grid, key=lambda t: abs(t - timestep))[:2], reverse=True)
        raise ValueError(
            f"timestep={timestep} is not on the grid of {num_inference_steps} steps; the nearest are "
            f"{' and '.join(map(str, nearest))}. The grid is {grid[0]}, {grid[1] if len(grid) > 1 else ''}"
            f" ... {grid[-1]}; {last} (pure noise) and 0 (no noise) are allowed too."
        )
    return [timestep] * (timestep == last and last not in grid) + [t for t in grid if t <= timestep]


def spaced_timesteps(timestep: int, calls: int) -> list[int]:
    """`calls` timesteps, evenly spaced over (0, timestep], descending.

    This is the "linspace" spacing of diffusers' multistep solvers on a schedule that ends at `timestep`. The last step
    is as long as the others: no call is spent at a level with almost no noise. t = 801 and four calls give 801, 601,
    400, 200.

    Raises:
        ValueError: `calls` is not in [1, timestep].
    """
    if not 1 <= calls <= timestep:
        raise ValueError(f"calls={calls} must be between 1 and the timestep, {timestep}.")
    return [round(timestep * (calls - i) / calls) for i in range(calls)]


def inference_grid(scheduler: NoiseSchedule, num_inference_steps: int) -> list[int]:
    """All timesteps of `num_inference_steps`, descending."""
    ddim = DDIMScheduler.from_config(scheduler.config)
    ddim.set_timesteps(num_inference_steps)
    # steps_offset shifts the grid up by one: at 1,000 steps it would start at 1,000, which has no abar.
    return [t for t in ddim.timesteps.tolist() if t < ddim.config["num_train_timesteps"]]


def add_noise(scheduler: NoiseSchedule, latents: torch.Tensor, noise: torch.Tensor, timestep: int) -> torch.Tensor:
    """z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps (Ho et al. 2020, equation 4); all (B, C, h, w)."""
    abar = float(scheduler.alphas_cumprod[timestep])
    return abar**0.5 * latents + (1 - abar) ** 0.5 * noise


def ddim_step(
    scheduler: NoiseSchedule, latents: torch.Tensor, epsilon: torch.Tensor, timestep: int, next_timestep: int | None
) -> torch.Tensor:
    """One deterministic DDIM step (Song et al. 2021, equation 12 with sigma = 0) between any two timesteps.

    z_s = sqrt(abar_s) z_0' + sqrt(1 - abar_s) eps with z_0' = (z_t - sqrt(1 - abar_t) eps) / sqrt(abar_t).
    diffusers' own step assumes an even grid, which 999 -> 981 is not.

    Args:
        scheduler: gives abar.
        latents: z_t, (B, C, h, w).
        epsilon: the predicted noise, (B, C, h, w).
        timestep: t.
        next_timestep: s < t; None for the last step, which ends at abar of index 0: Stable Diffusion's schedule sets
            `set_alpha_to_one` to false.
    """
    abar = float(scheduler.alphas_cumprod[timestep])
    target = float(scheduler.alphas_cumprod[0 if next_timestep is None else next_timestep])
    clean = (latents - (1 - abar) ** 0.5 * epsilon) / abar**0.5
    return target**0.5 * clean + (1 - target) ** 0.5 * epsilon

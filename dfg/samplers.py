"""Ways down from z_t to z_0: deterministic DDIM, and diffusers' multistep solvers for fewer calls of the U-Net.

A multistep solver looks back at its earlier steps, so one is opened for every batch and every t. Started in the
middle of a schedule it must be told its timesteps: left to themselves diffusers' classes space them over all 1,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from dfg.schedule import ddim_step, spaced_timesteps, timesteps_from

SAMPLERS = ("ddim", "unipc", "dpmsolver++")


class Sampler(Protocol):
    """One way down, for one batch.

    Attributes:
        timesteps: at which the U-Net is called, falling.
    """

    timesteps: list[int]

    def step(self, epsilon: torch.Tensor, latents: torch.Tensor, index: int) -> torch.Tensor:
        """From z at `timesteps[index]` to z at the next one, or at the schedule's level 0 after the last.

        Args:
            epsilon: the noise that the U-Net sees in the latents, (B, C, h, w) float32.
            latents: z_t, the same shape.
            index: 0, 1, 2, ... in order, each once.
        """


def open_sampler(
    name: str, scheduler: Any, timestep: int, num_inference_steps: int = 50, calls: int | None = None
) -> Sampler:
    """A fresh sampler from `timestep` down.

    Args:
        name: `ddim`, `unipc` (Zhao et al. 2023) or `dpmsolver++` (Lu et al. 2022, the second-order multistep
            solver). With one call all three are the same step.
        scheduler: any of diffusers'; gives the schedule.
        timestep: on the grid of `num_inference_steps`; see `dfg.schedule.timesteps_from`.
        num_inference_steps: points of the whole grid, of which those up to `timestep` are the timesteps.
        calls: so many evenly spaced timesteps instead; see `dfg.schedule.spaced_timesteps`.

    Raises:
        ValueError: no such sampler, `timestep` off the grid, or an impossible number of calls.
    """
    if name not in SAMPLERS:
        raise ValueError(f"no sampler {name!r}; there are {', '.join(SAMPLERS)}.")
    timesteps = timesteps_from(scheduler, timestep, num_inference_steps)
    if calls is not None and timesteps:
        timesteps = spaced_timesteps(timestep, calls)
    if name == "ddim" or not timesteps:
        return DdimSampler(scheduler, timesteps)
    return MultistepSampler(_solver(name, scheduler), timesteps)


class DdimSampler:
    """Deterministic DDIM on the given timesteps."""

    def __init__(self, scheduler: Any, timesteps: Sequence[int]) -> None:
        self.scheduler = scheduler
        self.timesteps = list(timesteps)

    def step(self, epsilon: torch.Tensor, latents: torch.Tensor, index: int) -> torch.Tensor:
        """See `Sampler.step`."""
        following = self.timesteps[index + 1] if index + 1 < len(self.timesteps) else None
        return ddim_step(self.scheduler, latents, epsilon, self.timesteps[index], following)


class MultistepSampler:
    """A multistep solver of diffusers', told its timesteps.

    Args:
        solver: fresh, with epsilon prediction and `final_sigmas_type="sigma_min"`: the end at abar of index 0, as
            `ddim_step` ends, because Stable Diffusion's schedule has `set_alpha_to_one` false.
        timesteps: falling.
    """

    def __init__(self, solver: Any, timesteps: Sequence[int]) -> None:
        self.solver = solver
        self.timesteps = list(timesteps)
        _set_timesteps(solver, self.timesteps)

    def step(self, epsilon: torch.Tensor, latents: torch.Tensor, index: int) -> torch.Tensor:
        """See `Sampler.step`."""
        return self.solver.step(epsilon, self.timesteps[index], latents).prev_sample


def _solver(name: str, scheduler: Any) -> Any:
    given = {key: value for key, value in scheduler.config.items() if key in _SCHEDULE}
    options = {**given, "prediction_type": "epsilon", "final_sigmas_type": "sigma_min", "solver_order": 2}
    if name == "unipc":
        return UniPCMultistepScheduler(**options)
    # The last step is long in log-SNR where timesteps are evenly spaced; extrapolating over it would overshoot.
    return DPMSolverMultistepScheduler(**options, algorithm_type="dpmsolver++", euler_at_final=True)


_SCHEDULE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")


def _set_timesteps(solver: Any, timesteps: list[int]) -> None:
    """Replace the solver's own spacing, which it always lays over the whole schedule, by the given timesteps."""
    solver.set_timesteps(len(timesteps))
    levels = ((1 - solver.alphas_cumprod) / solver.alphas_cumprod).sqrt()
    chosen = levels[torch.tensor([*timesteps, 0])].numpy().astype(np.float32)
    solver.sigmas = torch.from_numpy(chosen)
    solver.timesteps = torch.tensor(timesteps)
    # Otherwise the place in the schedule is looked up by value, and a doubled timestep would be two places.
    solver.set_begin_index(0)

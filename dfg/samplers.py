"""Samplers from z_t to z_0: deterministic DDIM, and diffusers' multistep solvers for fewer U-Net calls.

A multistep solver keeps its earlier predictions, so a new one is created for every batch and timestep. Restoration
starts in the middle of the schedule, while diffusers' solvers always space their timesteps over all 1,000: here the
timesteps are set explicitly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from dfg.schedule import NoiseSchedule, ddim_step, spaced_timesteps, timesteps_from

SAMPLERS = ("ddim", "unipc", "dpmsolver++")

_SCHEDULE_FIELDS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")


class Sampler(Protocol):
    """A sampler for one batch.

    Attributes:
        timesteps: of the U-Net calls, descending.
    """

    timesteps: list[int]

    def step(self, epsilon: torch.Tensor, latents: torch.Tensor, index: int) -> torch.Tensor:
        """Step from `timesteps[index]` to the next timestep; after the last one, to abar of index 0.

        Args:
            epsilon: the predicted noise, (B, C, h, w) float32.
            latents: z_t, (B, C, h, w).
            index: 0, 1, 2, ... in order, each once.
        """


def open_sampler(
    name: str, scheduler: NoiseSchedule, timestep: int, num_inference_steps: int = 50, calls: int | None = None
) -> Sampler:
    """Create a sampler that starts at `timestep`.

    Args:
        name: `ddim`, `unipc` (Zhao et al. 2023) or `dpmsolver++` (Lu et al. 2022, second-order multistep). With a
            single call all three take the same step.
        scheduler: any of diffusers'; gives the noise schedule.
        timestep: on the grid of `num_inference_steps`; see `dfg.schedule.timesteps_from`.
        num_inference_steps: size of the whole grid, of which the timesteps up to `timestep` are used.
        calls: number of evenly spaced timesteps to use instead of the grid's; see `dfg.schedule.spaced_timesteps`.

    Raises:
        ValueError: an unknown sampler, `timestep` off the grid, or `calls` out of range.
    """
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}. Allowed: {', '.join(SAMPLERS)}.")
    timesteps = timesteps_from(scheduler, timestep, num_inference_steps)
    if calls is not None and timesteps:
        timesteps = spaced_timesteps(timestep, calls)
    if name == "ddim" or not timesteps:
        return DdimSampler(scheduler, timesteps)
    return MultistepSampler(_solver(name, scheduler), timesteps)


class DdimSampler:
    """Deterministic DDIM on the given timesteps."""

    def __init__(self, scheduler: NoiseSchedule, timesteps: Sequence[int]) -> None:
        self.scheduler = scheduler
        self.timesteps = list(timesteps)

    def step(self, epsilon: torch.Tensor, latents: torch.Tensor, index: int) -> torch.Tensor:
        """See `Sampler.step`."""
        following = self.timesteps[index + 1] if index + 1 < len(self.timesteps) else None
        return ddim_step(self.scheduler, latents, epsilon, self.timesteps[index], following)


class MultistepSampler:
    """A multistep solver of diffusers on the given timesteps.

    Args:
        solver: new, with epsilon prediction and `final_sigmas_type="sigma_min"`, so that it ends at abar of index 0
            as `ddim_step` does.
        timesteps: descending.
    """

    def __init__(self, solver: Any, timesteps: Sequence[int]) -> None:
        self.solver = solver
        self.timesteps = list(timesteps)
        _set_timesteps(solver, self.timesteps)

    def step(self, epsilon: torch.Tensor, latents: torch.Tensor, index: int) -> torch.Tensor:
        """See `Sampler.step`."""
        return self.solver.step(epsilon, self.timesteps[index], latents).prev_sample


def _solver(name: str, scheduler: NoiseSchedule) -> Any:
    schedule = {key: value for key, value in scheduler.config.items() if key in _SCHEDULE_FIELDS}
    options = {**schedule, "prediction_type": "epsilon", "final_sigmas_type": "sigma_min", "solver_order": 2}
    if name == "unipc":
        return UniPCMultistepScheduler(**options)
    # With evenly spaced timesteps the last step is long in log-SNR; a second-order extrapolation would overshoot.
    return DPMSolverMultistepScheduler(**options, algorithm_type="dpmsolver++", euler_at_final=True)


def _set_timesteps(solver: Any, timesteps: list[int]) -> None:
    """Override the solver's spacing: timesteps, and sigma_t = sqrt((1 - abar_t) / abar_t) of each and of index 0."""
    # Called for the solver's internal buffers, which depend on the number of steps.
    solver.set_timesteps(len(timesteps))
    sigmas = ((1 - solver.alphas_cumprod) / solver.alphas_cumprod).sqrt()
    chosen = sigmas[torch.tensor([*timesteps, 0])].numpy().astype(np.float32)
    solver.sigmas = torch.from_numpy(chosen)
    solver.timesteps = torch.tensor(timesteps)
    # Without a begin index the solver looks its position up by value, which is ambiguous for a repeated timestep.
    solver.set_begin_index(0)

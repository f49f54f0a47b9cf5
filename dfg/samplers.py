"""Samplers from z_t to z_0: deterministic DDIM, multistep solvers for fewer U-Net calls, and the public code's PNDM.

A multistep solver keeps its earlier predictions, so a new one is created for every batch and timestep. Restoration
starts in the middle of the schedule, while diffusers' solvers always space their timesteps over all 1,000: here the
timesteps are set explicitly. Coefficients are CPU scalars, for which no step waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

from dfg.schedule import NoiseSchedule, ddim_step, inference_grid, spaced_timesteps, timesteps_from

SPACED = ("ddim", "unipc", "dpmsolver++")
"""Samplers that take any descending timesteps."""

SAMPLERS = (*SPACED, "pndm_cut")

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
        name: `ddim`, `unipc` (Zhao et al. 2023) or `dpmsolver++` (Lu et al. 2022, second-order multistep), which take
            the same step if there is a single call; or `pndm_cut`, see `CutPndmSampler`.
        scheduler: any of diffusers'; gives the noise schedule.
        timestep: on the grid of `num_inference_steps`; see `dfg.schedule.timesteps_from`.
        num_inference_steps: size of the whole grid, of which the timesteps up to `timestep` are used.
        calls: number of evenly spaced timesteps to use instead of the grid's; see `dfg.schedule.spaced_timesteps`.

    Raises:
        ValueError: an unknown sampler, `timestep` off the grid, or `calls` out of range or not for this sampler.
    """
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}. Allowed: {', '.join(SAMPLERS)}.")
    timesteps = timesteps_from(scheduler, timestep, num_inference_steps)
    if name not in SPACED:
        if calls is not None:
            raise ValueError(f"{name} makes the calls of its grid: leave calls out, or use {', '.join(SPACED)}.")
        return CutPndmSampler(scheduler, timestep, num_inference_steps)
    if calls is not None and timesteps:
        timesteps = spaced_timesteps(timestep, calls)
    if name == "ddim" or not timesteps:
        return DdimSampler(scheduler, timesteps)
    return UniPcSampler(scheduler, timesteps) if name == "unipc" else DpmSolverSampler(scheduler, timesteps)


class DdimSampler:
    """Deterministic DDIM on the given timesteps."""

    def __init__(self, scheduler: NoiseSchedule, timesteps: Sequence[int]) -> None:
        self.scheduler = scheduler
        self.timesteps = list(timesteps)

    def step(self, epsilon: torch.Tensor, latents: torch.Tensor, index: int) -> torch.Tensor:
        """See `Sampler.step`."""
        following = self.timesteps[index + 1] if index + 1 < len(self.timesteps) else None
        return ddim_step(self.scheduler, latents, epsilon, self.timesteps[index], following)


class CutPndmSampler:
    """PNDM without its Runge-Kutta calls (Liu et al. 2022, equations 9 and 12), cut as AG-FAS's public code cuts it.

    The whole schedule names its second timestep twice, 981, 961, 961, 941, ..., 1: the second call only corrects the
    first step, and after it every call is one step behind. The public code drops the timesteps above `timestep`, and so
    the repeated one, but the sampler still takes its second call for the repetition. From 801, the call at 781 corrects
    the step from 801; the one at 761 is given latents of level 781, and the last, at 1, ends on those of level 21.

    Args:
        scheduler: gives the noise schedule.
        timestep: where the schedule is cut. At 999 it is whole: the latents are noised to 999, but the first call is at
            the grid's first timestep.
        num_inference_steps: size of the whole grid.
    """

    def __init__(self, scheduler: NoiseSchedule, timestep: int, num_inference_steps: int) -> None:
        self.scheduler = scheduler
        self.stride = scheduler.config["num_train_timesteps"] // num_inference_steps
        grid = inference_grid(scheduler, num_inference_steps)
        self.timesteps = [t for t in (*grid[:2], *grid[1:]) if t <= timestep]
        self._first: torch.Tensor  # latents of the first call
        self._past: list[torch.Tensor] = []  # predicted noise of the last four calls, without the second one's

    def step(self, epsilon: torch.Tensor, latents: torch.Tensor, index: int) -> torch.Tensor:
        """See `Sampler.step`."""
        timestep = self.timesteps[index]
        if index == 1:
            mean = (epsilon + self._past[-1]) / 2
            return self._move(self._first, mean, timestep + self.stride, timestep)
        if index == 0:
            self._first = latents
        self._past = [*self._past[-3:], epsilon]
        weights = _ADAMS_BASHFORTH[len(self._past) - 1]
        slope = sum((w * past for w, past in zip(weights, self._past, strict=True)), torch.zeros_like(epsilon))
        return self._move(latents, slope, timestep, timestep - self.stride)

    def _move(self, latents: torch.Tensor, epsilon: torch.Tensor, timestep: int, following: int) -> torch.Tensor:
        return ddim_step(self.scheduler, latents, epsilon, timestep, following if following >= 0 else None)


_ADAMS_BASHFORTH = ((1.0,), (-1 / 2, 3 / 2), (5 / 12, -16 / 12, 23 / 12), (-9 / 24, 37 / 24, -59 / 24, 55 / 24))
"""Weights of the last one to four predictions, the newest last."""


class UniPcSampler:
    """Second-order UniPC that predicts the data, with B(h) = e^h - 1 (Zhao et al. 2023, algorithms 5 to 8).

    Bit-identical on a CPU to diffusers' `UniPCMultistepScheduler`, which solves a linear system on the device in every
    step and waits for it.
    """

    def __init__(self, scheduler: NoiseSchedule, timesteps: Sequence[int]) -> None:
        self.timesteps = list(timesteps)
        sigmas = _sigmas(scheduler.alphas_cumprod, self.timesteps)
        self.alpha = 1 / (sigmas**2 + 1) ** 0.5
        self.sigma = sigmas * self.alpha
        self.log_snr = torch.log(self.alpha) - torch.log(self.sigma)  # half of it: lambda of the paper
        self._order: int
        self._latents: torch.Tensor
        self._clean: list[torch.Tensor] = []  # predicted z_0 of the last two steps

    def step(self, epsilon: torch.Tensor, latents: torch.Tensor, index: int) -> torch.Tensor:
        """See `Sampler.step`."""
        clean = (latents - self.sigma[index] * epsilon) / self.alpha[index]
        if index > 0:
            latents = self._next(index - 1, clean)
        self._clean = [*self._clean[-1:], clean]
        # The first step has no earlier prediction, and the last one is long in log-SNR.
        self._order = min(2, index + 1, len(self.timesteps) - index)
        self._latents = latents
        return self._next(index)

    def _next(self, index: int, found: torch.Tensor | None = None) -> torch.Tensor:
        """Latents after `index`: predicted, or corrected by the z_0 that was `found` there."""
        h = self.log_snr[index + 1] - self.log_snr[index]
        growth, last = torch.expm1(-h), self._clean[-1]
        moved = self.sigma[index + 1] / self.sigma[index] * self._latents - self.alpha[index + 1] * growth * last
        slope: torch.Tensor | float = 0.0
        weights = torch.full((1,), 0.5)
        if self._order == 2:
            ratio = (self.log_snr[index - 1] - self.log_snr[index]) / h
            difference = (self._clean[-2] - last) / ratio
            if found is not None:
                weights = _corrector_weights(ratio, -h, growth)
            slope = weights[0] * difference
        if found is not None:
            slope = slope + weights[-1] * (found - last)
        return moved - self.alpha[index + 1] * growth * slope


def _corrector_weights(ratio: torch.Tensor, h: torch.Tensor, growth: torch.Tensor) -> torch.Tensor:
    """(2,): rho of UniC-2, the solution of R rho = b (Zhao et al. 2023, theorem 3.1)."""
    first = growth / h - 1
    second = first / h - 1 / 2
    nodes = torch.stack([ratio, torch.ones(())])
    powers = torch.stack([torch.ones(2), nodes])
    return torch.linalg.solve(powers, torch.stack([first / growth, second * 2 / growth]))


class DpmSolverSampler:
    """diffusers' DPM-Solver++ (Lu et al. 2022, second-order multistep) on the given timesteps."""

    def __init__(self, scheduler: NoiseSchedule, timesteps: Sequence[int]) -> None:
        self.timesteps = list(timesteps)
        schedule = {key: value for key, value in scheduler.config.items() if key in _SCHEDULE_FIELDS}
        self.solver: Any = DPMSolverMultistepScheduler(
            **schedule,
            prediction_type="epsilon",
            solver_order=2,
            algorithm_type="dpmsolver++",
            # The last step is long in log-SNR; a second-order extrapolation would overshoot.
            euler_at_final=True,
        )
        # Called for the solver's internal buffers, which depend on the number of steps.
        self.solver.set_timesteps(len(timesteps))
        self.solver.sigmas = _sigmas(self.solver.alphas_cumprod, self.timesteps)
        # Without a begin index the solver looks its position up by value, which is ambiguous for a repeated timestep.
        self.solver.set_begin_index(0)

    def step(self, epsilon: torch.Tensor, latents: torch.Tensor, index: int) -> torch.Tensor:
        """See `Sampler.step`."""
        return self.solver.step(epsilon, self.timesteps[index], latents).prev_sample


def _sigmas(alphas_cumprod: torch.Tensor, timesteps: list[int]) -> torch.Tensor:
    """sqrt((1 - abar_t) / abar_t) of each timestep and of index 0, where all samplers end."""
    abar = alphas_cumprod[torch.tensor([*timesteps, 0])]
    return ((1 - abar) / abar).sqrt()

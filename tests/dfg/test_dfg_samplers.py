"""Samplers from the middle of a schedule: the picture that is known, the smooth curve, the calls that are made."""

from __future__ import annotations

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from dfg.samplers import SAMPLERS, SPACED, DpmSolverSampler, open_sampler
from dfg.schedule import add_noise, sd_scheduler, spaced_timesteps, timesteps_from

CALLS = [1, 2, 4, 8, 16, 41]
ABAR = sd_scheduler().alphas_cumprod.tolist()


@pytest.fixture
def draws() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, 6, 6, generator=draw), torch.randn(2, 4, 6, 6, generator=draw)


def descend(name, noisy, denoise, timestep=801, calls=None):
    """Latents at the end, with `denoise(z, t)` for the U-Net."""
    way = open_sampler(name, sd_scheduler(), timestep, calls=calls)
    for index, t in enumerate(way.timesteps):
        noisy = way.step(denoise(noisy, t), noisy, index)
    return noisy


def toy(noisy, timestep):
    """The exact noise of an even mixture of two Gaussians at -1 and 1 with deviation 0.4: smooth, not linear."""
    abar = ABAR[timestep]
    signal, variance = abar**0.5, abar * 0.16 + 1 - abar
    weight = torch.sigmoid(2 * signal * noisy / variance)
    score = (weight * (signal - noisy) + (1 - weight) * (-signal - noisy)) / variance
    return -((1 - abar) ** 0.5) * score


@pytest.mark.parametrize("name", SPACED)
@pytest.mark.parametrize("calls", [*CALLS, None])
@pytest.mark.parametrize("timestep", [201, 801, 999])
def test_a_known_picture_is_recovered(draws, name, calls, timestep):
    clean, noise = draws
    scheduler = sd_scheduler()

    def denoise(noisy, t):
        abar = scheduler.alphas_cumprod[t]
        return (noisy - abar.sqrt() * clean) / (1 - abar).sqrt()

    end = descend(name, add_noise(scheduler, clean, noise, timestep), denoise, timestep, calls)
    # What is left is the schedule's own last level, index 0.
    torch.testing.assert_close(end, add_noise(scheduler, clean, noise, 0), atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", ["unipc", "dpmsolver++"])
def test_many_calls_converge_to_many_calls_of_ddim(draws, name):
    noisy = add_noise(sd_scheduler(), *draws, 801)
    exact = descend("ddim", noisy, toy, calls=800)
    assert (exact - noisy).abs().mean() > 0.2
    near = {calls: float((descend(name, noisy, toy, calls=calls) - exact).abs().mean()) for calls in (4, 16, 64, 400)}
    assert near[400] < 0.005
    assert near[4] > near[16] > near[64]


@pytest.mark.parametrize("name", ["unipc", "dpmsolver++"])
def test_a_few_calls_come_nearer_than_ddim(draws, name):
    noisy = add_noise(sd_scheduler(), *draws, 801)
    exact = descend("ddim", noisy, toy, calls=800)
    errors = {n: (descend(n, noisy, toy, calls=8) - exact).abs().mean() for n in ("ddim", name)}
    assert errors[name] < 0.75 * errors["ddim"]


def test_one_call_is_one_step_for_all(draws):
    noisy = add_noise(sd_scheduler(), *draws, 801)
    ends = [descend(name, noisy, toy, calls=1) for name in SPACED]
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_batch_starts_anew(draws, name):
    noisy = add_noise(sd_scheduler(), *draws, 401)
    calls = 8 if name in SPACED else None
    first, again = (descend(name, noisy, toy, 401, calls) for _ in range(2))
    assert torch.equal(first, again)
    alone = descend(name, noisy[:1], toy, 401, calls)
    torch.testing.assert_close(alone, first[:1], atol=1e-6, rtol=1e-6)


def test_calls_are_spaced_from_t_down():
    assert [spaced_timesteps(801, calls) for calls in (1, 2, 4)] == [[801], [801, 400], [801, 601, 400, 200]]
    for calls in CALLS:
        spaced = spaced_timesteps(801, calls)
        assert len(set(spaced)) == calls
        assert min(spaced) > 0
        gaps = [a - b for a, b in zip(spaced, [*spaced[1:], 0], strict=True)]
        assert max(gaps) - min(gaps) <= 1
    assert spaced_timesteps(5, 5) == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("name", SPACED)
def test_without_calls_the_grid_is_kept(name):
    assert open_sampler(name, sd_scheduler(), 801).timesteps == timesteps_from(sd_scheduler(), 801)
    assert open_sampler(name, sd_scheduler(), 0).timesteps == []
    assert open_sampler(name, sd_scheduler(), 801, calls=4).timesteps == [801, 601, 400, 200]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("heun", 801), "ddim, unipc"),
        (("ddim", 800), "801 and 781"),
        (("ddim", 801, 50, 0), "between 1 and the timestep, 801"),
        (("unipc", 21, 50, 22), "between 1 and the timestep, 21"),
    ],
)
def test_mistakes_teach(arguments, message):
    name, *rest = arguments
    with pytest.raises(ValueError, match=message):
        open_sampler(name, sd_scheduler(), *rest)


def test_the_pipeline_makes_so_many_calls(pipeline, faces, keys):
    seen: list[int] = []
    handle = pipeline.unet.register_forward_pre_hook(lambda _, arguments: seen.append(int(arguments[1])))
    fast = pipeline(faces, timestep=801, keys=keys, sampler="unipc", calls=4).image
    handle.remove()
    assert seen == [801, 601, 400, 200]
    again = pipeline(faces, timestep=801, keys=keys, sampler="unipc", calls=4).image
    assert torch.equal(fast, again)
    assert not torch.equal(fast, pipeline(faces, timestep=801, keys=keys, calls=4).image)


@pytest.mark.parametrize(
    "schedule",
    [
        {"num_train_timesteps": 400, "beta_start": 0.001, "beta_end": 0.03, "beta_schedule": "linear"},
        {"num_train_timesteps": 40, "trained_betas": [0.01] * 39 + [0.05]},
    ],
)
def test_dpm_solver_has_the_schedulers_noise_and_its_defaults(schedule):
    scheduler = DDIMScheduler(**schedule)
    solver = DpmSolverSampler(scheduler, [30, 10]).solver
    torch.testing.assert_close(solver.alphas_cumprod, scheduler.alphas_cumprod)
    assert solver.config["num_train_timesteps"] == schedule["num_train_timesteps"]
    kind = {"solver_order": 2, "algorithm_type": "dpmsolver++", "prediction_type": "epsilon", "euler_at_final": True}
    assert {name: solver.config[name] for name in kind} == kind

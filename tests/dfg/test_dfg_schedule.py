import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler

from dfg.schedule import add_noise, ddim_step, sd_scheduler, timesteps_from


@pytest.mark.parametrize(
    ("timestep", "calls"), [(0, 0), (201, 11), (401, 21), (601, 31), (801, 41), (981, 50), (999, 51)]
)
def test_number_of_calls(timestep, calls):
    steps = timesteps_from(sd_scheduler(), timestep)
    assert len(steps) == calls
    if steps:
        assert steps[0] == timestep
        assert steps[-1] == 1
        assert steps == sorted(steps, reverse=True)


def test_the_grid_of_801():
    assert timesteps_from(sd_scheduler(), 801) == list(range(801, 0, -20))


def test_every_step_of_training_can_be_a_step_of_inference():
    assert timesteps_from(sd_scheduler(), 999, 1000) == list(range(999, 0, -1))
    assert timesteps_from(sd_scheduler(), 1, 1) == [1]


def test_off_the_grid_names_the_nearest():
    with pytest.raises(ValueError, match=r"timestep=800 .* nearest are 801 and 781"):
        timesteps_from(sd_scheduler(), 800)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_numbers_of_steps(steps):
    with pytest.raises(ValueError, match="num_inference_steps"):
        timesteps_from(sd_scheduler(), 801, steps)


def test_stable_diffusions_pndm_folder_gives_the_same_grid():
    pndm = PNDMScheduler(1000, 0.00085, 0.012, "scaled_linear", skip_prk_steps=True, steps_offset=1)
    assert timesteps_from(pndm, 801) == timesteps_from(sd_scheduler(), 801)


def test_asking_for_the_grid_leaves_the_scheduler_as_it_was():
    scheduler = sd_scheduler()
    before = scheduler.timesteps.clone()
    timesteps_from(scheduler, 801)
    assert torch.equal(scheduler.timesteps, before)


def test_signal_levels_of_the_schedule():
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    abar = np.cumprod(1 - betas)
    np.testing.assert_allclose(sd_scheduler().alphas_cumprod.numpy(), abar, rtol=1e-4)
    # The published figures: t and the share of the signal's amplitude that survives.
    for t, signal in {201: 0.867, 401: 0.650, 601: 0.400, 801: 0.191, 999: 0.068}.items():
        assert abs(abar[t] ** 0.5 - signal) < 6e-4


def test_ddim_step_is_that_of_diffusers_on_the_grid():
    scheduler, generator = sd_scheduler(), torch.Generator().manual_seed(0)
    reference = DDIMScheduler.from_config(scheduler.config)
    reference.set_timesteps(50)
    ours = theirs = torch.randn(2, 4, 8, 8, generator=generator)
    steps = timesteps_from(scheduler, 801)
    for t, next_t in zip(steps, [*steps[1:], None], strict=True):
        epsilon = torch.randn(2, 4, 8, 8, generator=generator)
        ours = ddim_step(scheduler, ours, epsilon, t, next_t)
        theirs = reference.step(epsilon, t, theirs, eta=0.0).prev_sample
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("timestep", [201, 801, 999])
def test_true_noise_leads_back_to_the_picture(timestep):
    """With the noise that was added, every step lies on the same ray, even over the uneven one from 999."""
    scheduler, generator = sd_scheduler(), torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=generator)
    steps = timesteps_from(scheduler, timestep)
    noisy = add_noise(scheduler, clean, noise, timestep)
    for t, next_t in zip(steps, [*steps[1:], None], strict=True):
        noisy = ddim_step(scheduler, noisy, noise, t, next_t)
    torch.testing.assert_close(noisy, add_noise(scheduler, clean, noise, 0), rtol=1e-4, atol=2e-4)


def test_add_noise_is_that_of_diffusers():
    scheduler, generator = sd_scheduler(), torch.Generator().manual_seed(2)
    clean, noise = torch.randn(2, 3, 4, 8, 8, generator=generator)
    wanted = scheduler.add_noise(clean, noise, torch.tensor([601] * 3))  # type: ignore[arg-type]
    torch.testing.assert_close(add_noise(scheduler, clean, noise, 601), wanted)

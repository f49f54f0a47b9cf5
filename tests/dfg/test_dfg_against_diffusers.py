"""Samplers against diffusers' own schedulers on a tiny U-Net, and samples of the posterior against its own."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from dfg.autoencoder import encode_posterior
from dfg.noise import noise_for_keys, posterior_keys
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler, spaced_timesteps
from dfg.unet import build_unet

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULE = {**BETAS, "steps_offset": 1, "set_alpha_to_one": False, "timestep_spacing": "leading"}


@torch.no_grad()
def both_ways(pipeline, faces, keys, scheduler, timesteps, timestep, steps=10, **options):
    """Our restored latents, and those of one of diffusers' schedulers over these timesteps."""
    latents, tokens = pipeline.encode(faces), pipeline.identity_tokens(faces)
    noise = pipeline.draw_noise(latents, keys)
    with pipeline.conditioned(tokens) as conditioning:
        ours = pipeline.restore_latents(latents, conditioning, timestep, steps, noise, **options)
        moved = scheduler.add_noise(latents, noise, torch.tensor([timestep]))
        for t in timesteps:
            moved = scheduler.step(pipeline.predict_noise(moved, int(t), conditioning), t, moved).prev_sample
    return ours, moved


@pytest.mark.parametrize(
    ("timestep", "steps"), [(801, 50), (1, 10), (101, 10), (501, 10), (801, 10), (901, 10), (999, 10)]
)
def test_cut_pndm_is_diffusers_pndm_without_the_timesteps_above(pipeline, faces, keys, timestep, steps):
    theirs = PNDMScheduler(**SCHEDULE, skip_prk_steps=True)
    theirs.set_timesteps(steps)
    timesteps = [t for t in theirs.timesteps.tolist() if t <= timestep]
    ours, expected = both_ways(pipeline, faces, keys, theirs, timesteps, timestep, steps, sampler="pndm_cut")
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=2e-5)
    if steps == 50:
        assert timesteps == list(range(801, 0, -20))
        ddim, _ = both_ways(pipeline, faces[:1], keys[:1], theirs, [], timestep, steps)
        assert (ours[:1] - ddim).abs().max() > 1e-2  # one step out of phase


def test_cut_pndm_has_a_grid_of_its_own(pipeline, faces, keys):
    with pytest.raises(ValueError, match="pndm_cut makes the calls of its grid: leave calls out"):
        pipeline(faces, keys=keys, sampler="pndm_cut", calls=4)


def test_ddim_is_diffusers(pipeline, faces, keys):
    theirs = DDIMScheduler(**SCHEDULE, clip_sample=False)
    theirs.set_timesteps(10)
    ours, expected = both_ways(pipeline, faces, keys, theirs, theirs.timesteps.tolist(), 901)
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("calls", [1, 2, 5])
def test_unipc_is_diffusers(pipeline, faces, keys, calls):
    timesteps = spaced_timesteps(801, calls)
    theirs = UniPCMultistepScheduler(**BETAS, final_sigmas_type="sigma_min")
    theirs.set_timesteps(calls)
    abar = theirs.alphas_cumprod[torch.tensor([*timesteps, 0])]
    theirs.sigmas, theirs.timesteps = ((1 - abar) / abar).sqrt(), torch.tensor(timesteps)
    theirs.set_begin_index(0)
    ours, expected = both_ways(pipeline, faces, keys, theirs, theirs.timesteps, 801, sampler="unipc", calls=calls)
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("calls", [2, 5])
def test_dpm_solver_is_diffusers_on_these_timesteps(pipeline, faces, keys, calls):
    theirs = DPMSolverMultistepScheduler(**BETAS, final_sigmas_type="sigma_min", euler_at_final=True)
    theirs.set_timesteps(timesteps=spaced_timesteps(801, calls))
    options = {"sampler": "dpmsolver++", "calls": calls}
    ours, expected = both_ways(pipeline, faces, keys, theirs, theirs.timesteps, 801, **options)
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=2e-5)


@pytest.fixture
def kl() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4,
    ).eval()  # fmt: skip


def test_the_posterior_is_that_of_diffusers(kl, faces):
    mode, deviation = encode_posterior(kl, faces)
    posterior = kl.encode(faces).latent_dist
    drawn = posterior.sample(torch.Generator().manual_seed(3)) * kl.config["scaling_factor"]
    noise = torch.randn(mode.shape, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(mode + deviation * noise, drawn)


def test_a_sample_is_a_function_of_its_face(kl, faces, keys, encoder):
    unet = build_unet("tiny", in_channels=4, sample_size=16, cross_attention_dim=40)
    pipeline = DeFakePipeline(kl, unet, sd_scheduler(), encoder)
    options = {"timestep": 21, "posterior": "sample"}
    together = pipeline(faces, keys=keys, **options).latents
    torch.testing.assert_close(pipeline(faces[1:2], keys=keys[1:2], **options).latents, together[1:2])
    mode = pipeline(faces, keys=keys, timestep=21).latents
    assert (together - mode).abs().amax((1, 2, 3)).min() > 1e-3
    # The same noise up to t, other latents: the face's streams are independent.
    latents, deviation = pipeline.encode_posterior(faces)
    drawn = latents + deviation * noise_for_keys(posterior_keys(keys), tuple(latents.shape[1:]))
    with pipeline.conditioned(pipeline.identity_tokens(faces)) as conditioning:
        expected = pipeline.restore_latents(drawn, conditioning, 21, 50, pipeline.draw_noise(latents, keys))
    torch.testing.assert_close(together, expected)
    assert torch.equal(pipeline(faces, timestep=0, posterior="sample").image, pipeline(faces, timestep=0).image)
    streams = [torch.Generator().manual_seed(number) for number in range(4)]
    assert pipeline(faces, generators=streams, **options).latents.isfinite().all()
    with pytest.raises(ValueError, match="posterior='mean' must be one of mode, sample"):
        pipeline(faces, keys=keys, posterior="mean")

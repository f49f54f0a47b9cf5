"""The preconditioned U-Net: exact at its start, of unit targets, saved and loaded equal, inside the pipeline."""

from __future__ import annotations

import pytest
import torch

from dfg.objective import DenoisingObjective
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler
from dfg.unet import PreconditionedUNet, build_unet, checkpoint_gradients

VARIANCE = [4.0, 1.0, 0.25, 0.04]
SIZE = {"block_out_channels": (8, 16, 16), "norm_num_groups": 4, "attention_head_dim": 4}


@pytest.fixture
def net() -> PreconditionedUNet:
    built = build_unet(
        "tiny", in_channels=4, sample_size=8, cross_attention_dim=16, latent_variance=VARIANCE, seed=3, **SIZE
    )
    return built.eval()


def draw(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    deviation = torch.tensor(VARIANCE).sqrt().view(1, -1, 1, 1)
    clean = torch.randn(count, 4, 8, 8, generator=generator) * deviation
    return clean, torch.randn(clean.shape, generator=generator)


@pytest.mark.parametrize("timestep", [1, 201, 601, 999])
def test_it_starts_as_the_best_linear_denoiser(net, timestep):
    clean, noise = draw(64)
    abar = float(sd_scheduler().alphas_cumprod[timestep])
    noisy = abar**0.5 * clean + (1 - abar) ** 0.5 * noise
    with torch.no_grad():
        predicted = net(noisy, timestep, torch.zeros(64, 5, 16)).sample
    for channel, variance in enumerate(VARIANCE):
        # The slope of the regression of the noise on one noisy value, fitted to the draws.
        z, e = noisy[:, channel].flatten(), noise[:, channel].flatten()
        slope = float((z @ e) / (z @ z))
        assert slope == pytest.approx((1 - abar) ** 0.5 / (abar * variance + 1 - abar), abs=0.05)
        torch.testing.assert_close(
            predicted[:, channel],
            noisy[:, channel] * ((1 - abar) ** 0.5 / (abar * variance + 1 - abar)),
            atol=1e-5,
            rtol=1e-4,
        )


def test_what_the_network_has_to_tell_has_unit_variance():
    clean, noise = draw(256)
    abar = sd_scheduler().alphas_cumprod[401]
    noisy = abar.sqrt() * clean + (1 - abar).sqrt() * noise
    variance = torch.tensor(VARIANCE).view(1, -1, 1, 1)
    total = abar * variance + 1 - abar
    target = (noise - (1 - abar).sqrt() / total * noisy) / (abar * variance / total).sqrt()
    torch.testing.assert_close(target.std(dim=(0, 2, 3)), torch.ones(4), atol=0.03, rtol=0)


def test_every_parameter_learns(net):
    objective = DenoisingObjective(net.train(), sd_scheduler())
    clean, noise = draw(4)
    batch = {
        "latents": clean,
        "noise": noise,
        "tokens": torch.randn(4, 5, 16),
        "timesteps": torch.tensor([1, 300, 600, 999]),
    }
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    first = objective(batch)["loss"]
    first.backward()
    optimizer.step()
    optimizer.zero_grad()
    second = objective(batch)["loss"]
    second.backward()
    assert second < first
    silent = [name for name, p in net.named_parameters() if p.grad is None]
    assert not silent


def test_weights_follow_the_seed_and_the_network_knows_its_sizes(net):
    again, other = (
        build_unet(
            "tiny", in_channels=4, sample_size=8, cross_attention_dim=16, latent_variance=VARIANCE, seed=seed, **SIZE
        )
        for seed in (3, 4)
    )
    assert torch.equal(again.net.conv_in.weight, net.net.conv_in.weight)
    assert not torch.equal(other.net.conv_in.weight, net.net.conv_in.weight)
    sizes = {"sample_size": 8, "in_channels": 4, "out_channels": 4, "cross_attention_dim": 16}
    assert {name: net.net.config[name] for name in sizes} == sizes
    assert {name: net.config[name] for name in ("in_channels", "out_channels", "cross_attention_dim", "seed")} == {
        "in_channels": 4, "out_channels": 4, "cross_attention_dim": 16, "seed": 3
    }  # fmt: skip


def test_either_unet_recomputes_its_activations(net, unet):
    for whole, inner in ((net, net.net), (unet, unet)):
        checkpoint_gradients(whole)
        assert inner.is_gradient_checkpointing


def test_saved_and_loaded_is_the_same(net, tmp_path):
    net.save_pretrained(tmp_path)
    loaded = PreconditionedUNet.from_pretrained(tmp_path).eval()
    noisy, tokens = draw(2)[0], torch.randn(2, 5, 16)
    with torch.no_grad():
        torch.testing.assert_close(net(noisy, 401, tokens).sample, loaded(noisy, 401, tokens).sample, atol=0, rtol=0)


def test_the_pipeline_saves_and_loads_it(faces, keys, encoder, tmp_path):
    from dfg.autoencoder import PatchAutoencoder

    autoencoder = PatchAutoencoder(4, 12)
    autoencoder.fit(faces)
    unet = build_unet("tiny", in_channels=12, sample_size=8, cross_attention_dim=40, latent_variance=[1.0] * 12, **SIZE)
    pipeline = DeFakePipeline(autoencoder, unet, sd_scheduler(), encoder)
    pipeline.save_pretrained(tmp_path / "dfg")
    loaded = DeFakePipeline.from_pretrained(tmp_path / "dfg")
    ours, theirs = (p(faces, timestep=201, num_inference_steps=10, keys=keys).image for p in (pipeline, loaded))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("variance", [[1.0], [1.0, 1.0, 1.0, 0.0]])
def test_a_wrong_variance_is_refused(variance):
    with pytest.raises(ValueError, match="4 numbers above 0"):
        build_unet("tiny", in_channels=4, sample_size=8, latent_variance=variance, **SIZE)

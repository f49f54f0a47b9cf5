"""Velocity and noise are two names of one prediction; min-SNR weights by a slow computation of their own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dfg.objective import DenoisingObjective
from dfg.pipeline import DeFakePipeline
from dfg.prediction import as_epsilon, min_snr_weight, prediction_of, target
from dfg.schedule import sd_scheduler
from dfg.tokens import TokenProjection
from dfg.unet import build_unet

TIMESTEPS = [0, 1, 37, 201, 500, 801, 999]


def abar_of(timestep: int) -> float:
    """The schedule by a product in Python's floats."""
    product = 1.0
    for step in range(timestep + 1):
        root = 0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * step / 999
        product *= 1 - root**2
    return product


class Fixed(nn.Module):
    """A U-Net with one answer."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer)

    def forward(self, sample, timestep, encoder_hidden_states):
        self.seen = encoder_hidden_states
        return type("Output", (), {"sample": self.answer})()


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    count = len(TIMESTEPS)
    return {
        "latents": torch.randn(count, 4, 5, 5, generator=draw),
        "noise": torch.randn(count, 4, 5, 5, generator=draw),
        "tokens": torch.randn(count, 6, 8, generator=draw),
        "timesteps": torch.tensor(TIMESTEPS),
    }


def slow_loss(batch, answer, prediction, gamma):
    """Value by value, in Python's floats; the weights by what they are for: z_0's error weighted by min(SNR, gamma)."""
    errors = []
    for row, timestep in enumerate(TIMESTEPS):
        abar = abar_of(timestep)
        signal, spread = math.sqrt(abar), math.sqrt(1 - abar)
        snr = abar / (1 - abar)
        clean, noise, given = (x[row].flatten().tolist() for x in (batch["latents"], batch["noise"], answer))
        for z0, e, out in zip(clean, noise, given, strict=True):
            zt = signal * z0 + spread * e
            if gamma is not None:
                guess = (zt - spread * out) / signal if prediction == "epsilon" else signal * zt - spread * out
                errors.append(min(snr, gamma) * (guess - z0) ** 2)
            else:
                errors.append((out - (e if prediction == "epsilon" else signal * e - spread * z0)) ** 2)
    return sum(errors) / len(errors)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [None, 0.5, 5.0])
def test_the_loss_is_the_slow_one(batch, prediction, gamma):
    answer = torch.randn(batch["latents"].shape, generator=torch.Generator().manual_seed(9))
    objective = DenoisingObjective(Fixed(answer), sd_scheduler(prediction), min_snr_gamma=gamma)
    loss = objective(batch)["loss"].item()
    assert loss == pytest.approx(slow_loss(batch, answer, prediction, gamma), rel=2e-3)


def test_weights_are_those_of_the_paper():
    """At SNR 4 and gamma 1: a quarter for the noise, a fifth for the velocity; below gamma the noise counts fully."""
    abar = torch.tensor([0.8, 0.2])
    torch.testing.assert_close(min_snr_weight("epsilon", abar, 1.0), torch.tensor([0.25, 1.0]))
    torch.testing.assert_close(min_snr_weight("v_prediction", abar, 1.0), torch.tensor([0.2, 0.2]))


def test_a_perfect_velocity_is_a_perfect_noise(batch):
    for row, timestep in enumerate(TIMESTEPS):
        clean, noise, abar = batch["latents"][row], batch["noise"][row], torch.tensor(abar_of(timestep))
        noisy = abar.sqrt() * clean + (1 - abar).sqrt() * noise
        velocity = target("v_prediction", clean, noise, abar)
        torch.testing.assert_close(
            as_epsilon("v_prediction", velocity, noisy, float(abar)), noise, atol=1e-5, rtol=1e-4
        )


def test_dropped_faces_get_zero_tokens_even_through_a_projection(batch):
    unet = Fixed(torch.zeros_like(batch["latents"]))
    projection = TokenProjection(8, 12)
    nn.init.ones_(projection.linear.bias)
    batch["dropped"] = torch.arange(len(TIMESTEPS)) % 2 == 0
    DenoisingObjective(unet, sd_scheduler(), projection=projection)(batch)
    assert unet.seen.shape == (len(TIMESTEPS), 6, 12)
    assert not unet.seen[0::2].any()
    torch.testing.assert_close(unet.seen[1::2, :, :8], batch["tokens"][1::2] + 1)


@pytest.mark.parametrize("gamma", [0.0, -1.0])
def test_an_impossible_gamma_is_refused(unet, gamma):
    with pytest.raises(ValueError, match="above 0"):
        DenoisingObjective(unet, sd_scheduler(), min_snr_gamma=gamma)


def test_another_prediction_is_refused():
    scheduler = sd_scheduler()
    scheduler.register_to_config(prediction_type="sample")
    with pytest.raises(ValueError, match=r"'epsilon' .* or 'v_prediction'"):
        prediction_of(scheduler)


def test_a_preconditioned_unet_predicts_noise_only():
    options = {"block_out_channels": (8, 16, 16), "norm_num_groups": 4}
    net = build_unet("tiny", in_channels=4, sample_size=8, latent_variance=[1.0] * 4, **options)
    with pytest.raises(ValueError, match="linear part"):
        DenoisingObjective(net, sd_scheduler("v_prediction"))


@pytest.mark.parametrize("sampler", ["ddim", "unipc", "dpmsolver++"])
def test_noise_and_velocity_lead_to_the_same_face(autoencoder, unet, encoder, faces, keys, monkeypatch, sampler):
    """Perfect predictors of one known picture: the two pipelines go the same way, and end at the picture."""
    latents = DeFakePipeline(autoencoder, unet, sd_scheduler(), encoder).encode(faces)
    ends = {}
    for prediction in ("epsilon", "v_prediction"):
        pipeline = DeFakePipeline(autoencoder, unet, sd_scheduler(prediction), encoder)
        monkeypatch.setattr(unet, "forward", knowing(latents, pipeline.scheduler, prediction))
        ends[prediction] = pipeline(faces, timestep=801, keys=keys, sampler=sampler, calls=6).latents
    torch.testing.assert_close(ends["epsilon"], ends["v_prediction"], atol=2e-3, rtol=0)
    # The schedule ends at abar of index 0, where 3 % of the noise is left.
    assert (ends["epsilon"] - latents).abs().mean() < 0.05


def knowing(clean, scheduler, prediction):
    """A forward that knows z_0, and answers with the noise, or the velocity, that leads from it to what it sees."""

    def forward(sample, timestep, encoder_hidden_states):
        abar = scheduler.alphas_cumprod[int(timestep)]
        noise = (sample - abar.sqrt() * clean) / (1 - abar).sqrt()
        return type("Output", (), {"sample": target(prediction, clean, noise, abar)})()

    return forward


def test_a_projection_starts_as_zero_padding_and_is_saved(autoencoder, unet, encoder, faces, keys, tmp_path):
    padded = DeFakePipeline(autoencoder, unet, sd_scheduler(), encoder)
    projected = DeFakePipeline(autoencoder, unet, sd_scheduler("v_prediction"), encoder, TokenProjection(32, 40))
    torch.testing.assert_close(projected.identity_tokens(faces), padded.identity_tokens(faces))
    nn.init.normal_(projected.token_projection.linear.weight, generator=torch.Generator().manual_seed(0))
    projected.save_pretrained(tmp_path)
    loaded = DeFakePipeline.from_pretrained(tmp_path)
    assert loaded.scheduler.config["prediction_type"] == "v_prediction"
    ours, theirs = (p(faces, timestep=201, keys=keys).image for p in (projected, loaded))
    assert torch.equal(ours, theirs)
    assert not torch.equal(loaded.identity_tokens(faces), padded.identity_tokens(faces))
    assert not loaded.identity_tokens(faces, "none").any()


def test_a_projection_that_does_not_fit_is_refused(autoencoder, unet, encoder):
    with pytest.raises(ValueError, match=r"maps 16 values to 40, but .* have 32"):
        DeFakePipeline(autoencoder, unet, sd_scheduler(), encoder, TokenProjection(16, 40))
    with pytest.raises(ValueError, match=r"maps 32 values to 24, but .* cross_attention_dim is 40"):
        DeFakePipeline(autoencoder, unet, sd_scheduler(), encoder, TokenProjection(32, 24))

"""The generator on a GPU, by its look-alike: no mixed devices, and no wait while the U-Net works."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lookalike import waits_between_calls

from dfg.baselines import build_baseline
from dfg.baselines.anoddpm import AnoDdpmObjective
from dfg.baselines.deep_svdd import DeepSvddObjective
from dfg.baselines.memae import MemAEObjective
from dfg.baselines.one_call import OneCallObjective
from dfg.noise import noise_for_keys, noise_from_generators
from dfg.objective import DenoisingObjective
from dfg.pipeline import DeFakePipeline
from dfg.samplers import SAMPLERS, SPACED
from dfg.schedule import sd_scheduler
from dfg.tokens import TokenProjection
from dfg.unet import build_unet

OBJECTIVES: dict[str, Any] = {
    "anoddpm": AnoDdpmObjective,
    "deep_svdd": DeepSvddObjective,
    "memae": MemAEObjective,
    "one_call": lambda model: OneCallObjective(model, lambda image, keys: image / 2),
}


CHOICES: dict[str, dict[str, Any]] = {
    "the grid": {"timestep": 41},
    "one call": {"timestep": 801, "calls": 1},
    "guided": {"timestep": 21, "guidance_scale": 2.0},
    "unconditional": {"timestep": 21, "condition": "none"},
    "a sample of the posterior": {"timestep": 21, "posterior": "sample"},
    **{name: {"timestep": 801, "calls": 3, "sampler": name} for name in SPACED if name != "ddim"},
    **{name: {"timestep": 81, "sampler": name} for name in SAMPLERS if name not in SPACED},
}


QUICK = ("the grid", "guided")


@pytest.mark.parametrize(
    "choice", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CHOICES]
)
def test_the_loop_waits_for_nothing(lookalike, pipeline, faces, keys, choice):
    expected = pipeline(faces, keys=keys, **CHOICES[choice]).image
    pipeline.to("cuda")
    restored = []
    waits = waits_between_calls(
        lookalike, pipeline.unet, lambda: restored.append(pipeline(faces, keys=keys, **CHOICES[choice]).image)
    )
    assert waits == []
    torch.testing.assert_close(restored[0].cpu(), expected, atol=1e-4, rtol=1e-4)


def test_a_preconditioned_generator_with_a_projection(lookalike, autoencoder, encoder, faces, keys):
    unet = build_unet(
        "tiny", in_channels=48, sample_size=8, cross_attention_dim=24, latent_variance=[1.0] * 48,
        block_out_channels=(8, 16), norm_num_groups=4, attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    pipeline = DeFakePipeline(autoencoder, unet, sd_scheduler(), encoder, TokenProjection(32, 24)).to("cuda")
    for _ in range(2):  # the schedule moves to the device in the first call
        waits = waits_between_calls(lookalike, unet, lambda: pipeline(faces, timestep=21, keys=keys))
    assert waits == []


def test_noise_is_that_of_the_cpu_and_is_copied_once(lookalike, keys):
    expected = noise_for_keys(keys, (4, 8, 8))
    noise = noise_for_keys(keys, (4, 8, 8), device="cuda")
    assert lookalike.synchronisations == []
    assert len(lookalike.copies) == 1
    assert torch.equal(noise.cpu(), expected)


def test_generators_of_the_device_draw_there(lookalike, pipeline, faces):
    pipeline.to("cuda")
    streams = [torch.Generator(device="cuda").manual_seed(number) for number in range(4)]
    assert pipeline(faces, timestep=21, generators=streams).image.is_cuda
    mixed = noise_from_generators([torch.Generator(device=place) for place in ("cpu", "cuda")], (3, 2), "cuda")
    assert mixed.is_cuda
    assert mixed.shape == (2, 3, 2)


def test_a_training_step_of_the_generator_waits_for_nothing(lookalike, unet):
    objective = DenoisingObjective(unet, sd_scheduler("v_prediction"), min_snr_gamma=5.0).to("cuda")
    batch = {"latents": torch.zeros(2, 48, 8, 8, device="cuda"), "tokens": torch.zeros(2, 49, 40, device="cuda")}
    batch["dropped"] = torch.zeros(2, device="cuda").bool()
    lookalike.clear()
    objective(batch)["loss"].backward()
    assert lookalike.synchronisations == []


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_baseline_trains_and_restores(lookalike, faces, keys, name):
    model = build_baseline(name, "tiny", 32)
    expected = model.reconstruct(faces, keys, **({"timestep": 3} if name == "anoddpm" else {}))
    objective: Any = OBJECTIVES[name](model).to("cuda")
    batch = {"image": faces, "noise": torch.zeros_like(faces), "timesteps": torch.tensor([0, 9, 99, 999])}
    moved = {part: value.to("cuda") for part, value in batch.items()} | {"keys": ["", "", "", ""]}
    restored = []

    def restore() -> None:
        restored.append(model.reconstruct(faces, keys, **({"timestep": 3} if name == "anoddpm" else {})))

    waits = waits_between_calls(lookalike, model.unet if name == "anoddpm" else model, restore)
    assert waits == []
    torch.testing.assert_close(restored[0].cpu(), expected, atol=1e-4, rtol=1e-4)
    if name == "deep_svdd":
        model.fix_center([faces])
    lookalike.clear()
    objective(moved)["loss"].backward()
    assert lookalike.synchronisations == []

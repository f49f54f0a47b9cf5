"""Numbers that no run can use are refused before anything is made, in one sentence."""

from __future__ import annotations

import json

import pytest
import torch

from dfg.baselines import BASELINE_PRESETS, BASELINES, build_baseline
from pipelines.errors import AgfasError
from pipelines.experiment.file import build_experiment, read_experiment
from pipelines.experiment.sizes import check_side
from pipelines.settings import LARGEST
from pipelines.stages import train_detector, train_dfg


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.size=50"], "data.size = 50 must be a multiple of 4, .* give 48 or 52"),
        (["data.size=34", "generator.autoencoder.patch_size=64"], "multiple of 64, .* give 64"),
        (["data.size=60", "generator.autoencoder={name: taesd, encoder: a, decoder: b}"], "multiple of 8"),
        (
            ["data.size=72", "generator.name=memae", "cue.source=memae"],
            "multiple of 16, by which generator.name = memae",
        ),
        (["generator.autoencoder.patch_size=2"], "latent_channels = 24 exceeds 12"),
        (["cue.calls=802"], "calls = 802 must be at most timestep = 801"),
        (["cue.guidance_scale=1e9"], "cue.guidance_scale"),
        (["train.betas=[0.9, 1]"], "less than 1"),
        (["train.workers=100000"], "256"),
        ([f"train.steps={LARGEST + 1}"], "give a number between"),
        (["identity.margin=1e300"], "give a number between"),
        (["train.steps=true"], "steps is a number, not true"),
        (["train.learning_rate=inf"], "finite number"),
    ],
)
def test_a_number_that_cannot_be_is_refused_with_the_configuration(overrides, words):
    with pytest.raises(AgfasError, match=words):
        read_experiment(None, overrides)


def test_seeds_may_be_large_and_faces_of_any_side_without_a_generator():
    given = ["seed=9223372036854775807", "cue.seed=-9223372036854775808", "data.size=50", "detector.name=image_only"]
    assert read_experiment(None, given).seed == 2**63 - 1


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_sides_of_a_baseline_are_those_that_it_can_be_built_for(name, number):
    preset = list(BASELINE_PRESETS[name])[number]
    settings = build_experiment(
        {"generator": {"name": name, "preset": preset}, "cue": {"source": name}}, "test"
    ).generator
    channels = len(BASELINE_PRESETS[name][preset]["channels"])
    cell = 3 * BASELINE_PRESETS[name][preset].get("patch", 1)
    for side in (2 ** (channels - 2) * cell, 2 ** (channels - 1) * cell, 2**channels * cell):
        with torch.device("meta"):
            assert _passes(lambda side=side: build_baseline(name, preset, side)) == _passes(
                lambda side=side: check_side(side, settings)
            )


def test_the_side_of_a_saved_autoencoder_is_read_from_its_config(tmp_path):
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text(json.dumps({"block_out_channels": [1, 2, 3]}))
    given = [f"generator.autoencoder={{name: pretrained, path: {tmp_path}}}", "data.size=66"]
    with pytest.raises(AgfasError, match="multiple of 4, by which the autoencoder at"):
        read_experiment(None, given)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"generator": {"unet": {"norm_num_groups": 7}}}, "generator.unet makes no U-Net"),
        ({"generator": {"unet": {"block_out_channels": [8]}}}, "generator.unet makes no U-Net"),
        (
            {"generator": {"name": "anoddpm", "options": {"norm_num_groups": 5}}, "cue": {"source": "anoddpm"}},
            "anoddpm cannot be built",
        ),
    ],
)
def test_options_that_make_no_generator_are_refused_before_it_is_needed(options, words):
    with pytest.raises(AgfasError, match=words) as refusal:
        train_dfg.check_options(build_experiment(options, "the test"))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "option", [{"embedding_dim": -1}, {"embedding_dim": 0}, {"name": "liveness_vit", "num_heads": 0}]
)
def test_options_that_make_no_detector_are_refused(option):
    with pytest.raises(AgfasError, match="The detector cannot be built"):
        train_detector.check_options(build_experiment({"detector": {"preset": "tiny", **option}}, "the test"))


def _passes(check) -> bool:
    try:
        check()
    except ValueError:
        return False
    return True

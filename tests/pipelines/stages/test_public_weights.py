"""The paper's authors' checkpoint and Stable Diffusion's autoencoder load in the layouts that they are published in."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from authors_weights import UNET_EMA, write_authors_weights, write_autoencoder
from diffusers import AutoencoderKL
from output_folder import make_experiment, write_faces

from dfg.unet import build_unet
from pipelines.artefacts.cues import open_sweep
from pipelines.artefacts.faces import make_faces
from pipelines.artefacts.runs import load_maker
from pipelines.experiment.generator import GeneratorSettings, PretrainedAutoencoder
from pipelines.stages import train_dfg


@pytest.fixture
def public(tmp_path) -> Path:
    """A checkpoint of the layout of the paper's authors, and Stable Diffusion's autoencoder, at small width."""
    write_authors_weights(tmp_path)
    write_autoencoder(tmp_path / "stable-diffusion-v1-5")
    return tmp_path


def test_the_public_checkpoints_layout_loads_as_it_is(public, tmp_path):
    place = public / UNET_EMA
    write_faces(tmp_path / "faces", subjects=4)
    experiment = make_experiment(
        tmp_path / "run",
        data={"name": "dataset", "path": str(tmp_path / "faces"), "size": 32},
        identity={"name": "backbone", "path": str(public / "backbone.pth")},
        generator={
            "preset": "sd15",
            "unet_weights": str(place),
            "train": False,
            "autoencoder": {"name": "pretrained", "path": str(public / "stable-diffusion-v1-5")},
        },
    )
    faces = make_faces(experiment)
    train_dfg.run(experiment, faces)
    pipeline = load_maker(experiment)
    given = torch.load(place / "diffusion_pytorch_model.bin", weights_only=True)
    assert all(torch.equal(value, given[name]) for name, value in pipeline.unet.state_dict().items())
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    assert pipeline.identity_tokens(image).shape == (1, 49, 768)
    restored = open_sweep(experiment, [801]).restore(image, ["a"], [801])[801]
    assert restored.shape == image.shape


def test_the_files_that_a_training_starts_from_may_be_replaced_while_it_runs(public):
    unet, folder = build_unet("tiny", in_channels=4, sample_size=4), public / "unet"
    unet.save_pretrained(folder)
    settings = GeneratorSettings(preset="tiny", unet_weights=str(folder))
    vae = PretrainedAutoencoder(name="pretrained", path=str(public / "stable-diffusion-v1-5"))
    loaded = (train_dfg.build_autoencoder(vae, None, np.array([])), train_dfg._start_from(settings))
    assert str(public) not in Path("/proc/self/maps").read_text()
    del loaded


def test_pickled_weights_of_an_autoencoder_load_without_a_word_in_the_log(public, caplog, capfd):
    place = public / "stable-diffusion-v1-5"
    kept = AutoencoderKL.from_pretrained(place, subfolder="vae")
    (place / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    kept.save_pretrained(place / "vae", safe_serialization=False)
    settings = PretrainedAutoencoder(name="pretrained", path=str(place))
    log = logging.getLogger("diffusers")
    log.addHandler(caplog.handler)  # diffusers' loggers do not propagate
    try:
        loaded = train_dfg.build_autoencoder(settings, None, np.array([]))
    finally:
        log.removeHandler(caplog.handler)
    assert caplog.text + capfd.readouterr().err == ""
    assert all(torch.equal(value, kept.state_dict()[name]) for name, value in loaded.state_dict().items())

"""Generators and latents are named by what the weights hold that they began with, not by where these lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment
from pipelines.experiment.workspace import Workspace
from pipelines.fingerprint import content_sha256, file_sha256, fingerprint
from pipelines.stages import train_dfg

HUB = "stable-diffusion-v1-5/stable-diffusion-v1-5"
OF_THE_HUB = {"unet_weights": HUB, "unet_subfolder": "unet"}


def workspace_of(generator: dict[str, Any]) -> Workspace:
    workspace = Workspace(build_experiment({"identity": {"name": "none"}, "generator": generator}, "the test"))
    workspace.faces_id = lambda: "faces"  # type: ignore[method-assign]
    return workspace


def with_unet(folder: Path) -> dict[str, Any]:
    return {"unet_weights": str(folder), "train": False}


def with_subfolder(folder: Path) -> dict[str, Any]:
    return {"unet_weights": str(folder.parent), "unet_subfolder": folder.name}


def with_autoencoder(folder: Path) -> dict[str, Any]:
    return {"autoencoder": {"name": "pretrained", "path": str(folder.parent), "subfolder": folder.name}}


def with_taesd(folder: Path) -> dict[str, Any]:
    encoder, decoder = folder / "weights.bin", folder / "config.json"
    return {"autoencoder": {"name": "taesd", "encoder": str(encoder), "decoder": str(decoder)}}


SETTINGS = [with_unet, with_subfolder, with_autoencoder, with_taesd]


@pytest.fixture
def weights(tmp_path) -> Path:
    folder = tmp_path / "here" / "model"
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"one")
    (folder / "config.json").write_bytes(b"{}")
    return folder


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("changed", ["weights.bin", "config.json"])
def test_other_weights_at_the_same_place_are_others(weights, settings, changed):
    before = fingerprint(workspace_of(settings(weights)).generator_key())
    (weights / changed).write_bytes(b"two")
    assert fingerprint(workspace_of(settings(weights)).generator_key()) != before


@pytest.mark.parametrize("settings", SETTINGS)
def test_weights_that_were_moved_are_the_same(weights, settings):
    before = fingerprint(workspace_of(settings(weights)).generator_key())
    moved = weights.parent.rename(weights.parents[1] / "there") / weights.name
    assert fingerprint(workspace_of(settings(moved)).generator_key()) == before


def test_each_file_of_taesd_has_its_part(weights):
    settings = with_taesd(weights)
    turned = {
        "name": "taesd",
        "encoder": settings["autoencoder"]["decoder"],
        "decoder": settings["autoencoder"]["encoder"],
    }
    keys = [workspace_of(one).latents_key() for one in (settings, {"autoencoder": turned})]
    assert keys[0] != keys[1]


def test_stored_latents_follow_the_autoencoders_content(weights, monkeypatch):
    keys: list[dict[str, Any]] = []
    monkeypatch.setattr(train_dfg, "store_latents", lambda *arguments: keys.append(arguments[5]))
    monkeypatch.setattr(Workspace, "faces_id", lambda self: "faces")

    def ask(generator: dict[str, Any]) -> dict[str, Any]:
        experiment: Experiment = workspace_of(generator).experiment
        train_dfg._latents(experiment, None, np.array([0]), None, None)
        return keys[-1]

    first = ask(with_taesd(weights))
    (weights / "weights.bin").write_bytes(b"two")
    assert ask(with_taesd(weights)) != first
    (weights / "weights.bin").write_bytes(b"one")
    moved = weights.rename(weights.parent / "moved")
    assert ask(with_taesd(moved)) == first


@pytest.mark.parametrize(
    ("generator", "name"),
    [
        ({}, "997ef19a31647bb0"),
        (OF_THE_HUB, "f6abc29ef6a0aec1"),
        (
            {"unet_weights": HUB, "unet_subfolder": "unet", "autoencoder": {"name": "pretrained", "path": HUB}},
            "7d69e3b2214d9712",
        ),
    ],
)
def test_hub_ids_keep_their_names(generator, name):
    assert fingerprint(workspace_of(generator).generator_key()) == name


def test_weights_beside_an_onnx_file_belong_to_it(tmp_path):
    onnx = pytest.importorskip("onnx")
    weight = onnx.numpy_helper.from_array(np.ones(300, np.float32), "w")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["w"], ["n"])], "g", [], [], [weight])
    alone, path = tmp_path / "alone.onnx", tmp_path / "here" / "net.onnx"
    onnx.save(onnx.helper.make_model(graph), str(alone))
    path.parent.mkdir()
    onnx.save(onnx.helper.make_model(graph), str(path), save_as_external_data=True, location="w.bin0", size_threshold=0)

    def name(at: Path) -> str:
        workspace = Workspace(build_experiment({"identity": {"name": "onnx", "path": str(at)}}, "the test"))
        return fingerprint(workspace.identity_key())

    assert content_sha256(alone) == file_sha256(alone)
    before, folder = name(path), content_sha256(path.parent)
    moved = path.parent.rename(tmp_path / "there")
    assert name(moved / path.name) == before
    beside, times = moved / "w.bin0", (moved / "w.bin0").stat()
    beside.write_bytes(beside.read_bytes()[::-1].replace(b"?", b"@"))
    os.utime(beside, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert beside.stat().st_size == times.st_size
    assert name(moved / path.name) != before
    assert content_sha256(moved) != folder
    beside.unlink()
    with pytest.raises(AgfasError, match=r"net.onnx keeps weights in w.bin0"):
        name(moved / path.name)

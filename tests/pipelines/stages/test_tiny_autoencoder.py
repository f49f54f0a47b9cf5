"""A small autoencoder in place of the generator's own: trained, named, used by cues, and saved with a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from small_experiments import chain_settings
from stand_in_hub import StandInHub
from training_parts import Killed

from dfg.tiny_autoencoder import build_tiny
from pipelines.artefacts.autoencoders import autoencoder_of_cue, load_restorer, open_autoencoder
from pipelines.artefacts.cues import open_sweep, store_folders
from pipelines.artefacts.faces import face_columns, make_faces
from pipelines.artefacts.runs import load_maker
from pipelines.cues.store import CueStore
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment, with_overrides
from pipelines.experiment.workspace import Workspace
from pipelines.stages import chain, cues, train_dfg, train_tiny_autoencoder
from pipelines.training import loop
from pipelines.verdict import FaceAntiSpoofing

SMALL = {"width": 4, "blocks": 0, "loop": {"steps": 3, "batch_size": 4, "log_every": 1, "checkpoint_every": 1}}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Experiment:
    """A trained generator, and its small autoencoder; nobody may change them."""
    content = {**chain_settings(tmp_path_factory.mktemp("tiny")), "tiny_autoencoder": SMALL}
    # Enough persons that some are held out.
    given = {"cue.autoencoder": "trained", "data.corpus_subjects": 12}
    experiment = with_overrides(build_experiment(content, "the test"), given)
    faces = make_faces(experiment)
    train_dfg.run(experiment, faces)
    train_tiny_autoencoder.run_if_needed(experiment, faces)
    return experiment


def of(experiment: Experiment, autoencoder: str, **more) -> Experiment:
    return with_overrides(experiment, {"cue.autoencoder": autoencoder, **more})


def folders(experiment: Experiment) -> dict[int, Path]:
    return store_folders(experiment, face_columns(experiment), (0, 41))


def test_the_run_says_what_it_trained_and_how_well(made):
    folder = Workspace(made).tiny_autoencoder()
    done = json.loads((folder / "done.json").read_text())
    assert done["fidelity"]["faces"] > 0
    columns = face_columns(made)
    assert done["live_faces"] == int(((columns["domain"] == "corpus") & (columns["split"] == "train")).sum())
    small = open_autoencoder(folder / "model")
    assert (small.config["latent_channels"], len(small.config["encoder_block_out_channels"])) == (8, 3)
    assert "_name_or_path" not in json.loads((folder / "model" / "config.json").read_text())
    rows = train_tiny_autoencoder.run_alone(made)
    assert rows[0]["group"] == "live, held out"
    assert all(-1 <= row["latent_correlation"] <= 1 and row["own_psnr_db"] > row["psnr_db"] > 0 for row in rows)
    assert (folder / "fidelity.csv").is_file()


def test_nothing_else_gets_another_name(made):
    own = of(made, "generator")
    assert Workspace(own).generator() == Workspace(made).generator()
    assert Workspace(own).detector() != Workspace(made).detector()
    wider = with_overrides(made, {"tiny_autoencoder.width": 8})
    assert Workspace(with_overrides(own, {"tiny_autoencoder.width": 8})).detector() == Workspace(own).detector()
    names = {Workspace(one).detector() for one in (own, made, wider)}
    assert len(names) == 3
    assert len({Workspace(one).restoration() for one in (own, made, wider)}) == 3
    image_only = {"detector": {"name": "image_only", "preset": "tiny"}}
    assert len({Workspace(with_overrides(one, image_only)).detector() for one in (own, made, wider)}) == 1


def test_cues_of_another_autoencoder_are_others_at_every_t(made, tmp_path):
    plain, small = folders(of(made, "generator")), folders(made)
    assert len({*plain.values(), *small.values()}) == 4
    given = tmp_path / "given"
    shutil.copytree(Workspace(made).tiny_autoencoder() / "model", given)
    by_place = folders(of(made, str(given)))
    shutil.move(given, tmp_path / "moved")
    assert folders(of(made, str(tmp_path / "moved"))) == by_place  # by content, not by place
    build_tiny(4, 8, 4, 1).save_pretrained(tmp_path / "other")
    others = folders(of(made, str(tmp_path / "other")))
    assert not {*others.values()} & {*by_place.values(), *small.values(), *plain.values()}


def test_the_cue_job_encodes_and_decodes_with_it(made):
    faces = make_faces(made)
    written = cues.run(made, faces, [41])
    assert written == folders(made)
    sweep = open_sweep(made, (0, 41))
    assert isinstance(sweep.pipeline.autoencoder, AutoencoderTiny)
    stored = {t: CueStore.open(folder) for t, folder in written.items()}
    rows = np.flatnonzero(faces.domains == "phone")[:3].tolist()
    keys = [str(key) for key in faces.keys[rows]]
    image = torch.from_numpy(faces.images[rows].transpose(0, 3, 1, 2) / np.float32(127.5) - 1)
    small = open_autoencoder(Workspace(made).tiny_autoencoder() / "model")
    with torch.no_grad():
        encoded = small.decode(small.encode(image).latents).sample.clamp(-1, 1)
    found = stored[0].reconstructions(keys).transpose(0, 3, 1, 2) / 127.5 - 1
    np.testing.assert_allclose(found, encoded.numpy(), atol=0.01)
    assert (stored[41].reconstructions(keys) != stored[0].reconstructions(keys)).any()


def test_weights_of_the_hub_are_named_by_what_they_hold(made, tmp_path, monkeypatch):
    build_tiny(4, 8, 4, 0).save_pretrained(tmp_path / "local")
    files = {path.name: path.read_bytes() for path in (tmp_path / "local").iterdir()}
    with StandInHub() as hub:
        hub.used(monkeypatch, tmp_path / "cache")
        hub.make("you/tiny", {**files, "code.py": b"raise SystemExit"})
        chosen = of(made, "you/tiny")
        assert folders(chosen) == folders(of(made, str(tmp_path / "local")))
        assert not list((tmp_path / "cache").rglob("code.py"))
        assert isinstance(load_restorer(chosen).autoencoder, AutoencoderTiny)
        with pytest.raises(AgfasError, match="shows no model you/other"):
            autoencoder_of_cue(of(made, "you/other"))


def test_a_killed_training_ends_as_an_uninterrupted_one(made, tmp_path, monkeypatch):
    moved = with_overrides(made, {"output": str(tmp_path)})
    faces = make_faces(moved)
    step = loop._Training.step

    def killed(self, number, batches):
        if number == 2:
            raise Killed
        return step(self, number, batches)

    monkeypatch.setattr(loop._Training, "step", killed)
    with pytest.raises(Killed):
        train_tiny_autoencoder.run(moved, faces)
    monkeypatch.setattr(loop._Training, "step", step)
    again = train_tiny_autoencoder.run(moved, faces)
    whole = Workspace(made).tiny_autoencoder()
    assert again.name == whole.name
    weights = "model/diffusion_pytorch_model.safetensors"
    assert (again / weights).read_bytes() == (whole / weights).read_bytes()


def test_what_is_not_there_is_answered_with_the_fix(made, tmp_path):
    with pytest.raises(AgfasError, match=r"No finished tiny autoencoder at .* Run `agfas train-tiny-autoencoder`"):
        autoencoder_of_cue(with_overrides(made, {"tiny_autoencoder.width": 8}))
    with pytest.raises(AgfasError, match="did you mean 'trained'"):
        of(made, "traind")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(AgfasError, match=r"empty has no config\.json\. Give the folder of an AutoencoderTiny"):
        load_restorer(of(made, str(empty)))
    with pytest.raises(AgfasError, match=r"patch_size of 1, 2, 4, 8, \.\.\., not 3"):
        with_overrides(made, {"generator.autoencoder.patch_size": 3, "data.size": 48})
    with pytest.raises(AgfasError, match=r"cue\.autoencoder is an option of generator.name = dfg"):
        build_experiment({"generator": {"name": "memae"}, "cue": {"source": "memae", "autoencoder": "trained"}}, "test")


@pytest.mark.parametrize(("factor", "channels"), [(8, 8), (4, 4)])
def test_latents_of_another_kind_are_refused(made, tmp_path, factor, channels):
    build_tiny(factor, channels, 4, 0).save_pretrained(tmp_path)
    with pytest.raises(AgfasError, match=rf"does not fit the generator: .* factor {factor} and {channels} channels"):
        open_sweep(of(made, str(tmp_path)), (41,))


def test_damage_is_noticed(made, tmp_path):
    shutil.copytree(made.root, tmp_path / "out")
    moved = with_overrides(made, {"output": str(tmp_path / "out")})
    weights = Workspace(moved).tiny_autoencoder() / "model" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(AgfasError, match="something was exchanged"):
        load_restorer(moved)
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(AgfasError, match="it is a UNet2DModel, not one of AutoencoderKL, AutoencoderTiny"):
        open_autoencoder(tmp_path)


def test_the_generators_own_stays_where_none_is_chosen(made):
    own = of(made, "generator")
    assert type(load_restorer(own).autoencoder).__name__ == "PatchAutoencoder"
    assert type(load_maker(made).autoencoder).__name__ == "PatchAutoencoder"


def test_a_saved_model_holds_what_its_cue_uses(made, tmp_path):
    shutil.copytree(made.root, tmp_path / "out")
    moved = with_overrides(made, {"output": str(tmp_path / "out")})
    chain.run(moved, "evaluate")
    crops = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    model = FaceAntiSpoofing.from_run(moved.root)
    scores = model.scorer(crops).scores
    model.save_pretrained(tmp_path / "saved")
    shutil.rmtree(moved.root)
    opened = FaceAntiSpoofing.from_pretrained(tmp_path / "saved")
    assert isinstance(opened.scorer.maker.autoencoder, AutoencoderTiny)
    np.testing.assert_array_equal(opened.scorer(crops).scores, scores)
    settings = json.loads((tmp_path / "saved" / "anti_spoofing.json").read_text())["settings"]
    assert settings["cue"]["autoencoder"] == "generator"  # of this folder
    assert "autoencoder of the cue" in (tmp_path / "saved" / "README.md").read_text()

"""Models on the hub: pushed whole or not at all, opened by name with the same verdicts, and nothing of them is run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from detection_graphs import tiny_yunet
from diffusers import AutoencoderKL
from exported_models import ABOUT, generator, some_faces, untrained
from huggingface_hub import constants
from PIL import Image
from stand_in_hub import StandInHub, header_errors
from verdict_facts import ABOUT as MEASURED
from verdict_facts import SETTINGS

from agfas import DeFakePipeline
from dfg.seals import seal
from dfg.unet import build_unet
from pipelines.cues.settings import CueSettings
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.generator import PretrainedAutoencoder
from pipelines.export.folder import export_folder
from pipelines.files import write_json
from pipelines.hub import Push
from pipelines.stages.train_dfg import _load_autoencoder as load_autoencoder
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.card import model_card
from pipelines.verdict.hub import local_model
from pipelines.verdict.settings import Part, SavedModel
from pipelines.verdict.shipment import Shipment, is_ours, pack, send

ROOT = Path(__file__).parents[3]
PROGRAM = Part(what="this program", source="AG-FAS", licence="Apache-2.0")
FINDER = Part(what="face detector", source="yunet", licence="MIT (the YuNet files of opencv/opencv_zoo)")
FACES = Part(what="training faces", source="their faces", licence="For research, under the agreement of a university.")
PICTURE = some_faces(48).crops[0]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with StandInHub() as running:
        running.used(monkeypatch, tmp_path / "cache")
        yield running


def made_of(model: FaceAntiSpoofing, *parts: Part) -> FaceAntiSpoofing:
    """The model, with other parts on its card."""
    about = ABOUT.model_copy(update={"parts": [PROGRAM, *parts]})
    return FaceAntiSpoofing(model.settings, model.scorer, lambda: about, model.loaded)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> FaceAntiSpoofing:
    """One with a face detector."""
    return made_of(untrained(yunet=tiny_yunet(tmp_path_factory.mktemp("yunet") / "tiny.onnx")), FINDER)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_folder(made_of(untrained(), FINDER), folder, some_faces, aligned_only=True)
    return folder


def small_generator() -> DeFakePipeline:
    """One without an identity encoder, of few weights."""
    parts = generator()
    unet = build_unet("tiny", in_channels=8, sample_size=8, block_out_channels=(8, 8, 8))
    return DeFakePipeline(parts.autoencoder, unet, parts.scheduler)


def score(model: FaceAntiSpoofing) -> float | None:
    return model(PICTURE, aligned=True)[0].score


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_model_with_a_generator_comes_back_too(hub):
    model = made_of(untrained("oanet", CueSettings(timestep=161, num_inference_steps=25), generator()))
    model.push_to_hub("me/pad")
    assert score(FaceAntiSpoofing.from_pretrained("me/pad")) == score(model)


def test_a_saved_model_comes_back_by_its_name(hub, model, saved, tmp_path):
    link = model.push_to_hub("me/pad", commit_message="the first")
    repo = hub.repos["models", "me/pad"]
    assert link.endswith(repo.refs["main"])
    assert repo.private
    assert repo.titles[1:] == ["the first"]
    assert {name: data for name, data in hub.files("me/pad").items() if name != ".gitattributes"} == content(saved)
    back = FaceAntiSpoofing.from_pretrained("me/pad")
    assert score(back) == score(model)
    assert back.about() == model.about()
    hub.asked.clear()
    assert score(FaceAntiSpoofing.from_pretrained("hf://me/pad")) == score(model)
    assert hub.asked == ["GET /api/models/me/pad/revision/main"]
    hub.asked.clear()
    FaceAntiSpoofing.from_pretrained("me/pad", local_files_only=True)
    FaceAntiSpoofing.from_pretrained("me/pad", revision=repo.refs["main"])
    assert hub.asked == []


def test_revisions_are_kept_apart(hub, saved):
    repo = hub.make("me/pad", content(saved))
    repo.refs["v1"] = first = repo.refs["main"]
    repo.commit({**content(saved), "README.md": b"new"}, "a card", "try")
    cards = [local_model("me/pad", revision) / "README.md" for revision in (None, "v1", first, "try")]
    assert [card.read_bytes() == b"new" for card in cards] == [False, False, False, True]
    assert local_model(Path("me/pad@try")) == cards[-1].parent
    with pytest.raises(AgfasError, match="me/pad has no revision 'v2'"):
        FaceAntiSpoofing.from_pretrained("me/pad@v2")


def test_an_exported_model_comes_back_without_its_program(hub, exported):
    shipment = pack(exported)
    send(shipment, "me/pad", None, Push())
    pushed = hub.files("me/pad")
    assert {name: data for name, data in pushed.items() if name != ".gitattributes"} == content(exported)
    back = FaceAntiSpoofing.from_pretrained("me/pad")
    assert score(back) == score(FaceAntiSpoofing.from_pretrained(exported))
    assert not [line for line in hub.asked if "predict.py" in line]
    assert not list(Path(constants.HF_HUB_CACHE).rglob("*.py"))
    with pytest.raises(AgfasError, match="Copy or push its folder"):
        back.push_to_hub("me/pad")


def test_another_kind_of_model_takes_the_place_of_the_first(hub, saved, exported):
    hub.make("me/pad", {**content(saved), "LICENSE": b"theirs", "images/a.png": b"theirs"}, private=True)
    send(pack(exported), "me/pad", None, Push())
    assert {*hub.files("me/pad")} == {*content(exported), "LICENSE", "images/a.png"}
    assert is_ours("unet/config.json")
    assert is_ours("data/cues-00000-of-00004.parquet")
    assert not any(map(is_ours, ("README.md", "notes.json", "detector", "data/mine.parquet")))


def test_only_what_the_model_lists_is_pushed_and_a_card_is_made(saved, tmp_path):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "README.md").unlink()
    shipment = pack(folder)
    assert {*shipment.files} == {*content(saved)}
    assert shipment.files["README.md"] == (saved / "README.md").read_bytes()
    (folder / "detector" / "config.json").write_text("{}")
    with pytest.raises(AgfasError, match="is not the file that was saved"):
        pack(folder)
    with pytest.raises(AgfasError, match="is nothing that is pushed"):
        pack(tmp_path)
    with pytest.raises(AgfasError, match="No folder at"):
        pack(tmp_path / "none")


def test_a_part_that_may_not_be_shared_stops_before_any_request(hub, model, tmp_path):
    pack_of = Part(what="face detector", source="insightface", licence="non-commercial research only (packs)")
    held = made_of(model, FACES, pack_of)
    with pytest.raises(AgfasError) as caught:
        held.push_to_hub("me/pad", licence_checked=["training faces"])
    assert "the face detector (insightface), under 'non-commercial research only (packs)'" in str(caught.value)
    assert "save or export without it" in str(caught.value)
    assert "training faces" not in str(caught.value)
    with pytest.raises(AgfasError, match="--licence-checked 'faces' is no part of it"):
        held.push_to_hub("me/pad", licence_checked=["faces"])
    assert hub.asked == []
    held.push_to_hub("me/pad", licence_checked=["training faces", "face detector"])
    assert "me/pad" in {name for _, name in hub.repos}
    # Its settings name the face detector; its weights stay where they are.
    bare = FaceAntiSpoofing(model.settings, model.scorer, held.about, replace(model.loaded, detector_weights=None))
    bare.save_pretrained(tmp_path / "bare")
    assert [part.what for part in pack(tmp_path / "bare").withheld()] == ["training faces"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"config.json": b"{}", "model.safetensors": b""},
            "holds no model of this program: neither anti_spoofing.json",
        ),
        ({"settings.json": b"[1]"}, "holds no model of this program"),
        ({"model_index.json": b"{}"}, "is a generator alone, without a detector"),
        ({"anti_spoofing.json": b'{"files": {"detector/run.py": "0"}}', "detector/run.py": b"evil()"}, "might be run"),
        ({"anti_spoofing.json": b'{"files": {"detector/a.json": "0"}}'}, "is not of|lacks|anti_spoofing.json"),
    ],
)
def test_a_repository_of_something_else_is_said_to_be_that(hub, files, words):
    hub.make("you/it", files)
    with pytest.raises(AgfasError, match=words):
        FaceAntiSpoofing.from_pretrained("you/it")
    assert not list(Path(constants.HF_HUB_CACHE).rglob("*.py"))


def test_a_dataset_is_no_model_and_a_changed_file_no_model_of_ours(hub, saved):
    hub.make("you/cues", {"export.json": b"{}"}, "datasets")
    with pytest.raises(AgfasError, match="you/cues is a dataset of the hub, not a model"):
        FaceAntiSpoofing.from_pretrained("you/cues")
    with pytest.raises(AgfasError, match="shows no model you/none"):
        FaceAntiSpoofing.from_pretrained("you/none")
    hub.make("me/pad", {**content(saved), "detector/config.json": b"{}"})
    with pytest.raises(AgfasError, match="is not the file that was saved: its hash differs"):
        FaceAntiSpoofing.from_pretrained("me/pad")


def test_a_generator_is_pushed_as_it_is_and_opened_by_diffusers(hub, tmp_path):
    folder = tmp_path / "run" / "pipeline"
    made = small_generator()
    made.save_pretrained(folder)
    seal(folder)
    with pytest.raises(AgfasError, match=r"the generator \(pipeline, outside of its run\)"):
        send(pack(folder), "me/dfg", None, Push())
    write_json(folder.parent / "config.json", Experiment().model_dump(mode="json"))
    shipment = pack(folder)
    assert [part.what for part in shipment.parts] == ["training faces", "generator", "autoencoder", "identity encoder"]
    send(shipment, "me/dfg", None, Push())
    assert "library_name: diffusers" in hub.files("me/dfg")["README.md"].decode()
    back = DeFakePipeline.from_pretrained("me/dfg", revision="main", token="hf_me")
    weights, others = made.unet.state_dict(), back.unet.state_dict()
    assert all((weights[name] == others[name]).all() for name in weights)
    repo = hub.repos["models", "me/dfg"]
    repo.commit({**hub.files("me/dfg"), "unet/modeling.py": b"evil()"}, "theirs")
    assert DeFakePipeline.from_pretrained("me/dfg").unet is not None
    assert not list(Path(constants.HF_HUB_CACHE).rglob("*.py"))
    index = json.loads(hub.files("me/dfg")["model_index.json"])
    foreign = json.dumps({**index, "_class_name": ["pipeline", "Evil"]}).encode()
    repo.commit({**hub.files("me/dfg"), "model_index.json": foreign, "pipeline.py": b"evil()"}, "theirs")
    with pytest.raises((ValueError, OSError)):
        DeFakePipeline.from_pretrained("me/dfg", trust_remote_code=True)


def test_diffusers_own_push_of_a_generator(hub):
    small_generator().push_to_hub("me/dfg", private=True)
    assert "model_index.json" in hub.files("me/dfg")
    assert DeFakePipeline.from_pretrained("me/dfg").identity_encoder is None
    with pytest.raises(ValueError, match=r"you/it of the hub holds no generator: it has no model_index\.json"):
        hub.make("you/it", {"README.md": b""}) and DeFakePipeline.from_pretrained("you/it")


def test_the_cards_headers_are_what_the_hub_takes():
    text = model_card(SavedModel(settings=SETTINGS, about=MEASURED, files={}))
    assert header_errors(text) == []
    head = text.split("---")[1]
    for words in ("pipeline_tag: image-classification", "license: apache-2.0", "- name: ours", "type: hter"):
        assert words in head
    for licence, words in {
        "MIT": "license: apache-2.0",
        "CreativeML OpenRAIL-M": "license: creativeml-openrail-m",
        "For research.": "license: other\nlicense_name: that-of-each-part",
    }.items():
        about = MEASURED.model_copy(update={"parts": [PROGRAM, Part(what="it", source="x", licence=licence)]})
        card = model_card(SavedModel(settings=SETTINGS, about=about, files={}))
        assert header_errors(card) == []
        assert words in card
        assert ("restrictions of use among them, go with every" in card) == licence.startswith("Creative")


def test_a_folder_makes_no_request(monkeypatch, saved, exported, tmp_path):
    def forbidden(*given: object, **more: object) -> None:
        raise AssertionError("a request")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, forbidden)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me").mkdir()
    (tmp_path / "me" / "pad").symlink_to(saved)
    for place in (saved, exported, "me/pad"):
        assert FaceAntiSpoofing.from_pretrained(place).settings
    pack(saved).check()
    with pytest.raises(AgfasError, match=r"No folder at me/other\. .* hf://USER/NAME"):
        FaceAntiSpoofing.from_pretrained("me/other")


def test_the_program_shows_asks_and_pushes(agfas, hub, saved, monkeypatch):
    code, out, last = agfas("push", saved, "me/pad", "--dry-run", "--revision", "try")
    assert (code, hub.asked) == (0, [])
    assert f"to me/pad@try of {hub.url}, a model: private if it is new, and it may not be public" in out
    assert "  anti_spoofing.json" in out
    assert "  face detector  yunet" in out
    assert "Nothing was pushed: this was a dry run." in out
    code, _, last = agfas("push", saved, "me/pad")
    assert (code, hub.asked) == (1, [])
    assert last == "agfas: Nothing was pushed: there is no terminal to ask at. Give --yes if this is what you want."
    code, out, _ = agfas("push", saved, "me/pad", "--yes", "--message", "new")
    assert code == 0
    assert f"pushed: {hub.url}/me/pad/commit/" in out
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda question: False)
    assert agfas("push", saved, "me/pad")[2] == "agfas: Nothing was pushed."


def test_a_process_finds_the_hub_by_its_variables(exported, tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "face.png")
    with StandInHub() as hub:
        hub.make("you/pad", content(exported))
        environment = {**os.environ, **hub.environment(tmp_path / "home", None), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "agfas", "detect", "face.png", "--model", "you/pad@main", "--aligned"]
        first = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert "face.png" in first.stdout


def test_size_and_withheld_of_a_shipment():
    shipment = Shipment("it", "model", {"a": b"123", "b": b"4"}, [PROGRAM, FACES])
    assert shipment.size == 4
    assert shipment.withheld() == [FACES]


def test_a_configuration_s_autoencoder_comes_from_the_hub(hub, tmp_path):
    kl = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    kl.save_pretrained(tmp_path / "sd" / "vae")
    hub.make("you/sd", content(tmp_path / "sd"))
    settings = PretrainedAutoencoder(name="pretrained", path="you/sd")
    weights, others = kl.state_dict(), load_autoencoder(settings).state_dict()
    assert all((weights[name] == others[name]).all() for name in weights)

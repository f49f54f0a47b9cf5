"""One folder that needs nothing else: the same scores to the last bit, and a sentence for every broken one."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.configuration_utils import register_to_config
from torch import nn
from verdict_run import SIZE, LeftHalf, PaintedFaces, paint, shared_run

from dfg import baselines
from dfg.baselines.base import Baseline
from pipelines.cues import settings as cue_settings
from pipelines.data import detection, parsing
from pipelines.errors import AgfasError
from pipelines.experiment.file import build_experiment
from pipelines.files import read_json
from pipelines.fingerprint import file_sha256
from pipelines.seals import seal
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.card import _backbone as backbone_parts
from pipelines.verdict.card import model_card
from pipelines.verdict.folder import _load_maker, read_saved
from pipelines.verdict.scorer import Scorer


class StoredFaces(PaintedFaces):
    """`PaintedFaces` whose threshold is its weight file."""

    licence = "a test's"

    def __init__(self, weights: Path | None = None) -> None:
        if weights is None:
            raise AgfasError("painted needs weights")
        super().__init__(float(Path(weights).read_text()))


@pytest.fixture(autouse=True)
def painted(monkeypatch):
    """`painted` is a face detector like any other."""
    load = detection.load_detector

    def loading(name, weights=None, **options):
        return StoredFaces(weights) if name == "painted" else load(name, weights, **options)

    monkeypatch.setattr(detection, "load_detector", loading)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = shared_run(tmp_path_factory.getbasetemp())
    (root.parent / "painted.txt").write_text("0.25")
    return root


@pytest.fixture(scope="module")
def saved(root) -> Path:
    """A saved folder with everything in it."""
    folder = root.parent / "saved"
    weights = root.parent / "painted.txt"
    model = FaceAntiSpoofing.from_run(root, "dfg", "to_phone", face_detector=StoredFaces(weights))
    model.loaded = replace(model.loaded, detector_weights=weights)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    """A saved folder to break."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def photos() -> list[np.ndarray]:
    return [paint(120, 100, [(10 + place, 10, 60)], seed=place) for place in range(3)]


@pytest.mark.parametrize("label", ["dfg", "image_only", "zero", "autoencoder", "fast"])
def test_saved_folder_scores_as_the_run_to_the_last_bit(root, tmp_path, label):
    crops = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    model = FaceAntiSpoofing.from_run(root, label)
    model.save_pretrained(tmp_path / "saved")
    again = FaceAntiSpoofing.from_pretrained(tmp_path / "saved")
    assert [v.score for v in again(crops)] == [v.score for v in model(crops)]
    assert again.settings == model.settings
    assert (tmp_path / "saved" / "generator").is_dir() == (label in ("dfg", "autoencoder", "fast"))


def test_folder_alone_is_enough_and_saved_again_is_the_same(root, saved, tmp_path):
    expected = FaceAntiSpoofing.from_run(
        root, "dfg", "to_phone", face_detector="painted", weights=root.parent / "painted.txt"
    )(photos())
    moved = Path(shutil.copytree(saved, tmp_path / "moved"))
    model = FaceAntiSpoofing.from_pretrained(moved)
    found = model(photos())
    assert [v.score for v in found] == [v.score for v in expected]
    assert all(v.faces[0].box is not None for v in found)
    model.save_pretrained(tmp_path / "again")
    names = sorted(path.relative_to(saved) for path in saved.rglob("*") if path.is_file())
    assert names == sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file())
    assert [file_sha256(saved / name) for name in names] == [file_sha256(tmp_path / "again" / name) for name in names]


def test_folder_names_no_place_of_this_machine_and_nothing_to_unpickle(root, saved):
    for path in saved.rglob("*"):
        if path.is_file():
            assert path.suffix in (".json", ".safetensors", ".md", ".txt")
            assert str(root.parent).encode() not in path.read_bytes()


def test_card_tells_data_errors_limits_and_licences(root, saved):
    card = (saved / "README.md").read_text()
    settings = read_json(saved / "anti_spoofing.json")
    numbers = settings["about"]["measured"]
    assert card.startswith("---\n")
    assert "\nlicense: other\n" in card.split("---")[1]
    assert "domains kiosk and webcam" in card
    assert "Left out and kept for the test: phone" in card
    assert f"live faces called attacks (BPCER) | {100 * numbers['bpcer']:.1f} |" in card
    low, high = numbers["intervals"]["hter"]
    assert f"| {100 * numbers['hter']:.1f} | {100 * low:.1f} to {100 * high:.1f} |" in card
    assert settings["settings"]["threshold"]["origin"] in card
    assert "| webcam | print | training | 2 | 2 | 2 |" in card
    assert "trained on 21 live faces of corpus" in card
    assert "| face detector | painted | a test's |" in card
    assert "| this program | AG-FAS | Apache-2.0 |" in card
    assert "The error rates are optimistic" not in card


@pytest.mark.parametrize(
    ("detector", "expected"),
    [
        ({"preset": "dinov2"}, ["timm/vit_base_patch14_reg4_dinov2.lvd142m: Apache-2.0", "timm/resnet18.tv_in1k: BSD"]),
        ({"preset": "dinov3"}, ["timm/vit_base_patch16_dinov3.lvd1689m: DINOv3 License", "timm/resnet18.tv_in1k: BSD"]),
        (
            {"backbone": "local-dir:/home/me/my_vit", "cue_backbone": "hf-hub:me/net"},
            ["my_vit: its publisher", "me/net: "],
        ),
    ],
)
def test_card_names_the_backbones_of_a_detector(detector, expected):
    given = build_experiment({"name": "x", "detector": {"name": "oanet", "pretrained": True, **detector}}, "the test")
    found = [f"{part.source}: {part.licence}" for part in backbone_parts(given)]
    assert [line[: len(start)] for line, start in zip(found, expected, strict=True)] == expected


def test_card_warns_of_controls_and_of_rules_that_look_at_the_target(root, tmp_path):
    model = FaceAntiSpoofing.from_run(root, "zero")
    threshold = model.settings.threshold.model_copy(update={"rule": "target_eer"})
    model.settings = model.settings.model_copy(update={"threshold": threshold})
    model.save_pretrained(tmp_path / "saved")
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "The error rates are optimistic" in card
    assert "It is a control of an experiment" in card
    assert "the generator" not in card.lower()


def test_card_does_not_take_a_few_videos_for_certainty(saved):
    model = read_saved(saved)
    about, measured = model.about, model.about.measured
    assert measured.videos_per_type == {"mask": 4, "print": 4, "replay": 4}
    assert all(high - low > 0.2 for low, high in measured.intervals.values())
    assert "**Few test videos: 8 live, 12 attack. Below 30 of a class" in model_card(model)
    many = measured.model_copy(update={"live_videos": 30, "attack_videos": 90})
    card = model_card(model.model_copy(update={"about": about.model_copy(update={"measured": many})}))
    assert "Few test videos" not in card
    assert "exact (Clopper-Pearson" in card


def test_card_says_where_the_test_shares_cameras_with_the_training(saved):
    model = read_saved(saved)
    assert "Left out and kept for the test: phone." in model_card(model)
    measured = model.about.measured.model_copy(update={"domains": ["webcam"]})
    card = model_card(model.model_copy(update={"about": model.about.model_copy(update={"measured": measured})}))
    assert "Left out" not in card
    assert "Judged on the test split of webcam: other persons than in the training" in card
    assert "kinds of attack of webcam were in the training" in card


def test_changed_file_is_named(copy):
    weights = copy / "generator" / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(AgfasError, match=r"unet.diffusion_pytorch_model.safetensors is not the file that was saved"):
        FaceAntiSpoofing.from_pretrained(copy)


@pytest.mark.parametrize(
    "name", ["detector/model.safetensors", "generator/model_index.json", "face_detector/painted.txt"]
)
def test_missing_part_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(AgfasError, match=f"lacks {name}"):
        FaceAntiSpoofing.from_pretrained(copy)


def test_file_that_was_slipped_in_is_named_and_not_loaded(copy):
    (copy / "generator" / "unet" / "more.safetensors").write_bytes(b"")
    with pytest.raises(AgfasError, match=r"more.safetensors was not there"):
        FaceAntiSpoofing.from_pretrained(copy)


def test_class_of_a_foreign_library_is_not_imported(copy):
    index = copy / "generator" / "model_index.json"
    content = read_json(index)
    content["unet"] = ["antigravity", "UNet2DConditionModel"]
    index.write_text(json.dumps(content))
    rehash(copy, "generator/model_index.json")
    with pytest.raises(AgfasError, match=r'wants unet = \["antigravity", "UNet2DConditionModel"\]; allowed: '):
        FaceAntiSpoofing.from_pretrained(copy)


def test_class_is_not_imported_because_a_folder_names_it(copy):
    config = copy / "detector" / "config.json"
    config.write_text(json.dumps({**read_json(config), "name": "idlelib.idle:main"}))
    rehash(copy, "detector/config.json")
    with pytest.raises(AgfasError, match=r"Import idlelib\.idle before the model is opened"):
        FaceAntiSpoofing.from_pretrained(copy)
    assert "idlelib.idle" not in sys.modules


@pytest.mark.parametrize("name", ["evil.py", "detector/evil.py", "generator/unet/evil.py", "detector/model.pt"])
def test_file_that_might_be_run_is_refused_though_it_is_listed(copy, name):
    (copy / name).write_text("raise SystemExit")
    rehash(copy, name)
    with pytest.raises(AgfasError, match="neither settings nor weights"):
        FaceAntiSpoofing.from_pretrained(copy)


def rehash(folder: Path, name: str) -> None:
    """What somebody does who changes a file on purpose."""
    seal(folder / "generator")
    hashes = {changed: file_sha256(folder / changed) for changed in (name, "generator/checksums.json")}
    change(folder, lambda content: content["files"].update(hashes))


def change(folder: Path, edit) -> None:
    content = read_json(folder / "anti_spoofing.json")
    edit(content)
    (folder / "anti_spoofing.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda content: content.update(version=4), "newer version"),
        (lambda content: content["settings"].pop("threshold"), r"'settings\.threshold' is missing"),
        (lambda content: content["settings"]["face"].update(colour=1), r"unknown key 'settings\.face\.colour'"),
        (lambda content: content.update(format="a poem"), "'format' = 'a poem'"),
        (lambda content: content["settings"].update(input={"mean": 0}), r"unknown key 'settings\.input'"),
        (lambda content: content["files"].update({"../painted.txt": "0"}), "is not a path inside the folder"),
        (lambda content: content["settings"]["face_detector"].update(weights="../../x"), "names the weights"),
        (lambda content: content.update(files={}), "lists no files of the detector"),
        (
            lambda content: content["settings"]["face_detector"]["fingerprint"].update(threshold=0.5),
            "another 'painted'",
        ),
    ],
)
def test_broken_settings_give_one_sentence(copy, edit, message):
    change(copy, edit)
    with pytest.raises(AgfasError, match=message) as caught:
        FaceAntiSpoofing.from_pretrained(copy)
    assert "\n" not in str(caught.value)


def test_settings_that_are_no_json(copy):
    (copy / "anti_spoofing.json").write_text("{")
    with pytest.raises(AgfasError, match="not valid JSON"):
        FaceAntiSpoofing.from_pretrained(copy)


def test_folder_of_another_kind_is_named(root, saved, tmp_path):
    kinds = {
        root: "an output folder of a run",
        saved / "generator": "a generator alone",
        saved / "detector": "a detector alone",
        tmp_path: "not a saved model",
        tmp_path / "absent": "No folder at",
    }
    for folder, words in kinds.items():
        with pytest.raises(AgfasError, match=words):
            FaceAntiSpoofing.from_pretrained(folder)
    with pytest.raises(AgfasError, match="not the output folder"):
        FaceAntiSpoofing.from_run(saved)


def test_folder_that_holds_something_else_is_not_replaced(root, saved, tmp_path):
    model = FaceAntiSpoofing.from_pretrained(saved)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "diary.txt").write_text("dear diary")
    with pytest.raises(AgfasError, match="is not replaced"):
        model.save_pretrained(mine)
    with pytest.raises(AgfasError, match="is not replaced"):
        model.save_pretrained(mine / "diary.txt")
    assert (mine / "diary.txt").read_text() == "dear diary"
    model.save_pretrained(tmp_path / "new")
    model.save_pretrained(tmp_path / "new")
    (tmp_path / "new" / "diary.txt").write_text("dear diary")
    with pytest.raises(AgfasError, match="is not replaced"):
        model.save_pretrained(tmp_path / "new")


def test_another_face_detector_can_be_chosen(saved):
    model = FaceAntiSpoofing.from_pretrained(saved, face_detector=PaintedFaces(0.75))
    assert model.settings.face_detector.fingerprint["threshold"] == 0.75
    assert model(photos())[0].faces[0].box is not None


def test_face_parser_is_remembered_and_must_be_the_same(root, tmp_path):
    crop = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    model = FaceAntiSpoofing.from_run(root, "masked", face_parser=LeftHalf())
    model.save_pretrained(tmp_path / "saved")
    again = FaceAntiSpoofing.from_pretrained(tmp_path / "saved", face_parser=LeftHalf())
    assert again(crop)[0].score == model(crop)[0].score
    with pytest.raises(AgfasError, match="--parsing-weights"):
        FaceAntiSpoofing.from_pretrained(tmp_path / "saved")
    assert "| face parser | bisenet |" in (tmp_path / "saved" / "README.md").read_text()


def test_face_parser_s_weights_are_copied_in_and_checked(root, tmp_path, monkeypatch):
    monkeypatch.setattr(parsing, "FaceParser", lambda path: LeftHalf(Path(path).read_text()))
    weights = tmp_path / "parser.pth"
    weights.write_text("weights")
    model = FaceAntiSpoofing.from_run(root, "masked", face_parser=weights)
    model.save_pretrained(tmp_path / "saved")
    weights.unlink()
    again = FaceAntiSpoofing.from_pretrained(tmp_path / "saved")
    assert again.settings == model.settings
    change(tmp_path / "saved", lambda c: c["settings"]["face_parser"]["fingerprint"].update(weights="others"))
    with pytest.raises(AgfasError, match="another 'bisenet'"):
        FaceAntiSpoofing.from_pretrained(tmp_path / "saved")


def test_subclass_opens_as_itself(root, saved):
    class Door(FaceAntiSpoofing):
        pass

    assert type(Door.from_run(root, "image_only")) is Door
    assert type(Door.from_pretrained(saved)) is Door


class MeanFace(Baseline):
    """A cue source that CONTRIBUTING's steps would add: every face restored to its mean colour."""

    name = "mean_face"

    @register_to_config
    def __init__(self, image_size: int = SIZE) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))

    def reconstruct(self, image, keys):
        return image.mean(dim=(2, 3), keepdim=True).expand_as(image) + self.shift


def test_model_with_a_new_cue_source_can_be_saved(root, tmp_path, monkeypatch):
    monkeypatch.setitem(baselines.BASELINE_CLASSES, "mean_face", f"{__name__}:MeanFace")
    monkeypatch.setitem(baselines.BASELINE_PRESETS, "mean_face", {"tiny": {}})
    monkeypatch.setattr(baselines, "BASELINES", tuple(baselines.BASELINE_CLASSES))
    monkeypatch.setitem(cue_settings.MAKERS, "mean_face", "mean_face")
    monkeypatch.setattr(cue_settings, "BUILTIN_SOURCES", (*cue_settings.BUILTIN_SOURCES, "mean_face"))
    of_another = FaceAntiSpoofing.from_run(root, "autoencoder")
    cue = of_another.settings.cue.model_copy(update={"source": "mean_face"})
    settings = of_another.settings.model_copy(update={"cue": cue})
    scorer = Scorer(of_another.scorer.detector, cue, MeanFace(), "0")
    FaceAntiSpoofing(settings, scorer, of_another.about).save_pretrained(tmp_path / "saved")
    assert "its restoration by the cue source `mean_face`" in (tmp_path / "saved" / "README.md").read_text()
    assert isinstance(_load_maker(tmp_path / "saved" / "generator", settings), MeanFace)


def test_weights_without_a_name_are_asked_for_one(root):
    with pytest.raises(AgfasError, match="--face-detector"):
        FaceAntiSpoofing.from_run(root, weights="yunet.onnx")

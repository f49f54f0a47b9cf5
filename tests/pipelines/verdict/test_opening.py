"""Which experiment, fold, weights and settings are opened, and what is stated of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from verdict_facts import ABOUT, SETTINGS
from verdict_run import SIZE, shared_run

from oanet.published import Decision
from pipelines.artefacts.runs import detector_run
from pipelines.cues.settings import CueSettings
from pipelines.data.records import read_card
from pipelines.errors import AgfasError
from pipelines.evaluation.bootstrap import intervals
from pipelines.experiment.plan import read_plan
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json
from pipelines.verdict import FaceAntiSpoofing, from_run, published
from pipelines.verdict.crops import Loaded
from pipelines.verdict.folder import _check_listed, _copied, _load_maker, wrong_kind
from pipelines.verdict.from_run import choose_experiment, choose_fold, finished_experiments
from pipelines.verdict.published import (
    PACKAGES,
    _face_weights,
    published_facts,
    published_settings,
    published_threshold,
)
from pipelines.verdict.settings import LoadedPart, SavedModel


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return shared_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def plan(root) -> dict[str, Any]:
    return {item.label: item for item in read_plan(root)}


def test_the_facts_of_a_run_number_by_number(root, plan, monkeypatch):
    model = FaceAntiSpoofing.from_run(root, "dfg", "to_phone")
    item, about = plan["dfg"], model.about()
    judged = read_json(Workspace(item.experiment).detector() / "result.json")["folds"]["to_phone"]
    numbers = judged["rules"]["last/source_dev_eer"]
    assert (about.dataset, about.dataset_fingerprint, about.drawn) == ("faces", "0123456789abcdef", False)
    assert about.train_domains == ["kiosk", "webcam"]
    assert about.simulated == []
    marked = {**read_card(Workspace(item.experiment).faces), "simulated": ["kiosk", "phone"]}
    monkeypatch.setattr(from_run, "read_card", lambda folder: marked)
    assert model.about().simulated == ["kiosk"]
    # Of four subjects of a domain the first and last are trained on, the second is the threshold's; two live videos
    # and one of each attack a subject, of one frame.
    assert [tuple(count.model_dump().values()) for count in about.counts] == [
        (domain, kind, split, subjects * videos, subjects * videos, subjects)
        for split, subjects in (("train", 2), ("dev", 1))
        for domain in ("kiosk", "webcam")
        for kind, videos in (("live", 2), ("mask", 1), ("print", 1), ("replay", 1))
    ]
    assert (about.objective, about.seed, about.steps, about.parameters) == (
        item.experiment.objective.title, 0, 100, 1234567,
    )  # fmt: skip
    generator = item.experiment.generator
    assert about.generator.model_dump() == {
        "domains": ["corpus"], "live_faces": 21, "steps": generator.loop.steps, "preset": "tiny",
    }  # fmt: skip
    measured = about.measured
    assert (measured.domains, measured.live_videos, measured.attack_videos, measured.replicates) == (
        ["phone"],
        8,
        12,
        100,
    )
    for name in ("hter", "far", "bpcer", "acer", "auc", "apcer_per_type"):
        assert getattr(measured, name) == numbers[name]
    table = detector_run(item.experiment, "to_phone").scores(100, "test").by_video()
    expected = intervals(table, numbers["threshold"], ("hter", "far", "bpcer", "acer", "auc"), 100)
    for kind in ("mask", "print", "replay"):
        part = table.where((table.attack_type == kind) | (table.label == 1))
        expected[f"apcer {kind}"] = intervals(part, numbers["threshold"], ("far",), 100)["far"]
    assert measured.intervals == expected
    assert {"python", "torch", "diffusers", "timm"} <= set(about.versions) <= {"python", *PACKAGES}
    assert about.published is None
    assert about.attack_types == ["mask", "print", "replay"]
    alone = FaceAntiSpoofing.from_run(root, "image_only", "to_phone").about()
    assert alone.generator is None
    assert alone.measured.live_videos == 8


def test_the_settings_of_a_run(root, plan):
    model = FaceAntiSpoofing.from_run(root, "dfg", "to_phone")
    numbers = choose_fold(plan["dfg"], "to_phone")[1]
    settings = model.settings
    assert (settings.label, settings.fold, settings.detector, settings.sees) == ("dfg", "to_phone", "oanet", "crop")
    assert settings.face.model_dump() == {
        "size": SIZE, "crop_size": SIZE, "template": "agfas", "template_known": False, "detector": None,
        "min_score": 0.0, "enhancement": None,
    }  # fmt: skip
    assert settings.cue == plan["dfg"].experiment.cue
    assert settings.threshold.model_dump() == {
        "value": numbers["threshold"], "rule": "source_dev_eer", "selection": "last", "step": 100,
        "origin": numbers["threshold_origin"], "by_class": False,
    }  # fmt: skip
    assert (settings.face_detector, settings.face_parser) == (None, None)
    assert FaceAntiSpoofing.from_run(root, "image_only", "to_phone").settings.cue is None


def test_the_experiment_that_is_taken_without_a_name(plan, monkeypatch):
    chosen = [plan[label] for label in ("zero", "image_only", "autoencoder", "dfg", "masked")]
    assert choose_experiment(chosen, None).label == "dfg"
    assert choose_experiment(chosen[:3], None).label == "image_only"
    assert choose_experiment(chosen[:1], None).label == "zero"
    assert choose_experiment(chosen, "masked").label == "masked"
    assert choose_fold(plan["dfg"], None)[0] == "to_kiosk"
    assert [item.label for item in finished_experiments([*chosen, plan["late"]], None)] == [
        item.label for item in chosen
    ]  # fmt: skip
    monkeypatch.setattr(from_run, "result_path", lambda _: Path("nowhere"))
    with pytest.raises(AgfasError, match=r"^No experiment in this folder is finished: there are no results yet"):
        finished_experiments(chosen, None)
    with pytest.raises(AgfasError, match=r"^'dfg' is not finished"):
        finished_experiments(chosen, "dfg")


def test_the_name_of_the_data(plan, monkeypatch):
    drawn = SimpleNamespace(experiment=SimpleNamespace(data=SimpleNamespace(name="synthetic")))
    assert from_run._dataset_name(drawn) == "the built-in synthetic benchmark"
    columns = {
        "domain": np.array(["a", "a", "b", "a"]), "split": np.array(["train", "dev", "train", "test"]),
        "attack_type": np.array(["none", "mask", "none", "none"]), "video": np.array(list("vwxy")),
        "subject": np.array(list("sstt")),
    }  # fmt: skip
    fold = SimpleNamespace(train_domains=("a",), train_splits=("train", "test"))
    counts = [tuple(count.model_dump().values()) for count in from_run._counts(columns, fold, trained=True)]
    assert counts == [("a", "live", "train", 2, 2, 2), ("a", "mask", "dev", 1, 1, 1)]
    untrained = from_run._counts(columns, fold, trained=False)
    assert [tuple(count.model_dump().values()) for count in untrained] == [("a", "mask", "dev", 1, 1, 1)]


def test_the_face_detector_s_file_beside_the_published_weights(tmp_path):
    assert _face_weights("yunet_of_mine", tmp_path) is None
    assert _face_weights("insightface", tmp_path) is None
    files = {
        "yunet": "face_detection_yunet_2023mar.onnx", "insightface": "det_10g.onnx",
        "retinaface": "detection_Resnet50.pth",
    }  # fmt: skip
    (tmp_path / "renamed.onnx").write_bytes(b"..kps_32..")
    assert _face_weights("yunet", tmp_path) == tmp_path / "renamed.onnx"
    for name, file in files.items():
        (tmp_path / file).write_bytes(b"x")
        assert _face_weights(name, tmp_path) == tmp_path / file
    assert _face_weights("yunet", tmp_path / "det_10g.onnx") == tmp_path / files["yunet"]
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "other.onnx").write_bytes(b"..kps_31..")
    with pytest.raises(
        AgfasError, match=r"empty holds no file of the face detector 'yunet'\. Put face_detection_yunet"
    ):
        _face_weights("yunet", empty)


def test_a_published_network_s_settings():
    detector: Any = SimpleNamespace(
        name="probe", sees="box", look_at_nobody=lambda: np.zeros((80, 80, 6), np.uint8),
        decision=Decision(0.8, "theirs", by_class=True),
    )  # fmt: skip
    settings = published_settings("probe as published", "not trained here", detector, Loaded())
    assert settings.model_dump(exclude={"threshold"}) == {
        "label": "probe as published", "fold": "not trained here", "detector": "probe", "sees": "box", "cue": None,
        "face": {"size": 80, "crop_size": 80, "template": "agfas", "template_known": True, "detector": None,
                 "min_score": 0.0, "enhancement": None},
        "face_detector": None, "face_parser": None,
    }  # fmt: skip
    assert published_threshold(detector).model_dump() == {
        "value": 0.8, "rule": "published", "selection": "last", "step": 0, "origin": "theirs", "by_class": True,
    }  # fmt: skip
    assert settings.threshold == published_threshold(detector)
    assert settings.threshold.words == "live where no kind of attack is more probable: theirs"
    assert settings.threshold.honest
    detector.decision = None
    with pytest.raises(AgfasError, match="'probe' as it is has no published decision"):
        published_threshold(detector)
    assert published_facts("probe").model_dump() == {
        "title": "probe", "trained_on": "pictures that its configuration does not name",
    }  # fmt: skip
    assert published_facts("liveness_vit").title == "face-liveness-vit (Affine Institute, 2026)"
    assert published_facts("liveness_vit").trained_on != published_facts("probe").trained_on


def saved(settings: Any = SETTINGS, *files: str) -> SavedModel:
    return SavedModel(settings=settings, about=ABOUT, files=dict.fromkeys(files, "0"))


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "detector/../../a", "detector\\a"])
def test_a_file_outside_the_folder_is_refused(name):
    with pytest.raises(ValueError, match="is not a path inside the folder"):
        saved(SETTINGS, name)


def test_every_part_that_the_settings_name_is_listed_with_a_hash():
    weights, place = LoadedPart(name="x", weights="x.pth", fingerprint={}, licence=""), Path("anti_spoofing.json")
    plain = SETTINGS.model_copy(update={"cue": None})
    _check_listed(place, saved(plain, "detector/a"))
    with pytest.raises(AgfasError, match="lists no files of the detector"):
        _check_listed(place, saved(plain, "detector_of_mine/a"))
    with pytest.raises(AgfasError, match="lists no files of the generator"):
        _check_listed(place, saved(SETTINGS, "detector/a"))
    for name in ("face_detector", "face_parser"):
        named = plain.model_copy(update={name: weights})
        _check_listed(place, saved(named, "detector/a", f"{name}/x.pth"))
        with pytest.raises(AgfasError, match=r"names the weights x\.pth, but does not list them"):
            _check_listed(place, saved(named, "detector/a", "x.pth"))


def test_weights_are_copied_if_they_are_a_file(tmp_path):
    part = LoadedPart(name="x", fingerprint={}, licence="")
    weights = tmp_path / "x.pth"
    weights.write_bytes(b"weights")
    assert _copied(tmp_path / "new", None, weights) is None
    assert _copied(tmp_path / "new", part, None) is part
    assert _copied(tmp_path / "new", part, tmp_path) is part
    assert not (tmp_path / "new").exists()
    assert _copied(tmp_path / "new", part, weights).weights == "x.pth"
    assert (tmp_path / "new" / "x.pth").read_bytes() == b"weights"


def test_a_folder_of_another_kind_in_words(tmp_path):
    assert wrong_kind(tmp_path) == (
        f"{tmp_path} has no anti_spoofing.json, so it is not a saved model. Write one with `agfas save-model`."
    )
    for name, words in (
        ("model.safetensors", "a detector alone, without its settings and threshold"),
        ("model_index.json", "a generator alone, without a detector"),
        ("plan.json", "an output folder of a run: use --run or FaceAntiSpoofing.from_run, or first use"),
    ):
        (tmp_path / name).touch()
        assert f"{tmp_path} is {words}" in wrong_kind(tmp_path)


def test_a_generator_of_another_source_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.verdict.folder.load_baseline", lambda folder: SimpleNamespace(name="memae"))
    memory = SETTINGS.model_copy(update={"cue": CueSettings(source="memae")})
    assert _load_maker(tmp_path, memory).name == "memae"
    for settings, source in ((SETTINGS, "dfg"), (SETTINGS.model_copy(update={"cue": None}), "none")):
        with pytest.raises(AgfasError, match=f"holds a memae, but the cue's source is {source}"):
            _load_maker(tmp_path, settings)


def test_what_a_model_needs():
    for source, generator, control in (
        ("dfg", True, False), ("autoencoder", True, True), ("zero", False, True), ("json:JSONDecoder", False, False),
    ):  # fmt: skip
        settings = SETTINGS.model_copy(update={"cue": CueSettings(source=source)})
        assert (settings.needs_generator, settings.is_control, settings.needs_mask) == (generator, control, False)
    assert SETTINGS.model_copy(update={"cue": CueSettings(mask="face")}).needs_mask
    bare = SETTINGS.model_copy(update={"cue": None})
    assert (bare.needs_generator, bare.is_control, bare.needs_mask) == (False, False, False)
    assert (
        SETTINGS.threshold.words == "live where the score is at least 0.5000: EER of 9 held-out source videos (kiosk)"
    )


@pytest.mark.parametrize(
    ("given", "weights", "expected"),
    [("yunet", None, "found"), ("yunet", "y.onnx", "y.onnx"), (None, None, None), (None, "y.onnx", "y.onnx")],
)
def test_weights_of_a_face_detector_are_looked_for_where_none_are_given(
    tmp_path, monkeypatch, given, weights, expected
):
    taken = []
    monkeypatch.setattr(published, "_files", lambda name, place: "files")
    monkeypatch.setattr(published, "_build", lambda name, files: "detector")
    monkeypatch.setattr(published, "_face_weights", lambda name, place: "found")
    monkeypatch.setattr(published, "load_parts", lambda *given: taken.append(given) or "loaded")
    monkeypatch.setattr(published, "published_settings", lambda *given: given)
    monkeypatch.setattr(published, "Scorer", lambda *given: given)
    parts = published.open_published("minifasnet", tmp_path, given, weights)
    assert taken == [(given, expected, None)]
    assert parts.settings == ("minifasnet as published", published.FOLD, "detector", "loaded")
    assert (parts.scorer, parts.loaded) == (("detector", None), "loaded")

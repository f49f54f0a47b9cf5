"""One picture, every path: evaluate, detect, a run, a saved folder, Python and the demo give the publisher's answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from output_folder import write_faces
from PIL import Image
from prepare_stubs import SquareDetector, face_at, people, save, save_video, scene
from public_programs import TRANSFORM, Published, public_minifasnet
from published_parts import save_liveness, save_liveness_vit, save_minifasnet

from oanet.checkpoints import read_checkpoint
from oanet.detectors import build_detector
from pipelines.data import detection
from pipelines.data.faces import open_faces
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.demo.answer import Judge, limits
from pipelines.errors import AgfasError
from pipelines.evaluation.scores import ScoreTable
from pipelines.experiment.file import build_experiment
from pipelines.experiment.plan import expand
from pipelines.experiment.workspace import Workspace
from pipelines.stages import chain, prepare, sweep
from pipelines.verdict import FaceAntiSpoofing

NETWORKS = ("liveness_vit", "minifasnet", "insightface_liveness")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """photos/, weights/ with every published file, faces/ with the pictures around them, and the run out/."""
    root = tmp_path_factory.mktemp("paths")
    (root / "weights").mkdir()
    save_liveness_vit(root / "weights" / "model.pt")
    save_minifasnet(root / "weights")
    save_liveness(root / "weights" / "liveness.onnx")
    people(root / "photos", subjects=3, pictures=1)
    recipe = PrepareRecipe(size=32, workers=1, keep_picture=True)
    assert prepare.run(root / "photos", root / "faces", recipe, SquareDetector) == 0
    sweep.run_planned(expand(build_experiment(settings(root), "the test")))
    return root


def settings(root: Path) -> dict[str, Any]:
    weights = {
        "liveness_vit": str(root / "weights" / "model.pt"),
        "minifasnet": [str(root / "weights" / f"{kind}.pth") for kind in ("v2", "v1se")],
        "insightface_liveness": str(root / "weights" / "liveness.onnx"),
    }
    return {
        "output": str(root / "out"),
        "data": {"name": "dataset", "path": str(root / "faces"), "size": 32},
        "protocol": {"name": "within"},
        "train": {"steps": 0},
        "detector": {"name": "minifasnet", "weights": weights["minifasnet"]},
        "evaluate": {"replicates": 100, "threshold": "published"},
        "sweep": {
            "variants": [
                {"label": name, "set": {"detector": {"name": name, "weights": weights[name]}}} for name in weights
            ]
        },
    }


def as_published(place: Path, name: str, **options: Any) -> FaceAntiSpoofing:
    return FaceAntiSpoofing.from_published(name, place / "weights", face_detector=SquareDetector(), **options)


def public_answer(place: Path, name: str, path: Path) -> tuple[float, bool]:
    """The score and the decision of the public program."""
    photo = np.asarray(Image.open(path).convert("RGB"))
    face = SquareDetector()(photo)[0]
    if name == "liveness_vit":
        checkpoint = read_checkpoint(place / "weights" / "model.pt")
        network = Published().eval()
        network.load_state_dict(checkpoint["model"])
        with torch.no_grad():
            spoof = network(TRANSFORM(Image.open(path).convert("RGB"))[None]).softmax(dim=1)[0, 1].item()
        return 1 - spoof, spoof < checkpoint["threshold"]
    if name == "minifasnet":
        paths = [str(place / "weights" / f"{kind}.pth") for kind in ("v2", "v1se")]
        with torch.no_grad():
            classes = public_minifasnet(dict(build_detector(name, weights=paths).networks.items()), photo, face.box)
        return classes[1] / 2, int(np.argmax(classes)) == 1
    addon = pytest.importorskip("insightface.addons.liveness")
    answer = addon.Liveness(place / "weights" / "liveness.onnx").predict(photo[..., ::-1].copy(), face.landmarks)
    return answer["live_score"], answer["is_live"]


@pytest.fixture
def agfas(agfas, monkeypatch):
    """The command with the face detector `squares`."""
    load = detection.load_detector
    monkeypatch.setattr(
        detection, "load_detector", lambda name, *rest: SquareDetector() if name == "squares" else load(name, *rest)
    )
    return agfas


@pytest.mark.parametrize("name", NETWORKS)
def test_every_path_gives_the_publishers_answer(place, name, agfas, tmp_path):
    paths = sorted((place / "photos").rglob("*.png"))
    direct = as_published(place, name)
    direct.save_pretrained(tmp_path / "model")
    of_run = FaceAntiSpoofing.from_run(place / "out", name, face_detector=SquareDetector())
    of_run.save_pretrained(tmp_path / "of_run")
    saved = [
        FaceAntiSpoofing.from_pretrained(tmp_path / folder, face_detector=SquareDetector())
        for folder in ("model", "of_run")
    ]
    code, printed, _ = agfas(
        "detect", *paths, "--published", name, "--weights", place / "weights", "--face-detector", "squares", "--json"
    )
    assert code == 0
    evaluated = evaluated_scores(place, name)
    for path, shown in zip(paths, json.loads(printed)["results"], strict=True):
        score, live = public_answer(place, name, path)
        answers = [detector(path)[0] for detector in (direct, of_run, *saved)]
        answers.append(Judge(direct)(path).verdict)
        assert [answer.score for answer in answers] == pytest.approx([score] * 5, abs=2e-5)
        assert {answer.verdict for answer in answers} == {"live" if live else "attack"}
        assert (shown["score"], shown["verdict"]) == (pytest.approx(score, abs=2e-5), "live" if live else "attack")
        if path in evaluated:
            assert evaluated[path] == pytest.approx(answers[0].score, abs=1e-6)
    assert len(evaluated) >= 2


def evaluated_scores(place: Path, name: str) -> dict[Path, float]:
    """The test scores of a run by the files that the faces were cut from."""
    item = next(item for item in expand(build_experiment(settings(place), "the test")) if item.label == name)
    table = ScoreTable.load(next(Workspace(item.experiment).detector().glob("*/scores/*test.parquet")))
    files = {np.asarray(Image.open(path)).tobytes(): path for path in (place / "photos").rglob("*.png")}
    faces = open_faces(place / "faces", 32)
    rows = {str(key): row for row, key in enumerate(faces.keys)}
    return {files[faces.picture(rows[key]).tobytes()]: score for key, score in zip(table.key, table.score, strict=True)}


def test_the_decision_is_the_publishers_and_says_so(place, agfas, tmp_path):
    paths = sorted((place / "photos").rglob("*.png"))
    _, printed, _ = agfas(
        "detect", *paths, "--published", "minifasnet", "--weights", place / "weights", "--face-detector", "squares"
    )
    assert "live where no kind of attack is more probable: publisher's rule" in printed
    vit = as_published(place, "liveness_vit")
    assert "chosen on CelebA-Spoof's TEST list" in vit(paths[0])[0].threshold_origin
    vit.save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "This program did not train it: the weights are those of face-liveness-vit" in card
    assert "chosen on CelebA-Spoof's TEST list" in card
    assert "Nothing was measured here." in card
    words = " ".join(limits(vit.settings, vit.about()))
    assert "face-liveness-vit (Affine Institute, 2026), as published" in words
    of_run = FaceAntiSpoofing.from_run(place / "out", "minifasnet", face_detector=SquareDetector())
    of_run.save_pretrained(tmp_path / "of_run")
    card = (tmp_path / "of_run" / "README.md").read_text()
    assert "Measured on 1 live and 1 attack videos" in card
    assert "trained on the attack types" not in card


def test_three_classes_decide_by_the_largest(place, monkeypatch):
    """A score below 0.5 is live where it is the largest of three; for a video the classes' means decide."""
    from oanet.detectors.minifasnet import MiniFASNet, MiniFASNetwork

    def answer(self, pixels):
        # P = (0.35, 0.45, 0.2) for a bright picture, (0.6, 0.35, 0.05) for a dark one.
        bright = (pixels.mean(dim=(1, 2, 3)) > 128)[:, None]
        classes = torch.where(bright, torch.tensor([[0.35, 0.45, 0.2]]), torch.tensor([[0.6, 0.35, 0.05]]))
        return classes.log(), torch.zeros(len(pixels), 128)

    monkeypatch.setattr(MiniFASNetwork, "forward", answer)
    detector = as_published(place, "minifasnet")
    assert isinstance(detector.scorer.detector, MiniFASNet)
    photo = scene((40, 20, 70))
    bright, dark = np.maximum(photo, 150), np.minimum(photo, 90) // 2
    monkeypatch.setattr(SquareDetector, "__call__", lambda self, picture: [face_at(40, 20, 70, 70)])
    live, attack = detector([bright, dark])
    assert (live.verdict, attack.verdict) == ("live", "attack")
    assert (live.score, live.threshold) == (pytest.approx(0.45), pytest.approx(0.35))
    assert live.reason == "score 0.4500 >= 0.3500 of the likeliest attack"
    assert live.faces[0].to_dict()["attack_classes"] == pytest.approx([0.35, 0.2])
    assert sorted(detector(bright, panels=True)[0].panels) == ["face", "face, crop 2"]


@pytest.mark.parametrize("name", NETWORKS)
def test_videos_all_faces_and_no_face(place, name, tmp_path):
    detector = as_published(place, name)
    frames = [scene((40, 20, 70), seed=1), scene(seed=2), scene((30, 30, 60), seed=3)]
    verdict = detector.judge_video(save_video(tmp_path / "clip.mp4", frames), frames=3)
    assert verdict.verdict in ("live", "attack")
    assert [frame.score is None for frame in verdict.frames] == [False, True, False]
    assert detector(scene(seed=2))[0].verdict == "no face"
    two = detector(scene((20, 20, 60), (100, 40, 40)), all_faces=True)[0]
    assert len(two.faces) == (1 if name == "liveness_vit" else 2)
    assert any("whole picture" in note for note in two.notes) == (name == "liveness_vit")


def test_the_whole_picture_needs_no_face_detector(place, tmp_path):
    detector = FaceAntiSpoofing.from_published("liveness_vit", place / "weights" / "model.pt")
    path = save(tmp_path / "a.png", scene((40, 20, 70), size=(120, 200)))
    score, _ = public_answer(place, "liveness_vit", path)
    assert detector(path)[0].score == pytest.approx(score, abs=2e-5)
    assert detector(path, aligned=True)[0].score == pytest.approx(score, abs=2e-5)
    judge = Judge(detector)
    assert judge.finds_faces
    assert judge.warm_up() == ["face"]


def test_a_face_at_the_edge_is_rejected_as_by_insightface(place):
    detector = as_published(place, "insightface_liveness")
    verdict = detector(scene((0, 0, 70), seed=1))[0]
    assert verdict.verdict == "refused"
    assert "Take the picture with more space around the face." in verdict.reason


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--published", "minifas"],
            "did you mean 'minifasnet'? Allowed: insightface_liveness, liveness_vit, minifasnet",
        ),
        (["--published", "minifasnet"], "needs --weights, the folder that holds 2.7_80x80_MiniFASNetV2.pth and"),
        (["--published", "minifasnet", "--weights", "WEIGHTS"], "around the face that a face detector finds"),
        (
            ["--published", "minifasnet", "--weights", "WEIGHTS", "--face-detector", "squares", "--aligned"],
            "cannot judge aligned crops: name a face detector",
        ),
        (["--published", "minifasnet", "--weights", "nowhere"], "there is no such folder"),
        (
            ["--published", "minifasnet", "--weights", "WEIGHTS/model.pt", "--face-detector", "squares"],
            "It holds those of 'liveness_vit': --published liveness_vit.",
        ),
        (
            ["--published", "minifasnet", "--weights", "WEIGHTS", "--face-detector", "yunet"],
            "holds no file of the face detector 'yunet'. Put face_detection_yunet_2023mar.onnx",
        ),
        (["--published", "liveness_vit", "--weights", "WEIGHTS", "--fold", "x"], "--label and --fold choose among"),
        (["--model", "WEIGHTS", "--face-weights", "x"], "--face-weights goes with --published"),
    ],
)
def test_mistakes_are_answered_with_the_fix(place, agfas, arguments, message):
    given = [word.replace("WEIGHTS", str(place / "weights")) for word in arguments]
    code, _, error = agfas("detect", place / "photos", *given)
    assert code == 1
    assert message in error


def test_a_published_network_is_saved_by_its_name(place, agfas, tmp_path):
    code, printed, _ = agfas(
        "save-model", "--published", "minifasnet", "--weights", place / "weights", "--out", tmp_path / "model"
    )
    assert code == 0
    assert printed.startswith("minifasnet as published, not trained here: ")
    detector = FaceAntiSpoofing.from_pretrained(tmp_path / "model", face_detector=SquareDetector())
    photo = scene((40, 20, 70), seed=5)
    assert detector(photo)[0].score == as_published(place, "minifasnet")(photo)[0].score


def test_faces_without_their_pictures_are_refused_with_the_fix(place, tmp_path):
    write_faces(tmp_path / "bare", domains=("photos",), size=32)
    given = {**settings(place), "output": str(tmp_path / "out"), "sweep": None}
    given["data"] = {"name": "dataset", "path": str(tmp_path / "bare"), "size": 32}
    with pytest.raises(
        AgfasError, match=r"lacks for \d+ of \d+ faces: prepare it again .*--keep-picture --face-detector"
    ):
        chain.run(build_experiment(given, "the test"), "evaluate")
    assert not (tmp_path / "out" / "detectors").exists()

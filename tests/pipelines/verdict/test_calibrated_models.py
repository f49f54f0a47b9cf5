"""From pictures of persons to a calibrated model: saved, opened again, exported, and what it says of itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_models import ABOUT, SIZE, some_faces, untrained
from output_folder import write_faces
from PIL import Image
from video_files import noise, write_video

from oanet.batch import DetectorOutput
from oanet.detectors import Detector
from oanet.names import DETECTORS
from pipelines.cues.settings import CueSettings
from pipelines.data.detection import DetectedFace
from pipelines.errors import AgfasError
from pipelines.export.folder import export_folder
from pipelines.export.predict import Model
from pipelines.stages import calibrate as stage
from pipelines.stages.detect import Place
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.calibration.captures import list_captures
from pipelines.verdict.calibration.choice import Choice
from pipelines.verdict.calibration.collect import Collected, collect
from pipelines.verdict.calibration.head import embed
from pipelines.verdict.calibration.model import calibrate_detector
from pipelines.verdict.crops import Loaded

ALIGNED = Choice(aligned=True)
"""What the tests share: no face detector."""


def write_people(folder: Path, persons: int = 5, each: int = 21) -> Path:
    """Folders of persons with smooth pictures, all different."""
    crops = some_faces(SIZE, persons * each).crops
    for number, crop in enumerate(crops):
        person = folder / f"p{number // each}"
        person.mkdir(parents=True, exist_ok=True)
        Image.fromarray(crop).save(person / f"{number}.png", compress_level=1)
    return folder


def see(detector: FaceAntiSpoofing, source: Path, choice: Choice = ALIGNED) -> Collected:
    """Every face of a source, however few."""
    return collect(detector, list_captures(source, choice), choice)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return write_people(tmp_path_factory.mktemp("live") / "people")


@pytest.fixture(scope="module")
def made(pictures) -> FaceAntiSpoofing:
    return calibrate_detector(untrained("resnet18"), pictures, ALIGNED).detector


@pytest.fixture(scope="module")
def saved(made, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated") / "model"
    made.save_pretrained(folder)
    return folder


def a_face(number: int = 0) -> np.ndarray:
    return some_faces(SIZE + 8, 3).crops[number]


def test_it_is_the_same_when_opened_again(made, saved):
    again = FaceAntiSpoofing.from_pretrained(saved)
    assert again.settings == made.settings
    (before,), (after,) = made(a_face(), aligned=True), again(a_face(), aligned=True)
    assert before.to_dict() == after.to_dict()
    (alone,) = untrained("resnet18")(a_face(), aligned=True)
    face = after.faces[0]
    assert face.raw_score == alone.score
    assert face.score != alone.score
    assert face.to_dict()["raw_score"] == alone.score
    assert "raw_score" not in alone.faces[0].to_dict()
    (drawn,) = made(a_face(), aligned=True, panels=True)
    assert (drawn.score, drawn.faces[0].raw_score) == (face.score, face.raw_score)


def test_it_says_where_its_threshold_came_from(made, saved):
    words = "chosen on 105 live faces of 5 persons, each person judged by a head fitted without it, BPCER 5 %"
    (verdict,) = made(a_face(), aligned=True)
    assert verdict.threshold_origin == words
    assert verdict.reason.endswith(", chosen on 105 live faces of 5 persons")
    card = (saved / "README.md").read_text()
    assert words in card
    assert "No attack was seen" in card
    settings = json.loads((saved / "anti_spoofing.json").read_text())
    assert settings["version"] == 3
    assert settings["about"]["measured"] is None
    assert "calibration/head.safetensors" in settings["files"]


def test_without_a_calibration_the_file_is_what_it_was(tmp_path):
    untrained("resnet18").save_pretrained(tmp_path / "model")
    settings = json.loads((tmp_path / "model" / "anti_spoofing.json").read_text())
    assert settings["version"] == 2
    assert "calibration" not in settings["settings"]


def test_a_changed_or_missing_head_is_refused(made, tmp_path):
    made.save_pretrained(tmp_path / "model")
    head = tmp_path / "model" / "calibration" / "head.safetensors"
    kept = head.read_bytes()
    head.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(AgfasError, match="its hash differs"):
        FaceAntiSpoofing.from_pretrained(tmp_path / "model")
    settings = json.loads((tmp_path / "model" / "anti_spoofing.json").read_text())
    del settings["files"]["calibration/head.safetensors"], settings["_sha256"]
    (tmp_path / "model" / "anti_spoofing.json").write_text(json.dumps(settings))
    with pytest.raises(AgfasError, match="lists no files of the calibration"):
        FaceAntiSpoofing.from_pretrained(tmp_path / "model")


def test_calibrated_again_it_forgets_the_first_time(made, pictures):
    again = calibrate_detector(made, pictures, ALIGNED).detector
    assert again.settings == made.settings
    assert again(a_face(), aligned=True)[0].to_dict() == made(a_face(), aligned=True)[0].to_dict()


def test_the_threshold_alone_leaves_the_scores(pictures):
    plain = untrained("resnet18")
    alone = calibrate_detector(plain, pictures, Choice(aligned=True, threshold_only=True)).detector
    (before,), (after,) = plain(a_face(), aligned=True), alone(a_face(), aligned=True)
    assert after.score == before.score
    assert after.faces[0].raw_score is None
    assert alone.settings.threshold.origin == "chosen on 105 live faces of 5 persons, BPCER 5 %"


def test_a_head_sees_the_face_the_cue_or_both(pictures):
    plain = untrained("dual_branch", CueSettings(source="noise"))
    network, face, cue = plain.scorer.detector, torch.rand(2, 3, SIZE, SIZE) * 2 - 1, torch.randn(2, 3, SIZE, SIZE)
    blank = torch.zeros_like(face)
    with torch.no_grad():
        for sees, seen in (("both", (face, cue)), ("face", (face, blank)), ("cue", (blank, cue))):
            found = embed(network, network(face, cue), face, cue, sees)
            torch.testing.assert_close(found, network.embedding(network(*seen)))
    made = calibrate_detector(plain, pictures, Choice(aligned=True, features="cue")).detector
    assert made.settings.calibration is not None
    assert made.settings.calibration.sees == made.scorer.head.sees == "cue"


def test_an_exported_model_gives_the_same_verdicts(made, saved, pictures, tmp_path):
    export_folder(FaceAntiSpoofing.from_pretrained(saved), tmp_path / "exported", some_faces, aligned_only=True)
    again, alone = FaceAntiSpoofing.from_pretrained(tmp_path / "exported"), Model(tmp_path / "exported")
    for number in range(3):
        (expected,), (found,) = made(a_face(number), aligned=True), again(a_face(number), aligned=True)
        assert (found.verdict, found.reason, found.threshold_origin) == (
            expected.verdict, expected.reason, expected.threshold_origin,
        )  # fmt: skip
        assert found.faces[0].raw_score == pytest.approx(expected.faces[0].raw_score, abs=1e-5)
        answer = alone(a_face(number), aligned=True)
        assert (answer.verdict, answer.reason) == (expected.verdict, expected.reason)
    with pytest.raises(AgfasError, match="gives no features"):
        see(again, pictures)


def test_pictures_that_cannot_be_used_are_counted(pictures, tmp_path):
    (tmp_path / "p0").mkdir()
    for name in ("0", "1", "2", "3"):
        (tmp_path / "p0" / f"{name}.png").write_text("no picture")
    (tmp_path / "p0" / "face.png").write_bytes(next((pictures / "p0").iterdir()).read_bytes())
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "0.png").write_text("no picture")
    found = see(untrained("resnet18"), tmp_path)
    assert found.faces.different == 1
    first, *reasons, rest, lost = found.left_out.lines()
    assert first == "left out: 5 of 6 live pictures and videos"
    assert len(reasons) == 3
    assert all(".png is not a picture" in reason for reason in reasons)
    assert (rest, lost) == ("  2: for other reasons", "  no usable picture of: ann")
    (tmp_path / "p0" / "face.png").unlink()
    with pytest.raises(AgfasError, match="None of the 5 live pictures shows a face"):
        see(untrained("resnet18"), tmp_path)


def test_too_few_that_can_be_used_are_said_with_the_reasons(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "live")
    for picture in (tmp_path / "live" / "p3").iterdir():
        picture.write_text(f"no picture {picture.name}")
    with pytest.raises(AgfasError, match=r"(?s)of 4 persons .*left out: 21 of 105 .* no usable picture of: p3"):
        calibrate_detector(untrained("resnet18"), tmp_path / "live", ALIGNED)
    assert see(untrained("resnet18"), pictures).left_out.lines() == []


def test_persons_come_from_folders_lists_and_datasets(pictures, tmp_path):
    detector = untrained("resnet18")
    rows = [f"{path},live,{path.parent.name}" for path in sorted(pictures.rglob("*.png"))[:30]]
    attack = pictures / "p4" / "104.png"
    (tmp_path / "list.csv").write_text("\n".join(["path,label,subject", *rows, f"{attack},print,p9"]))
    found = see(detector, tmp_path / "list.csv").faces
    assert (list(found.names), len(found.odds)) == (["p0", "p1"], 30)
    with pytest.raises(AgfasError, match=r"names 2 persons \(p0, p1\): leave --one-person out"):
        see(detector, tmp_path / "list.csv", Choice(aligned=True, one_person=True))
    write_faces(tmp_path / "faces", size=SIZE)
    with pytest.raises(AgfasError, match="untrained was trained on"):  # by the fingerprint that both have
        see(detector, tmp_path / "faces", Choice())
    other = ABOUT.model_copy(update={"dataset_fingerprint": "another"})
    strange = FaceAntiSpoofing(detector.settings, detector.scorer, lambda: other)
    for words, choice in (("--aligned is for pictures", ALIGNED), ("--frames is for", Choice(frames=10))):
        with pytest.raises(AgfasError, match=words):
            see(strange, tmp_path / "faces", choice)
    found = see(strange, tmp_path / "faces", Choice()).faces
    assert all("/" in name for name in found.names)
    assert len(found.group) == 24  # live videos, of 60 faces


def test_sessions_of_one_person_are_held_out_instead(pictures):
    made = calibrate_detector(untrained("resnet18"), pictures, Choice(aligned=True, one_person=True)).detector
    assert made.settings.threshold.origin == (
        "chosen on 105 live faces of one person in 5 sessions, each session judged by a head fitted without it,"
        " BPCER 5 %"
    )
    assert made.settings.basis == ", chosen on 105 live faces of one person"


def test_a_source_without_persons_is_refused(pictures, tmp_path):
    detector, picture = untrained("resnet18"), next((pictures / "p0").iterdir()).read_bytes()
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "a.png").write_bytes(picture)
    with pytest.raises(AgfasError, match="of no known person: put every person's"):
        see(detector, tmp_path / "loose")
    with pytest.raises(AgfasError, match="of no known session"):
        see(detector, tmp_path / "loose", Choice(aligned=True, one_person=True))
    with pytest.raises(AgfasError, match=r"is a file. Give a folder"):
        see(detector, tmp_path / "loose" / "a.png")
    for name in ("live", "print"):
        (tmp_path / "classes" / name / "ann").mkdir(parents=True)
        (tmp_path / "classes" / name / "ann" / "a.png").write_bytes(picture)
    with pytest.raises(AgfasError, match=r"folders of classes \(live, print\).*Give .*classes/live"):
        see(detector, tmp_path / "classes")


def test_one_picture_in_two_folders_is_refused(pictures, tmp_path):
    for name in ("ann", "bob"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes((pictures / "p0" / "0.png").read_bytes())
    with pytest.raises(AgfasError, match=r"\(ann\) and .* \(bob\) are nearly the same"):
        see(untrained("resnet18"), tmp_path)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice(features="eyes"), "--features eyes"),
        (Choice(features="cue"), "goes with a detector that has a cue"),
        (Choice(features="both"), "goes with a detector that has a cue"),
        (Choice(features="both", threshold_only=True), "--features both is of a head, and --threshold-only makes"),
        (Choice(frames=0), "--frames must be at least 1"),
        (Choice(bpcer=5), "--bpcer 5 must be above 0 and below 0.5"),
    ],
)
def test_senseless_choices_are_refused(choice, words, pictures):
    with pytest.raises(AgfasError, match=words):
        calibrate_detector(untrained("resnet18"), pictures, choice)


def test_the_command_saves_and_says_what_was_attained(pictures, tmp_path, monkeypatch):
    detector = untrained("resnet18")
    asked = []
    monkeypatch.setattr(stage, "open_detector", lambda *given: asked.append(given) or detector)
    opened = ([Path("model"), pictures], Place())
    said = stage.run(*opened, tmp_path / "out", ALIGNED)
    assert asked == [(Place(model=Path("model")), None, None, None, None)]
    assert said.startswith("Fewer than 500 different faces")
    assert "live where the score is at least" in said
    assert "of 105 live pictures and videos, each person at the threshold of the others" in said
    assert "exact, with as many trials as persons" in said
    assert FaceAntiSpoofing.from_pretrained(tmp_path / "out").settings.calibration is not None
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("")
    with pytest.raises(AgfasError, match="is not a saved model"):
        stage.run(*opened, tmp_path / "taken", ALIGNED)


@pytest.mark.parametrize(("places", "place"), [(["live"], Place()), (["m", "live"], Place(published="minifasnet"))])
def test_a_command_without_a_detector_or_with_two_is_refused(places, place):
    with pytest.raises(AgfasError, match="Give MODEL and LIVE_PICTURES"):
        stage.run([Path(name) for name in places], place, Path("out"), Choice())


def test_a_detector_without_features_has_its_threshold_chosen(pictures):
    class Narrow(Detector):
        name, feature_dim = "narrow", 1

        def __init__(self) -> None:
            super().__init__()

        def forward(self, image, cue=None, *, need_weights=False):
            live = image.mean(dim=(1, 2, 3))
            return DetectorOutput(torch.stack([-live, live], dim=1), live[:, None])

    found = calibrate_detector(untrained(Narrow().eval()), pictures, ALIGNED)
    assert found.note == "'narrow' gives no features but its score: no head, a threshold alone."
    assert found.detector.settings.calibration.method == "threshold"


class Middle:
    """A face detector that finds a face in the middle of every picture."""

    name, licence = "middle", "of a test"

    def fingerprint(self) -> dict[str, str]:
        return {"name": self.name}

    def __call__(self, picture: np.ndarray) -> list[DetectedFace]:
        shares = np.array([(0.35, 0.28), (0.66, 0.28), (0.5, 0.5), (0.38, 0.72), (0.62, 0.72)], dtype=np.float32)
        return [DetectedFace(np.array([8, 0, 48, 48], np.float32), shares * 48 + np.float32([8, 0]), 0.9)]


def test_a_video_is_one_capture_of_several_faces(tmp_path):
    for number, name in enumerate(("ann", "bob")):
        (tmp_path / name).mkdir()
        write_video(tmp_path / name / "clip.mp4", 6, picture=lambda frame, first=9 + 90 * number: noise(first + frame))
    detector = untrained("resnet18")
    detector.loaded = Loaded(Middle())
    found = see(detector, tmp_path, Choice(frames=3)).faces
    assert (len(found.odds), len(found.group), found.different) == (6, 2, 6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in DETECTORS.builtin if name not in ("minifasnet", "insightface_liveness")]
)
def test_every_detector_that_sees_crops_gets_a_head(name, pictures):
    cue = CueSettings(source="noise", form="residual") if DETECTORS.attribute(name, "needs_cue") else None
    made = calibrate_detector(untrained(name, cue), pictures, ALIGNED).detector
    assert made.settings.calibration is not None
    assert made.settings.calibration.method == "head"
    scores = made.scorer(some_faces(SIZE, 20).crops).scores
    assert len(np.unique(scores)) == 20

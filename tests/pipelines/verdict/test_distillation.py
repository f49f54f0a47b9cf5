"""A student learns a toy teacher from faces without labels, and is a model like every other."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from exported_models import SIZE, untrained
from PIL import Image

from oanet.batch import DetectorOutput
from oanet.detectors import Detector
from oanet.objectives.distillation import Distillation, soft_cross_entropy
from pipelines.data.faces import open_faces
from pipelines.data.records import CARD_NAME, face_features, face_key
from pipelines.errors import AgfasError
from pipelines.export import predict
from pipelines.export.folder import export_folder
from pipelines.export.parity import dataset_faces
from pipelines.files import write_json
from pipelines.stages import distill as stage
from pipelines.training import unlabelled
from pipelines.training.settings import DistillSettings
from pipelines.training.unlabelled import Judged, UnlabelledBatches
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.calibration.model import Choice, calibrate_detector
from pipelines.verdict.student import Lesson, check_lessons
from pipelines.verdict.teacher import MOST_ODDS, Teacher, log_odds

QUICK = DistillSettings(steps=24, batch_size=16, size=SIZE, per_face=0, warmup=2, learning_rate=3e-3, log_every=1)
SPLITS = ("train", "train", "dev", "test")


class Bright(Detector):
    """Calls bright faces live."""

    name = "bright"
    feature_dim = 3

    def __init__(self, slope: float = 6.0) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(slope))

    def forward(self, image, cue=None, *, need_weights=False):
        odds = self.slope * image.mean(dim=(1, 2, 3))
        return DetectorOutput(torch.stack([-odds / 2, odds / 2], dim=1), image.mean(dim=(2, 3)))


def picture(shade: float, seed: int) -> np.ndarray:
    """One shade and noise."""
    return np.clip(np.random.default_rng(seed).normal(shade, 20, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)


def write_faces(folder: Path, splits: tuple[str, ...] = SPLITS, each: int = 12, dark: int = 1) -> Path:
    """Persons with pictures from dark to bright; `dark` is what the darker half is said to be."""
    rows = []
    for number, split in enumerate(splits):
        for frame in range(each):
            shade = 20 + 215 * frame // max(1, each - 1)
            label = dark if shade < 128 else 1
            record = {"domain": "camera", "subject": f"p{number}", "video": f"v{number}", "frame": frame}
            kind = {"label": label, "attack_type": "none" if label else "print"}
            more = {"image": Image.fromarray(picture(shade, frame)), **kind, "split": split}
            rows.append({"key": face_key(*record.values()), **record, **more, "landmarks": [[4.0, 5.0]] * 5})
    Dataset.from_list(rows, features=face_features()).save_to_disk(str(folder))
    write_json(folder / CARD_NAME, {"fingerprint": "".join(splits), "faces": len(rows)})
    return folder


def a_teacher(slope: float = 6.0, threshold: float = 0.5) -> FaceAntiSpoofing:
    return untrained(Bright(slope), threshold=threshold)


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    return write_faces(tmp_path_factory.mktemp("unlabelled") / "faces")


@pytest.fixture(scope="module")
def seen() -> set[str]:
    """Keys of the faces that the student was trained on."""
    return set()


@pytest.fixture(scope="module")
def taught(faces, seen, tmp_path_factory) -> tuple[Path, str]:
    """The student's folder, and what was printed."""

    class Watched(UnlabelledBatches):
        def __call__(self, step, rows):
            batch = super().__call__(step, rows)
            seen.update(batch.key)
            return batch

    out = tmp_path_factory.mktemp("students") / "student"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unlabelled, "UnlabelledBatches", Watched)
        return out, stage.run(a_teacher(), [faces], out, QUICK)


def test_it_learns_what_its_teacher_says(taught, faces):
    out, printed = taught
    model, pictures = FaceAntiSpoofing.from_pretrained(out), open_faces(faces, SIZE)
    held = pictures.splits == "test"
    mine = model.scorer(pictures.images[held]).scores
    teachers = a_teacher().scorer(pictures.images[held]).scores
    assert np.corrcoef(mine, teachers)[0, 1] > 0.9
    assert "the same verdict on" in printed
    assert "no label was read" in printed
    assert f"{model.scorer.detector.num_parameters():,} parameters" in printed


def test_held_out_persons_are_never_trained_on(taught, seen):
    assert {key.split("/")[1] for key in seen} == {"p0", "p1"}
    assert len(seen) == 24


def test_it_says_where_its_threshold_came_from(taught):
    model = FaceAntiSpoofing.from_pretrained(taught[0])
    (verdict,) = model(np.full((SIZE, SIZE, 3), 230, np.uint8), aligned=True)
    words = "errs equally often either way from its teacher's verdicts on 12 faces of one held-out person"
    assert verdict.verdict == "live"
    assert verdict.threshold_origin == words
    assert model.settings.threshold.honest
    card = (taught[0] / "README.md").read_text()
    assert words in card
    assert "the scores of untrained at a temperature of 2; no labels" in card
    assert model.settings.cue is None
    assert json.loads((taught[0] / "anti_spoofing.json").read_text())["about"]["measured"] is None


def test_the_same_command_again_makes_nothing_anew(taught, faces, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    out, printed = taught
    before = (out / "detector" / "model.safetensors").read_bytes()
    monkeypatch.setattr("pipelines.training.loop.fit", never)
    monkeypatch.setattr("pipelines.blocks.SharedArray.write", never)
    assert stage.run(a_teacher(), [faces], out, QUICK) == printed
    assert (out / "detector" / "model.safetensors").read_bytes() == before


def test_another_teacher_or_setting_needs_another_folder(taught, faces):
    for teacher, settings in ((a_teacher(3.0), QUICK), (a_teacher(), QUICK.model_copy(update={"steps": 25}))):
        with pytest.raises(AgfasError, match="holds a run with another configuration"):
            stage.run(teacher, [faces], taught[0], settings)


def test_scores_are_of_the_teacher_and_checked(faces, tmp_path):
    teacher, other = Teacher.of(a_teacher()), Teacher.of(a_teacher(3.0))
    scores = teacher.scores(faces, tmp_path)
    expected = a_teacher().scorer(np.array(open_faces(faces, SIZE).images[:16])).scores
    np.testing.assert_array_equal(scores[:16], expected)
    assert teacher.identity == Teacher.of(a_teacher(threshold=0.9)).identity
    assert not np.array_equal(other.scores(faces, tmp_path), scores)
    path = sorted(tmp_path.glob("teacher-*.npy"))[0]
    content = bytearray(path.read_bytes())
    content[130] ^= 1
    path.write_bytes(content)
    with pytest.raises(AgfasError, match="is not what was written"):
        [one.scores(faces, tmp_path) for one in (teacher, other)]


def test_faces_that_teach_nothing_are_refused(faces, tmp_path):
    pictures, teacher = open_faces(faces, SIZE), Teacher.of(a_teacher())
    scores = teacher.scores(faces, tmp_path)
    check_lessons([Lesson(pictures, scores)], teacher)
    with pytest.raises(AgfasError, match="calls all 24 faces to learn from live"):
        check_lessons([Lesson(pictures, scores * 0 + 1)], teacher)
    with pytest.raises(AgfasError, match=r"who are held out attacks.*agfas calibrate"):
        check_lessons([Lesson(pictures, np.where(pictures.splits == "dev", 0, scores))], teacher)


@pytest.mark.parametrize(("splits", "missing"), [(("train",), "dev"), (("dev",), "train"), (("test",), "dev or train")])
def test_faces_without_a_split_are_refused_before_a_teacher_sees_them(tmp_path, splits, missing):
    alone = write_faces(tmp_path / "alone", splits, 2)
    with pytest.raises(AgfasError, match=f"No face is in the split {missing}\\. "):
        stage.check([alone], tmp_path / "student")
    other = write_faces(tmp_path / "other", ("train", "dev"), 3)
    stage.check([alone, other], tmp_path / "student")


def test_a_student_of_several_datasets(faces, tmp_path):
    more = write_faces(tmp_path / "door", ("train", "dev", "dev"), each=6)
    printed = stage.run(a_teacher(), [faces, more], tmp_path / "student", QUICK)
    about = FaceAntiSpoofing.from_pretrained(tmp_path / "student").about()
    assert about.dataset == "faces, door"
    assert [part.source for part in about.parts if part.what == "training faces"] == ["faces", "door"]
    assert "on 24 faces of 2 held-out persons" in printed
    alone = [count for count in about.counts if count.split == "train"]
    assert sum(count.faces for count in alone) == 30


def test_attacks_are_simulated_from_every_dataset(tmp_path):
    folders = [write_faces(tmp_path / name, ("train", "dev"), each=2 + number) for number, name in enumerate("ab")]
    settings = QUICK.model_copy(update={"per_face": 1})
    made = stage._simulated(folders, tmp_path / "work", settings)
    assert [folder.name for folder in made] == ["simulated", "simulated-2"]
    assert stage._simulated(made, tmp_path / "again", settings) == []


def test_the_same_faces_twice_are_refused(faces, tmp_path):
    with pytest.raises(AgfasError, match="holds the same faces as"):
        stage.check([faces, faces], tmp_path / "student")


def test_who_is_no_teacher():
    model = a_teacher()
    model.settings = model.settings.model_copy(update={"sees": "box"})
    with pytest.raises(AgfasError, match="simulated attacks are crops alone"):
        Teacher.of(model)
    model.scorer = None
    with pytest.raises(AgfasError, match="is an exported model"):
        Teacher.of(model)


def test_crops_of_another_template_are_refused(faces, tmp_path):
    folder = write_faces(tmp_path / "faces", ("train",), 1)
    write_json(folder / CARD_NAME, {"fingerprint": "a", "faces": 1, "recipe": {"template": "arcface", "size": SIZE}})
    with pytest.raises(AgfasError, match="cut by the template 'arcface'"):
        Teacher.of(a_teacher()).scores(folder, tmp_path)


def test_one_process_trains_it(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "rank_and_world", lambda: (0, 2))
    with pytest.raises(AgfasError, match="without a launcher"):
        stage.run(a_teacher(), [faces], tmp_path / "student", QUICK)


def test_settings_are_checked():
    assert stage.read_settings({"steps": 7, "size": None}) == DistillSettings(steps=7)
    with pytest.raises(AgfasError, match="size"):
        stage.read_settings({"size": 8})
    with pytest.raises(AgfasError, match="ema_decay is for generators"):
        stage.read_settings({"ema_decay": 0.9})


def test_a_batch_is_a_function_of_its_step(faces):
    pictures = open_faces(faces, SIZE)
    halves = [np.arange(0, 20), np.arange(20, 24)]
    odds = np.linspace(-1, 1, 24)
    batches = UnlabelledBatches([Judged(pictures, rows, odds[rows]) for rows in halves], 8, seed=1, shift=2)
    whole, part = batches(3, slice(0, 8)), batches(3, slice(2, 5))
    torch.testing.assert_close(part.image, whole.image[2:5])
    rows = [list(pictures.keys).index(key) for key in whole.key]
    np.testing.assert_allclose(whole.teacher, odds[rows], rtol=1e-6)
    means = pictures.images[np.array(rows)].mean(axis=(1, 2, 3)) / 127.5 - 1
    np.testing.assert_allclose(whole.image.mean(dim=(1, 2, 3)), means, atol=0.05)
    assert set(whole.label.tolist()) == {0}
    assert {key for step in range(3) for key in batches(step, slice(0, 8)).key} == set(pictures.keys[:24])


def test_the_loss_is_least_at_the_teachers_odds():
    teacher = torch.tensor([-3.0, 0.2, 5.0])
    for temperature in (1.0, 4.0):
        student = teacher.clone().requires_grad_()
        soft_cross_entropy(student, teacher, temperature).backward()
        torch.testing.assert_close(student.grad, torch.zeros(3))
    near = [torch.tensor([0.01], requires_grad=True) for _ in range(2)]
    for student, temperature in zip(near, (1.0, 10.0), strict=True):
        soft_cross_entropy(student, torch.zeros(1), temperature).backward()
    torch.testing.assert_close(near[0].grad, near[1].grad, rtol=1e-3, atol=0)


def test_distillation_needs_a_teacher(faces):
    pictures = open_faces(faces, SIZE)
    batch = UnlabelledBatches([Judged(pictures, np.arange(4), np.zeros(4))], 4, seed=0, shift=0)(0, slice(0, 4))
    objective = Distillation(Bright(), temperature=1.0)
    assert set(objective(batch, 0.5)) == {"loss", "output", "distillation"}
    batch.teacher = None
    with pytest.raises(ValueError, match="no `teacher`"):
        objective(batch, 0.5)


def test_log_odds_are_bounded():
    odds = log_odds(np.array([0.0, 0.25, 1.0]))
    np.testing.assert_allclose(odds, [-MOST_ODDS, -np.log(3), MOST_ODDS])


def test_a_calibrated_teacher_a_student_in_int8_and_a_verdict(tmp_path):
    for person in range(6):
        (tmp_path / "staff" / f"p{person}").mkdir(parents=True)
        for number in range(20):
            shade = np.random.default_rng(20 * person + number).uniform(140, 230)
            Image.fromarray(picture(shade, 20 * person + number)).save(
                tmp_path / "staff" / f"p{person}" / f"{number}.png"
            )
    teacher = calibrate_detector(a_teacher(), tmp_path / "staff", Choice(aligned=True)).detector
    assert teacher.scorer.head is not None
    faces = write_faces(tmp_path / "faces", each=16, dark=0)
    stage.run(teacher, [faces], tmp_path / "student", QUICK)
    student = FaceAntiSpoofing.from_pretrained(tmp_path / "student")
    compared = partial(dataset_faces, faces)
    made = export_folder(student, tmp_path / "phone", compared, "int8", aligned_only=True)
    assert made.parity is not None
    assert made.parity.layers == 24
    judge = predict.Model(tmp_path / "phone")
    shades = (225, 200, 60, 25)
    answers = [judge(picture(shade, 99), aligned=True).verdict for shade in shades]
    assert answers == ["live", "live", "attack", "attack"]
    assert [teacher(picture(shade, 99), aligned=True)[0].verdict for shade in shades] == answers

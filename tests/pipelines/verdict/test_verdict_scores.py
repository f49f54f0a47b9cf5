"""A crop's score is the evaluation's, its restoration the cue store's, whatever its batch, its name, or who looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from output_folder import STEPS
from verdict_run import SIZE, LeftHalf, shared_run, write_face

from oanet.cue import form_cue
from oanet.detectors import load_detector
from pipelines.artefacts.cues import cue_reader, open_sweep
from pipelines.cues.faces import ArrayFaces
from pipelines.cues.job import CueJob
from pipelines.cues.store import CueStore
from pipelines.data.crop import resized_mask
from pipelines.data.faces import open_faces
from pipelines.data.records import load_faces
from pipelines.errors import AgfasError
from pipelines.evaluation.metrics import report
from pipelines.evaluation.scoring import score_faces
from pipelines.experiment.config import CueSettings
from pipelines.experiment.plan import read_plan
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json
from pipelines.pixels import to_unit_range
from pipelines.verdict import FaceAntiSpoofing, from_run, rates
from pipelines.verdict.scorer import pixel_key


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return shared_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def dfg(root) -> FaceAntiSpoofing:
    return FaceAntiSpoofing.from_run(root, "dfg", "to_phone")


def crops(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("label", ["image_only", "zero"])
def test_score_is_the_evaluation_s(root, label):
    item = next(item for item in read_plan(root) if item.label == label)
    verdict = FaceAntiSpoofing.from_run(root, label, "to_phone")(write_face(root))[0]
    folder = Workspace(item.experiment).detector()
    faces = open_faces(root.parent / "faces", SIZE)
    detector = load_detector(folder / "to_phone" / "snapshots" / f"step_{STEPS[-1]:06d}")
    expected = score_faces(detector, faces, cue_reader(item.experiment, faces), np.array([3]), 1)
    assert verdict.score == pytest.approx(float(expected[0]), abs=1e-6)
    numbers = read_json(folder / "result.json")["folds"]["to_phone"]["rules"]["last/source_dev_eer"]
    assert (verdict.threshold, verdict.threshold_origin) == (numbers["threshold"], numbers["threshold_origin"])
    assert verdict.verdict == ("live" if verdict.score >= numbers["threshold"] else "attack")


def test_error_rates_of_a_dataset_are_the_evaluation_s(root):
    item = next(item for item in read_plan(root) if item.label == "image_only")
    judge = FaceAntiSpoofing.from_run(root, "image_only", "to_phone")
    dataset = load_faces(root.parent / "faces")
    folder = Workspace(item.experiment).detector() / "to_phone" / "snapshots" / f"step_{STEPS[-1]:06d}"
    faces = open_faces(root.parent / "faces", SIZE)
    expected = score_faces(load_detector(folder), faces, None, np.arange(len(faces)), 16)
    table = rates.score(judge, dataset)
    np.testing.assert_allclose(table.score, expected, atol=1e-6)
    assert table.key.tolist() == faces.keys.tolist()
    tested = rates.score(judge, dataset.select(np.flatnonzero(faces.splits == "test")))  # in batches of its own
    np.testing.assert_allclose(tested.score, expected[faces.splits == "test"], atol=1e-6)
    assert rates.evaluate(judge, dataset) == report(tested.by_video(), judge.settings.threshold.value)
    found = rates.evaluate(judge, root.parent / "faces", split=None, threshold=0.5)
    assert found.bonafide + found.attacks == len(table.by_video())


@pytest.mark.parametrize(("split", "words"), [("tset", "did you mean 'test'"), ("dev", "no faces of the split")])
def test_a_split_without_faces_is_refused(root, split, words):
    dataset = load_faces(root.parent / "faces").select([0])
    with pytest.raises(AgfasError, match=words):
        rates.evaluate(FaceAntiSpoofing.from_run(root, "image_only", "to_phone"), dataset, split=split)


def test_restorations_and_score_are_those_of_a_cue_store(root, dfg, tmp_path):
    """The same crops through `agfas cues` and the evaluation, under the keys that a verdict gives them."""
    item = next(item for item in read_plan(root) if item.label == "dfg")
    images = np.stack(sorted(crops(3), key=pixel_key))
    keys = [pixel_key(image) for image in images]
    stores = CueJob.open(
        ArrayFaces(keys, images),
        open_sweep(item.experiment, (0, 161)),
        tmp_path,
        dataset_fingerprint="test",
        batch_size=3,
    ).run(show_progress=False)
    autoencoded, restored = (CueStore.open(stores[t]).reconstructions(np.arange(3)) for t in (0, 161))
    scored = dfg.scorer(images, panels=True)
    assert np.array_equal(np.stack([panels["restoration"] for panels in scored.panels]), restored)
    assert not np.array_equal(restored, autoencoded)
    cue = form_cue(*(to_unit_range(part) for part in (images, restored, autoencoded)), "two_part")
    with torch.no_grad():
        expected = dfg.scorer.detector(to_unit_range(images), cue).probability_bonafide
    assert scored.scores == pytest.approx(expected.numpy(), abs=1e-5)


def test_batch_equals_its_singles(dfg):
    images = crops(5)
    together = dfg(images)
    apart = [dfg(image)[0] for image in images]
    assert [v.score for v in together] == pytest.approx([v.score for v in apart], abs=1e-4)
    assert len({v.score for v in together}) == 5


def test_looking_changes_no_score_and_equal_pixels_get_equal_scores(root, dfg, tmp_path):
    face = write_face(root)
    copy = tmp_path / "another name.png"
    copy.write_bytes(face.read_bytes())
    plain, seen, copied = dfg(face)[0], dfg(face, panels=True)[0], dfg(copy)[0]
    assert plain.score == seen.score == copied.score
    assert plain.panels == {}
    assert plain.photo is None
    assert set(seen.panels) == {"face", "restoration", "cue, part 1", "cue, part 2", "attention"}
    assert all(panel.shape == (SIZE, SIZE, 3) for panel in seen.panels.values())


def test_mirrored_face_has_another_noise_and_another_score(dfg):
    image = crops(1)[0]
    assert dfg(image)[0].score != dfg(image[:, ::-1])[0].score


def test_every_kind_of_experiment_answers(root):
    image = crops(1)[0]
    scores = {label: FaceAntiSpoofing.from_run(root, label)(image)[0].score for label in ("image_only", "autoencoder")}
    assert all(0 <= score <= 1 for score in scores.values())
    assert "control" in FaceAntiSpoofing.from_run(root, "zero")(image)[0].notes[0]


def test_masked_cue_is_zero_beside_the_face(root):
    images = crops(2)
    whole = FaceAntiSpoofing.from_run(root, "masked", face_parser=WholeFace())
    half = FaceAntiSpoofing.from_run(root, "masked", face_parser=LeftHalf())
    seen = half(images, panels=True)[0].panels["cue, part 1"]
    assert np.ptp(seen[:, SIZE // 2 :]) == 0
    assert np.ptp(seen[:, : SIZE // 2]) > 50
    unmasked = FaceAntiSpoofing.from_run(root, "masked", face_parser=WholeFace()).scorer(images).scores
    assert [v.score for v in whole(images)] == pytest.approx(unmasked, abs=1e-6)
    assert [v.score for v in half(images)] != pytest.approx(unmasked, abs=1e-6)
    with pytest.raises(AgfasError, match="--parsing-weights"):
        FaceAntiSpoofing.from_run(root, "masked")


class WholeFace(LeftHalf):
    def __call__(self, pictures):
        return np.ones(pictures.shape[:3], np.uint8)


def test_mask_is_resized_by_the_rule_of_the_training_s():
    mask = (np.random.default_rng(0).random((48, 48)) < 0.5).astype(np.uint8)
    kept = resized_mask(mask, 16)
    shares = mask.reshape(16, 3, 16, 3).mean(axis=(1, 3))
    assert np.array_equal(kept, (shares > 0.5).astype(np.uint8))


def test_restoring_is_asked_as_the_cue_job_asks(root, dfg):
    """A setting that decides a cue and does not reach a verdict would show here, or in the list of settings."""
    item = next(item for item in read_plan(root) if item.label == "dfg")
    sweep = dfg.scorer.sweep
    assert sweep.timesteps == (0, 161)
    assert sweep.fingerprint(161) == open_sweep(item.experiment, (0, 161)).fingerprint(161)
    of_the_sweep = {
        "timestep",
        "num_inference_steps",
        "samples",
        "seed",
        "scheduler",
        "calls",
        "guidance_scale",
        "posterior",
    }
    of_the_generator = {"autoencoder"}  # `load_restorer` puts it there
    of_its_speed = {"dtype", "autoencoder_dtype", "channels_last", "compile", "attention", "tf32"}
    of_the_cue = {"source", "options", "form", "normalize", "mask"}
    of_the_job = {"batch_size", "shard_size"}
    assert set(CueSettings.model_fields) == of_the_sweep | of_the_generator | of_its_speed | of_the_cue | of_the_job


@pytest.mark.parametrize(
    ("label", "fold", "message"),
    [
        ("imageonly", None, "did you mean 'image_only'"),
        (None, "to_fone", "has no fold 'to_fone': did you mean 'to_phone'"),
        ("shuffled", None, "a control that gives every face the cue of another face"),
        ("late", None, "'late' is not finished"),
    ],
)
def test_wrong_name_is_answered_with_the_fix(root, label, fold, message):
    with pytest.raises(AgfasError, match=message):
        FaceAntiSpoofing.from_run(root, label, fold)


def test_a_fold_is_found_by_a_name_typed_on_another_system(root, monkeypatch):
    item = read_plan(root)[0]
    numbers = from_run.read_json(from_run.result_path(item.experiment))["folds"]["to_kiosk"]
    monkeypatch.setattr(from_run, "read_json", lambda _: {"folds": {"to_caf\u00e9": numbers}})
    assert from_run.choose_fold(item, "to_cafe\u0301")[0] == "to_caf\u00e9"


def test_first_experiment_with_a_generator_s_cue_is_taken(root):
    settings = FaceAntiSpoofing.from_run(root).settings
    assert (settings.label, settings.fold) == ("dfg", "to_kiosk")


def test_detector_that_is_gone_is_named(root, tmp_path):
    item = read_plan(root)[0]
    snapshots = Workspace(item.experiment).detector() / "to_webcam" / "snapshots"
    moved = snapshots.rename(tmp_path / "away")
    try:
        with pytest.raises(AgfasError, match="cannot be loaded"):
            FaceAntiSpoofing.from_run(root, "image_only", "to_webcam")
    finally:
        moved.rename(snapshots)


def test_broken_weights_give_a_sentence_and_no_number(root):
    detector = FaceAntiSpoofing.from_run(root, "image_only")
    for parameter in detector.scorer.detector.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(AgfasError, match="not finite"):
        detector(crops(1)[0])

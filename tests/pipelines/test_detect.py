"""`agfas detect`: one picture, one verdict, the same as the evaluation's, and a sentence for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from output_folder import STEPS, make_experiment, make_output, save_detector, write_faces
from PIL import Image

from dfg.autoencoder import PatchAutoencoder
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler
from dfg.unet import build_unet
from oanet.detectors import load_detector
from pipelines.data.faces import open_faces
from pipelines.errors import AgfasError
from pipelines.files import read_json, write_json
from pipelines.plan import Planned, read_plan
from pipelines.stages import detect
from pipelines.stages.detector_cues import cue_reader
from pipelines.stages.evaluate import score_faces
from pipelines.workspace import Workspace

SIZE = 32
SWEEP = {
    "variants": [
        {"label": "image_only", "set": {"detector": {"name": "image_only", "preset": "tiny"}}},
        {"label": "zero", "set": {"cue.source": "zero"}},
        {"label": "dfg", "set": {"cue.source": "dfg"}},
        {"label": "shuffled", "set": {"cue.source": "shuffled"}},
        {"label": "late", "set": {"seed": 5}},
    ]
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """An output folder with untrained detectors and an untrained generator, `late` being half done."""
    root = tmp_path_factory.mktemp("detect") / "out"
    write_faces(root.parent / "faces", size=SIZE)
    experiment = make_experiment(
        root,
        data={"name": "dataset", "path": str(root.parent / "faces"), "size": SIZE},
        detector={"name": "oanet", "preset": "tiny"},
        cue={"timestep": 161, "num_inference_steps": 25, "form": "two_part"},
        sweep=SWEEP,
    )
    planned = make_output(root, experiment, unfinished=("late",))
    for number, item in enumerate(planned[:-1]):
        save_detector(item, number)
    _save_generator(planned[2])
    return root


@pytest.fixture(scope="module")
def face(root) -> Path:
    """A picture file of a face of the dataset."""
    path = root.parent / "a face.png"
    Image.fromarray(np.asarray(open_faces(root.parent / "faces", SIZE).images[3])).save(path)
    return path


def _save_generator(item: Planned) -> None:
    folder = Workspace(item.experiment).generator()
    autoencoder = PatchAutoencoder(4, 8)
    autoencoder.fit(torch.rand(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    unet = build_unet("tiny", in_channels=8, sample_size=SIZE // 4, cross_attention_dim=32)
    pipeline = DeFakePipeline(autoencoder=autoencoder, unet=unet, scheduler=sd_scheduler(), identity_encoder=None)
    pipeline.save_pretrained(folder / "pipeline")
    write_json(folder / "done.json", {"weights_sha256": "0" * 64})


def ask(picture: Path, root: Path, **options) -> dict:
    return json.loads(detect.run(picture, root, as_json=True, **options))


@pytest.mark.parametrize("label", ["image_only", "zero"])
def test_score_is_the_evaluation_s(root, face, label):
    item = next(item for item in read_plan(root) if item.label == label)
    answer = ask(face, root, label=label, split="to_phone")
    folder = Workspace(item.experiment).detector()
    faces = open_faces(root.parent / "faces", SIZE)
    detector = load_detector(folder / "to_phone" / "snapshots" / f"step_{STEPS[-1]:06d}")
    expected = score_faces(detector, faces, cue_reader(item.experiment, faces), np.array([3]), 1)
    assert answer["score"] == pytest.approx(float(expected[0]), abs=1e-6)
    numbers = read_json(folder / "result.json")["splits"]["to_phone"]["rules"]["last/source_dev_eer"]
    assert answer["threshold"] == numbers["threshold"]
    assert answer["threshold_origin"] == numbers["threshold_origin"]
    assert answer["verdict"] == ("live" if answer["score"] >= numbers["threshold"] else "attack")


def test_first_experiment_with_a_generator_s_cue_is_asked_and_answers_alike(root, face):
    first, second = ask(face, root), ask(face, root)
    assert first == second
    assert (first["label"], first["split"]) == ("dfg", "to_kiosk")
    assert set(first) >= {"verdict", "score", "threshold", "threshold_origin", "picture", "overlay"}


def test_noise_of_the_restoration_follows_from_the_pixels_not_the_name(root, face, tmp_path):
    copy = tmp_path / "other name.png"
    copy.write_bytes(face.read_bytes())
    assert ask(copy, root)["score"] == ask(face, root)["score"]
    Image.open(face).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(copy)
    assert ask(copy, root)["score"] != ask(face, root)["score"]


def test_overlay_lies_in_the_output_folder_unless_asked_elsewhere(root, face, tmp_path):
    answer = ask(face, root)
    assert Path(answer["overlay"]) == root / "detections" / "a face.png"
    with Image.open(answer["overlay"]) as overlay:
        assert overlay.format == "PNG"
        five_panels = overlay.size
    asked = tmp_path / "new" / "seen.png"
    ask(face, root, label="image_only", overlay=asked)
    with Image.open(asked) as overlay:
        assert overlay.width < five_panels[0]
    assert sorted(path.name for path in face.parent.iterdir() if path.is_file()) == ["a face.png"]


def test_answer_in_words_says_where_the_threshold_is_from(root, face):
    text = detect.run(face, root, label="image_only")
    answer = ask(face, root, label="image_only")
    assert text.startswith(f"{answer['verdict']}: score {answer['score']:.4f}")
    assert "held-out source videos (phone, webcam)" in text
    assert f"overlay: {answer['overlay']}" in text


def test_picture_that_is_not_square_is_scored_with_a_note(root, tmp_path):
    path = tmp_path / "wide.png"
    Image.new("RGB", (90, 40), (120, 90, 80)).save(path)
    assert "90 x 40" in ask(path, root, label="image_only")["notes"][0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "imageonly"}, "did you mean 'image_only'"),
        ({"split": "to_fone"}, "has no split 'to_fone': did you mean 'to_phone'"),
        ({"label": "shuffled"}, "a control that gives every face another face's cue"),
        ({"label": "late"}, "'late' is not finished"),
    ],
)
def test_wrong_name_is_answered_with_the_fix(root, face, options, message):
    with pytest.raises(AgfasError, match=message):
        detect.run(face, root, **options)


def test_picture_that_cannot_be_read_and_folder_without_plan_are_refused(root, tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    with pytest.raises(AgfasError, match="not a picture"):
        detect.run(text, root)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(AgfasError, match="no output folder"):
        detect.run(tmp_path / "a.png", tmp_path)


def test_detector_that_is_gone_is_named(root, face, tmp_path):
    item = read_plan(root)[0]
    snapshot = Workspace(item.experiment).detector() / "to_webcam" / "snapshots"
    moved = snapshot.rename(tmp_path / "away")
    try:
        with pytest.raises(AgfasError, match="cannot be loaded"):
            detect.run(face, root, label="image_only", split="to_webcam")
    finally:
        moved.rename(snapshot)

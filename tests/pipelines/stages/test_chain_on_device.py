"""The whole chain, the verdict and the demo on a GPU, by its look-alike: nothing mixes devices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from lookalike import Record, installed
from PIL import Image
from small_experiments import chain_settings
from verdict_run import PaintedFaces, paint

from pipelines.artefacts.cues import cue_reader
from pipelines.artefacts.faces import make_faces
from pipelines.artefacts.runs import detector_run
from pipelines.demo.answer import Judge, answer_html
from pipelines.evaluation.scoring import score_faces
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment, with_overrides
from pipelines.experiment.workspace import Workspace
from pipelines.stages import chain, inspect_dfg, probe, report
from pipelines.verdict import FaceAntiSpoofing

# One fold, and one step of everything.
LEAST = {
    "protocol": {"name": "limited", "train": ["webcam"], "test": ["phone"]},
    "train": {"steps": 1, "per_cell": 2, "evaluations": 1, "log_every": 1},
}


class Made(NamedTuple):
    """An experiment whose chain ran on the look-alike, and what that copied and waited for."""

    experiment: Experiment
    copies: list[Record]
    synchronisations: list[Record]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    experiment = build_experiment({**chain_settings(tmp_path_factory.mktemp("chain")), **LEAST}, "the test")
    with installed() as seen:
        chain.run(experiment, "evaluate")
    return Made(experiment, seen.copies, seen.synchronisations)


def test_the_chain_ends_in_numbers(made):
    result = json.loads((Workspace(made.experiment).detector() / "result.json").read_text())
    (fold,) = result["folds"].values()
    assert 0 <= fold["rules"][result["honest"]]["hter"] <= 1


def test_scores_are_those_of_the_cpu_and_weights_move_once(made, lookalike):
    experiment = made.experiment
    faces = make_faces(experiment)
    reader = cue_reader(experiment, faces)
    rows = np.flatnonzero(faces.domains == "phone")
    (fold,) = json.loads((Workspace(experiment).detector() / "result.json").read_text())["folds"]
    run = detector_run(experiment, fold)
    table = run.scores(1, "test")
    detector = run.load(1)
    weights = len(detector.state_dict())
    found = score_faces(detector, faces, reader, rows, 4)
    stored = dict(zip(table.key, table.score, strict=True))
    np.testing.assert_allclose(found, [stored[str(key)] for key in faces.keys[rows]], atol=1e-5)
    batches = -(-len(rows) // 4)
    assert len(lookalike.copies) == weights + 2 * batches


@pytest.mark.slow
def test_pictures_are_judged_and_explained(made, lookalike, tmp_path):
    root = Path(made.experiment.root)
    faces = make_faces(made.experiment)
    detector = FaceAntiSpoofing.from_run(root, face_detector=PaintedFaces())
    aligned = detector([faces.images[0], faces.images[1]], aligned=True, panels=True)
    assert [verdict.faces[0].panels["restoration"].shape for verdict in aligned] == [(32, 32, 3)] * 2
    judge = Judge(detector)
    assert "attention" in judge.warm_up()
    photo = tmp_path / "photo.png"
    Image.fromarray(paint(320, 240, [(100, 60, 96)])).save(photo)
    assert "score" in answer_html(judge(photo))


VARIANTS: dict[str, dict[str, Any]] = {
    "bfloat16, deterministic, averaged": {
        "generator.precondition": True, "generator.loop.mixed_precision": "bf16", "train.mixed_precision": "bf16",
        "train.deterministic": True, "train.schedule": "plateau", "train.look_every": 1, "cue.samples": 2,
        "cue.scheduler": "unipc", "cue.calls": 2, "cue.dtype": "bfloat16",
    },
    "anoddpm": {
        "generator": {"name": "anoddpm", "loop": {"steps": 1, "batch_size": 4}},
        "cue": {"source": "anoddpm", "timestep": 4},
    },
    "deep_svdd": {
        "generator": {"name": "deep_svdd", "loop": {"steps": 2, "batch_size": 4}}, "cue": {"source": "deep_svdd"},
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_other_chains_end_too(made, lookalike, variant):
    experiment = with_overrides(made.experiment, VARIANTS[variant])
    chain.run(experiment, "evaluate")
    assert (Workspace(experiment).detector() / "result.json").is_file()


@pytest.mark.slow
def test_the_readers_of_an_output_folder(made, lookalike):
    assert inspect_dfg.run(made.experiment, [41, 201], 4)
    assert probe.run(made.experiment)
    report.run(made.experiment.root)

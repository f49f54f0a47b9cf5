"""Every file of configs/detectors: it is valid, and trains, is evaluated and reported on, at a smaller size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from published_parts import save_liveness, save_liveness_vit, save_minifasnet, write_pictured_faces

from oanet.names import DETECTORS, takes_cue
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import read_experiment, with_overrides
from pipelines.experiment.plan import expand
from pipelines.experiment.workspace import Workspace
from pipelines.stages import sweep, train_detector

FOLDER = Path(__file__).parents[3] / "configs" / "detectors"
FILES = sorted(FOLDER.glob("*.yaml"))
OF_ONE = [path for path in FILES if path.stem in DETECTORS]

SMALL = {
    "data": {
        "size": 32, "domains": ["webcam", "phone"], "subjects": 5, "live_videos": 1, "attack_videos": 1, "frames": 1,
        "corpus_subjects": 0,
    },
    "evaluate.replicates": 100,
}  # fmt: skip

# Those with a cue need live faces to restore like, and something that was shown them for two steps.
SMALL_CUE = {
    "data": {**SMALL["data"], "corpus_subjects": 4},
    "identity": {"name": "trained", "preset": "tiny", "loop": {"steps": 2, "batch_size": 4}},
    "generator.loop": {"steps": 2, "batch_size": 4},
    "cue.batch_size": 8,
}


def small(path: Path, root: Path) -> Experiment:
    """The file's experiment on a handful of faces for two steps, with weights that the test makes."""
    given = read_experiment(path, [])
    changes = {**SMALL, "output": str(root)}
    if takes_cue(given.detector.name, given.detector.options()):
        changes |= SMALL_CUE
    if given.train.steps == 0:
        made = {"minifasnet": save_minifasnet, "insightface_liveness": lambda folder: save_liveness(folder / "x.onnx")}
        changes["detector.weights"] = made[path.stem](root.parent)
        changes["data"] = {"name": "dataset", "path": str(write_pictured_faces(root.parent / "faces")), "size": 32}
    else:
        changes |= {"train.steps": 2, "train.warmup": 0, "train.per_cell": 2, "train.evaluations": 1}
    return with_overrides(given, changes)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_valid_and_named_after_its_file(path: Path) -> None:
    experiment = read_experiment(path, [])
    assert experiment.name == f"detector-{path.stem}"
    for item in expand(experiment):
        if item.experiment.train.steps:
            train_detector.check_options(item.experiment)
        if path in OF_ONE:
            assert item.experiment.detector.name == path.stem


@pytest.mark.slow
@pytest.mark.parametrize("path", OF_ONE, ids=lambda path: path.stem)
def test_it_trains_is_judged_and_reported(path: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    experiment = small(path, tmp_path / "out")
    sweep.run(experiment)
    folder = Workspace(experiment).detector()
    assert (folder / "result.json").is_file()
    assert path.stem in (tmp_path / "out" / "report" / "results.md").read_text()


@pytest.mark.slow
def test_every_transformer_with_the_cue_stands_in_one_table(tmp_path: Path) -> None:
    torch.manual_seed(0)
    experiment = small(FOLDER / "vit_cue.yaml", tmp_path / "out")
    sweep.run(experiment)
    results = (tmp_path / "out" / "report" / "results.md").read_text()
    rows = expand(experiment)
    assert [Workspace(item.experiment).needs_cue() for item in rows] == [False, True, True, True, True]
    assert all(item.label in results for item in rows)


@pytest.mark.slow
def test_the_published_rows_stand_beside_the_trained_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = read_experiment(FOLDER / "published.yaml", [])
    assert given.sweep is not None
    weights = {"liveness_vit": save_liveness_vit(tmp_path / "vit.pt"), "minifasnet": save_minifasnet(tmp_path)}
    variants = [item.model_dump() for item in given.sweep.variants]
    for variant in variants:
        detector = variant["set"].get("detector", {})
        if detector.get("name") in weights:
            detector["weights"] = weights[detector["name"]]
    faces = {"data": {"name": "dataset", "path": str(write_pictured_faces(tmp_path / "faces")), "size": 32}}
    changes = {**SMALL, **faces, "output": str(tmp_path / "out"), "sweep.variants": variants, "train.evaluations": 1}
    # Each published row sets its own steps to 0.
    sweep.run(with_overrides(given, {**changes, "train.steps": 2, "train.warmup": 0, "train.per_cell": 2}))
    results = (tmp_path / "out" / "report" / "results.md").read_text()
    assert all(variant["label"] in results for variant in variants)

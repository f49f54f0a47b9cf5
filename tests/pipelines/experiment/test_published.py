"""Published weights beside trained detectors: one sweep, one table; and what does not go together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from published_parts import save_liveness_vit, save_minifasnet, write_pictured_faces

from oanet.detectors import build_detector, load_detector
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment, with_overrides
from pipelines.experiment.workspace import Workspace
from pipelines.stages import chain, sweep, threshold, train_detector


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    root = tmp_path_factory.mktemp("published") / "out"
    content: dict[str, Any] = {
        "output": str(root),
        "data": {"name": "dataset", "path": str(write_pictured_faces(root.parent / "faces")), "size": 32},
        "detector": {"name": "livenessnet", "preset": "tiny", "image_size": 32},
        "objective": {"name": "erm"},
        "train": {"steps": 2, "warmup": 1, "per_cell": 2, "evaluations": 1, "log_every": 1},
        "evaluate": {"replicates": 100},
    }
    return build_experiment(content, "the test")


@pytest.fixture(scope="module")
def published(base: Experiment) -> Experiment:
    torch.manual_seed(0)
    folder = base.root.parent
    vit = {"name": "liveness_vit", "weights": save_liveness_vit(folder / "vit.pt")}
    fasnet = {"name": "minifasnet", "weights": save_minifasnet(folder)}
    variants = [
        {"label": "trained", "set": {}},
        {"label": "liveness_vit as published", "set": {"detector": vit, "train.steps": 0}},
        {"label": "minifasnet as published", "set": {"detector": fasnet, "train.steps": 0}},
    ]
    grid = with_overrides(base, {"sweep": {"variants": variants}})
    sweep.run(grid)
    return grid


def one(grid: Experiment, label: str) -> Experiment:
    assert grid.sweep is not None
    variant = next(item for item in grid.sweep.variants if item.label == label)
    return with_overrides(grid.model_copy(update={"sweep": None}), variant.set)


def test_a_sweep_judges_them_side_by_side(published: Experiment) -> None:
    results = (published.root / "report" / "results.csv").read_text()
    for label in ("trained", "liveness_vit as published", "minifasnet as published"):
        assert label in results
        folder = Workspace(one(published, label)).detector()
        done = json.loads((folder / "to_phone" / "done.json").read_text())
        assert done["snapshots"] == ([2] if label == "trained" else [0])
        assert bool(done["train_faces"]) == (label == "trained")


def test_the_kept_detector_needs_no_file(published: Experiment) -> None:
    folder = Workspace(one(published, "minifasnet as published")).detector() / "to_webcam"
    loaded = load_detector(folder / "snapshots" / "step_000000")
    assert loaded.config == {"weights": None, "networks": ["v2", "v1se"]}


@pytest.mark.slow
def test_what_decides_is_in_the_file_not_in_its_name(published: Experiment, tmp_path: Path) -> None:
    experiment = one(published, "liveness_vit as published")
    moved = tmp_path / "elsewhere.pt"
    moved.write_bytes(Path(experiment.detector.options()["weights"]).read_bytes())
    same = with_overrides(experiment, {"detector.weights": str(moved), "seed": 7, "train.learning_rate": 0.5})
    assert Workspace(same).detector() == Workspace(experiment).detector()
    save_liveness_vit(moved, seed=1)
    other = with_overrides(experiment, {"detector.weights": str(tmp_path / "elsewhere.pt")})
    assert Workspace(other).detector() != Workspace(experiment).detector()


def test_weights_can_be_trained_on(published: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    further = with_overrides(one(published, "liveness_vit as published"), {"train.steps": 1})
    chain.run(further, "train")
    folder = Workspace(further).detector()
    assert folder != Workspace(one(published, "liveness_vit as published")).detector()
    before = build_detector("liveness_vit", weights=further.detector.options()["weights"])
    after = load_detector(folder / "to_phone" / "snapshots" / "step_000001")
    difference = (after.class_token - before.class_token).abs().max().item()
    assert 0 < difference < 0.1
    assert after.sees == "crop"
    assert after.decision is None  # the publisher's is not of crops, nor of these weights


def test_thresholds_of_a_run(published: Experiment) -> None:
    text = threshold.run(published.root, label="minifasnet as published", fold="to_webcam")
    assert "minifasnet as published, to_webcam, checkpoint of step 0" in text
    assert "Every threshold is fixed before the target (webcam) is looked at." in text
    assert threshold.run(published.root).startswith("trained, to_phone, checkpoint of step 2 (chosen by 'last')")
    with pytest.raises(AgfasError, match="did you mean 'trained'"):
        threshold.run(published.root, label="train")
    with pytest.raises(AgfasError, match="did you mean 'to_phone'"):
        threshold.run(published.root, fold="phone")
    with pytest.raises(AgfasError, match="--target goes with a score table"):
        threshold.run(published.root, target=Path("x.parquet"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.steps": 0}, "detector.weights of 'livenessnet' is not given"),
        ({"detector": {"name": "minifasnet"}}, "'minifasnet' cannot be trained here: its training needs"),
        ({"detector": {"name": "minifasnet"}, "train.steps": 0}, "published weights: liveness_vit, minifasnet"),
        ({"train.steps": -1}, "greater than or equal to 0"),
        ({"detector": {"name": "liveness_vit", "weights": "x", "sees": "picture"}}, "training reads aligned crops"),
        ({"evaluate.threshold": "published"}, "published weights as they are: set train.steps: 0"),
        (
            {"detector": {"name": "livenessnet", "weights": "x"}},
            "Unknown option of the detector 'livenessnet': 'weights'",
        ),
    ],
)
def test_what_does_not_go_together(base: Experiment, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AgfasError, match=message):
        with_overrides(base, changes)


def test_wrong_files_are_named_before_anything_is_made(base: Experiment, tmp_path: Path) -> None:
    missing = {"name": "liveness_vit", "weights": str(tmp_path / "none.pt")}
    with pytest.raises(AgfasError, match=r"No weights at .*none\.pt"):
        train_detector.check_options(with_overrides(base, {"detector": missing, "train.steps": 0}))
    torch.save({"model": {"x": torch.zeros(1)}}, tmp_path / "other.pt")
    other = {"name": "liveness_vit", "weights": str(tmp_path / "other.pt")}
    with pytest.raises(AgfasError, match=r"other\.pt does not fit LivenessViT: it lacks"):
        train_detector.check_options(with_overrides(base, {"detector": other, "train.steps": 0}))

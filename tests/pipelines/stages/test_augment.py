"""`train.augment` in an experiment: what is refused at once, names of older runs, and a whole training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_detector_options import experiment

from oanet.batch import FaceBatch
from oanet.detectors import build_detector
from oanet.objectives import build_objective
from pipelines.data.faces import Faces
from pipelines.data.protocols import Fold
from pipelines.errors import AgfasError
from pipelines.experiment.workspace import Workspace
from pipelines.stages.detector_batches import make_batches
from pipelines.stages.train_detector import check_options
from pipelines.training import loop
from pipelines.training.run import Run
from pipelines.training.settings import LoopSettings

FAS_AUG = {"train": {"augment": {"fas_aug": {}}}}
TRACE = {"train": {"augment": {"fas_aug": {"cue": "trace"}}}}
VIT, OANET, CNN = ({"name": name, "preset": "tiny"} for name in ("image_only", "oanet", "resnet18"))


@pytest.fixture(autouse=True)
def _a_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.experiment.workspace.read_card", lambda folder: {"fingerprint": "0"})


@pytest.mark.parametrize(
    ("detector", "more", "words"),
    [
        (OANET, FAS_AUG, r"'oanet' takes a cue.*image_only, or set train.augment.fas_aug.cue = trace"),
        (OANET, {**TRACE, "cue": {"form": "two_part"}}, r"cue.form = residual \(not two_part\)"),
        (OANET, {**TRACE, "cue": {"source": "shuffled"}}, "another cue.source than shuffled"),
        (
            CNN,
            {"train": {"augment": {"pda": {}}}},
            "'resnet18' has no square grid of patches.*pda.grid, for example 14",
        ),
        (
            VIT,
            {"train": {"augment": {"pda": {"grid": 14}}}, "objective": {"name": "apl"}},
            "classifies the detector's 8 x 8 patches. Leave the grid out",
        ),
        (VIT, {"train": {"augment": {"fas_aug": {}}, "extra_live": {"domain": "none"}}}, "extra_live.domain = own"),
        (
            {"name": "auxiliary", "preset": "tiny", "maps": ["reflection"]},
            {**FAS_AUG, "objective": {"name": "auxiliary", "lambda_depth": 0, "lambda_reflection": 1}},
            "objective.reflection_target = ellipse",
        ),
        (CNN, {"objective": {"name": "apl"}}, "gives its patch tokens"),
    ],
)
def test_what_does_not_go_together_is_refused_at_once(detector: Any, more: dict[str, Any], words: str) -> None:
    with pytest.raises(AgfasError, match=words):
        check_options(experiment(detector, **more))


def test_what_does_go_together_is_accepted() -> None:
    for detector, more in (
        (OANET, {**TRACE, "objective": {"name": "apl", "base": {"name": "ssdg"}}}),
        (OANET, {**TRACE, "cue": {"source": "noise"}}),
        (CNN, {"train": {"augment": {"fas_aug": {}, "pda": {"grid": 7}}}}),
        (VIT, {"train": {"augment": {"fas_aug": {}, "pda": {}}}, "objective": {"name": "apl"}}),
    ):
        check_options(experiment(detector, **more))


def test_a_wrong_base_is_found_when_the_file_is_read() -> None:
    with pytest.raises(AgfasError, match="did you mean 'ssdg'"):
        experiment(VIT, objective={"name": "apl", "base": {"name": "sdg"}})


def test_pages_name_the_base() -> None:
    titles = [
        experiment(VIT, objective={"name": "apl", **base}).objective.title for base in ({}, {"base": {"name": "ssdg"}})
    ]
    assert titles == ["apl", "apl beside ssdg"]


def test_without_changes_a_run_keeps_its_name() -> None:
    plain = Workspace(experiment(VIT)).detector_key()
    assert "augment" not in plain["train"]
    assert Workspace(experiment(VIT, **FAS_AUG)).detector_key() != plain


def faces_of(side: int = 64) -> Faces:
    number, draw = np.arange(24), np.random.default_rng(0)
    domains = np.array([["a", "b"][i % 2] for i in number], dtype=object)
    names = np.array([f"v{i}" for i in number], dtype=object)
    return Faces(
        keys=domains + "/s/" + names + "/0", labels=number // 2 % 2, domains=domains, subjects=names, videos=names,
        attack_types=names, splits=names, images=draw.integers(0, 256, (24, side, side, 3), dtype=np.uint8),
        fingerprint="test", folder=Path("unused"),
    )  # fmt: skip


def trained(folder: Path, workers: int = 0) -> Path:
    """A small ViT under FAS-Aug, PDA and APL beside SSDG; ends with a checkpoint."""
    augment = {"fas_aug": {"probability": 0.5}, "pda": {"probability": 0.7}}
    settings = experiment(
        VIT, objective={"name": "apl", "base": {"name": "ssdg"}}, train={"augment": augment, "per_cell": 2}
    )
    shape = {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    detector = build_detector("image_only", preset="tiny", backbone_options=shape)
    objective = build_objective("apl", detector, 2, base={"name": "ssdg"})
    fold = Fold("to_c", ("a", "b"), ("a", "b"), ("c",))
    batches = make_batches(settings, faces_of(), None, fold, np.arange(24), objective)
    batch: FaceBatch = batches(0, slice(0, 8))
    assert batch.patches is not None
    assert batch.patches.shape == (8, 64)
    how = LoopSettings(steps=4, checkpoint_every=2, log_every=1, workers=workers)
    loop.fit(objective, batches, how, Run(folder, {}), title="augmented")
    return folder


def test_killed_and_resumed_is_uninterrupted_and_workers_change_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    step = loop._Training.step

    def killed_in_the_fourth(self: Any, number: int, batches: Any) -> None:
        if number == 3:
            raise KeyboardInterrupt
        step(self, number, batches)

    whole = trained(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(loop._Training, "step", killed_in_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "killed")
    resumed = trained(tmp_path / "killed", workers=2)
    one, other = (
        [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (whole, resumed)
    )
    assert one == other
    assert len(one) == 4

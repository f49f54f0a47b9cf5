"""Our values of a table's cells, from a made-up study: means, extremes, running bests and trainings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from output_folder import make_experiment, make_output, write_faces

from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json, write_json
from pipelines.report.contents import Study, Target, targets_of
from pipelines.report.gather import gather
from pipelines.reproduce.ground import short_name
from pipelines.reproduce.settings import RUNNING_BEST
from pipelines.reproduce.values import Ours, value

RULE = "last/source_dev_eer"
DOMAINS = {"K": "kiosk", "P": "phone", "W": "webcam"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("values") / "sweep"
    write_faces(root.parent / "faces")
    make_output(root, make_experiment(root, sweep={"axes": {"seed": [0, 1]}}))
    return root


@pytest.fixture(scope="module")
def study(root: Path) -> Study:
    return gather(root).studies[0]


@pytest.fixture(scope="module")
def judged(study: Study) -> list[dict]:
    return [
        read_json(Workspace(trial.planned.experiment).detector() / "result.json")["folds"] for trial in study.trials
    ]


def numbers(folds: dict, name: str, metric: str) -> float:
    return folds[name]["rules"][RULE][metric]


def test_a_cell_is_the_mean_over_its_targets_for_each_seed(study, judged):
    targets = targets_of(study)
    ours = value(study.groups, targets, RULE, "hter", DOMAINS)
    expected = [np.mean([numbers(folds, target.fold, "hter") for target in targets]) for folds in judged]
    assert ours.by_seed == pytest.approx(dict(enumerate(expected)))
    assert ours.mean == pytest.approx(np.mean(expected))
    assert ours.deviation == pytest.approx(abs(expected[0] - expected[1]) / np.sqrt(2))
    assert ours.text == ""
    assert value(study.groups, [], RULE, "hter", DOMAINS) == Ours({})
    assert Ours({3: 0.5}).deviation is None
    assert Ours({}).mean is None


@pytest.mark.parametrize(("kind", "choose"), [("best", max), ("worst", min)])
def test_an_extreme_is_the_highest_or_lowest_of_the_targets_with_its_name(study, judged, kind, choose):
    targets = targets_of(study)
    means = {target: np.mean([numbers(folds, target.fold, "auc") for folds in judged]) for target in targets}
    chosen = choose(targets, key=means.__getitem__)
    ours = value(study.groups, targets, RULE, f"{kind} auc", DOMAINS)
    assert ours.mean == pytest.approx(means[chosen])
    assert ours.text == chosen.name
    assert value(study.groups, targets, "last/nothing", f"{kind} auc", DOMAINS) == Ours({})


def test_a_targets_name_is_the_papers_for_its_domain():
    assert short_name(Target("from_kiosk", "phone"), DOMAINS) == "P"
    assert short_name(Target("from_kiosk", "other"), DOMAINS) == Target("from_kiosk", "other").name


def test_running_bests_are_read_by_themselves(study, judged):
    (target, *_) = targets_of(study)
    ours = value(study.groups, [target], RUNNING_BEST, "auc", DOMAINS)
    assert ours.by_seed == {seed: folds[target.fold]["papers_best"]["auc"] for seed, folds in enumerate(judged)}


def test_trainings_give_their_parameters_and_seconds_once_all_have_ended(root, study, tmp_path):
    targets = targets_of(study)
    assert value(study.groups, targets, RULE, "parameters", DOMAINS).by_seed == {0: 1234567.0, 1: 1234567.0}
    # Three folds of a hundred steps of half a second.
    assert value(study.groups, targets, RULE, "training seconds", DOMAINS).by_seed == {0: 150.0, 1: 150.0}
    done = Workspace(study.trials[1].planned.experiment).detector() / targets[0].fold / "done.json"
    content = read_json(done)
    done.unlink()
    try:
        found = value(gather(root).studies[0].groups, targets, RULE, "training seconds", DOMAINS).by_seed
    finally:
        write_json(done, content)
    assert found == {0: 150.0}

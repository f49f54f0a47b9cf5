"""Every configuration of configs/objectives: it reads, and at tiny size it trains, is judged and is reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_experiments import SMALL_LIMITED

from oanet.names import OBJECTIVES
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import read_experiment, with_overrides
from pipelines.experiment.plan import expand
from pipelines.experiment.workspace import Workspace
from pipelines.stages import chain, sweep
from pipelines.stages import report as report_stage
from pipelines.stages.train_detector import check_options
from pipelines.training.optimizer import learning_rate

CONFIGS = sorted((Path(__file__).parents[3] / "configs" / "objectives").glob("*.yaml"))
ON_OTHERS = ("fas_vit", "gd_fas", "ssdg_per_target")  # of datasets that are not here
ON_THE_BENCHMARK = [path for path in CONFIGS if path.stem not in ON_OTHERS]
QUICK = ("sa_fas", "label_smoothing")  # a hook after the step; a watched dev loss and an early end


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """One output folder, so that the faces are made once."""
    return tmp_path_factory.mktemp("objectives")


def small(path: Path, root: Path) -> Experiment:
    experiment = read_experiment(path)
    changes = {**SMALL_LIMITED, "output": str(root), "name": path.stem}
    if experiment.train.watches:
        changes |= {"train.look_every": 1, "train.early_stopping.patience": 1, "train.early_stopping.min_delta": 9.0}
    return with_overrides(experiment, changes)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_can_be_built(path):
    for planned in expand(read_experiment(path)):
        fetched = planned.experiment.detector.options().keys() & {"pretrained", "clip"}
        offline = {f"detector.{name}": False if name == "pretrained" else None for name in fetched}
        check_options(with_overrides(planned.experiment, offline))


def test_every_objective_has_a_configuration():
    # Some objectives are configured with their detector, the only one that they work with.
    of_one_detector = [CONFIGS[0].parents[1] / "detectors" / f"{name}.yaml" for name in ("flip_mcl", "dgua")]
    paths = [*CONFIGS, *of_one_detector]
    assert {read_experiment(path).objective.name for path in paths} == set(OBJECTIVES)


def of_targets(name):
    """The objective's options for each test domain."""
    path = next(path for path in CONFIGS if path.stem == name)
    planned = [planned.experiment for planned in expand(read_experiment(path))]
    for each in planned:
        assert {*each.protocol.train, *each.protocol.test} == {"msu", "casia", "replay", "oulu"}
    return {each.protocol.test[0]: each.objective.options() for each in planned}


def test_ssdg_has_the_papers_weights_for_each_target():
    weights = {
        target: (options.get("lambda_triplet", 1.0), options.get("lambda_adversarial", 0.5))
        for target, options in of_targets("ssdg_per_target").items()
    }
    assert weights == {"msu": (1.0, 0.5), "casia": (1.0, 0.5), "replay": (1.0, 0.5), "oulu": (2.0, 0.1)}


def test_gd_fas_has_the_papers_settings_for_each_target():
    temperatures = {target: options["temperature"] for target, options in of_targets("gd_fas").items()}
    assert temperatures == {"msu": 0.1, "casia": 0.1, "replay": 1.1, "oulu": 1.0}
    train = read_experiment(next(path for path in CONFIGS if path.stem == "gd_fas")).train
    rates = [learning_rate(train, step) for step in (0, 99, 100, 399)]
    assert rates == pytest.approx([3e-6, 3e-6, 3e-7, 3e-9])
    assert (train.optimizer, train.weight_decay, train.steps, train.per_cell) == ("adam", 1e-6, 400, 16)


def trained_judged_reported(path: Path, root: Path) -> None:
    experiment = small(path, root)
    if experiment.sweep is not None:
        sweep.run(experiment)
    else:
        chain.run(experiment, "evaluate")
    for planned in expand(experiment):
        folder = Workspace(planned.experiment).detector()
        done = json.loads((folder / "phone_webcam_to_tablet" / "done.json").read_text())
        # The first look sets the best, the second is no better by so much: the end.
        assert done["snapshots"][-1] == (2 if experiment.train.watches else 4)
        result = json.loads((folder / "result.json").read_text())
        assert set(result["folds"]) == {"phone_webcam_to_tablet"}
    page = report_stage.run(root).read_text()
    assert experiment.detector.name in page
    assert experiment.objective.name in page


@pytest.mark.parametrize("path", [p for p in ON_THE_BENCHMARK if p.stem in QUICK], ids=lambda path: path.stem)
def test_it_trains_is_judged_and_reported(path, root):
    trained_judged_reported(path, root)


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in ON_THE_BENCHMARK if p.stem not in QUICK], ids=lambda path: path.stem)
def test_the_others_too(path, root):
    trained_judged_reported(path, root)

"""The planned experiments, and what plan.json stores of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import AgfasError
from pipelines.experiment.file import build_experiment
from pipelines.experiment.plan import expand, read_plan, record

SWEEP = {
    "axes": {"seed": [0, 1], "cue.timestep": [201, 401]},
    "variants": [{"label": "a", "set": {}}, {"label": "b", "set": {"detector.name": "dual_branch"}}],
}


def experiment(root: Path, **content):
    return build_experiment({"output": str(root), **content}, "a test")


def test_sweep_is_every_variant_under_every_combination_of_axes(tmp_path):
    planned = expand(experiment(tmp_path, sweep=SWEEP))
    assert [item.title for item in planned[:3]] == [
        "a (seed=0, cue.timestep=201)",
        "a (seed=0, cue.timestep=401)",
        "a (seed=1, cue.timestep=201)",
    ]
    assert [item.label for item in planned] == ["a"] * 4 + ["b"] * 4
    assert planned[-1].experiment.seed == 1
    assert planned[-1].experiment.cue.timestep == 401
    assert planned[-1].experiment.detector.name == "dual_branch"
    assert all(item.experiment.sweep is None for item in planned)


@pytest.mark.parametrize(
    ("content", "label"),
    [
        ({}, "oanet dfg t=801 residual"),
        ({"detector": {"name": "image_only"}}, "image_only"),
        ({"cue": {"source": "zero", "form": "compensated"}}, "oanet zero compensated"),
    ],
)
def test_experiment_without_sweep_is_called_by_what_decides_it(tmp_path, content, label):
    (planned,) = expand(experiment(tmp_path, **content))
    assert planned.title == planned.label == label


def test_two_variants_of_one_label_are_refused(tmp_path):
    double = {"variants": [{"label": "a", "set": {}}, {"label": "a", "set": {"seed": 3}}]}
    with pytest.raises(AgfasError, match="label a; give each its own"):
        expand(experiment(tmp_path, sweep=double))


def test_plan_is_read_as_it_was_written_and_moves_with_its_folder(tmp_path):
    first = tmp_path / "first"
    planned = expand(experiment(first, sweep=SWEEP))
    record(first, planned)
    assert read_plan(first) == planned
    second = first.rename(tmp_path / "second")
    assert {item.experiment.root for item in read_plan(second)} == {second}


def test_record_keeps_what_another_command_asked_for(tmp_path):
    record(tmp_path, expand(experiment(tmp_path, sweep=SWEEP)))
    record(tmp_path, expand(experiment(tmp_path)))
    record(tmp_path, expand(experiment(tmp_path)))
    assert len(read_plan(tmp_path)) == 9
    assert read_plan(tmp_path)[-1].label == "oanet dfg t=801 residual"


def test_folder_without_plan_is_refused(tmp_path):
    with pytest.raises(AgfasError, match=r"holds no plan\.json"):
        read_plan(tmp_path)

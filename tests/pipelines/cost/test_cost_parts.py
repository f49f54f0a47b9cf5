"""What a plan runs, what is left of it, and rates that earlier runs have measured."""

from __future__ import annotations

import pytest
from small_experiments import chain_settings

from dfg.samplers import SAMPLERS, open_sampler
from dfg.schedule import sd_scheduler
from pipelines.cost.parts import (
    FACES,
    _parts,
    calls_of,
    left_of,
    measured_rates,
    parts_of_cues,
    parts_of_makers,
    parts_of_plan,
)
from pipelines.experiment.file import build_experiment
from pipelines.experiment.workspace import Workspace
from pipelines.files import write_json
from pipelines.synthetic.benchmark import build


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("timestep", "steps"),
    [(801, 50), (999, 50), (981, 50), (961, 50), (941, 50), (1, 50), (999, 10), (801, 10), (201, 25), (700, 1000),
     (999, 1000), (998, 1000), (997, 1000), (958, 30), (999, 30), (999, 1), (1, 1), (1, 2)],
)  # fmt: skip
def test_the_calls_of_a_restoration_are_those_of_the_sampler(timestep, steps, sampler):
    experiment = build_experiment({"cue": {"num_inference_steps": steps, "samples": 2, "scheduler": sampler}}, "a test")
    made = open_sampler(sampler, sd_scheduler(), timestep, steps).timesteps
    assert calls_of(experiment, timestep) == 2 * len(made)


def test_the_parts_of_commands(tmp_path):
    experiment = build_experiment(chain_settings(tmp_path), "a test")
    kinds = ["identity", "generator", "restoration", "detector"]
    assert [part.kind for part in parts_of_plan(experiment)] == kinds
    assert [part.kind for part in parts_of_makers(experiment)] == kinds[:2]
    *makers, restoration = parts_of_cues(experiment, [41, 61], all_faces=True)
    assert [part.kind for part in makers] == kinds[:2]
    assert restoration.timesteps == (41, 61)
    assert restoration.amount == restoration.faces * (calls_of(experiment, 41) + calls_of(experiment, 61))
    assert not restoration.assumed


def test_a_dataset_that_is_not_there_is_assumed():
    settings = {"data": {"name": "dataset", "path": "nowhere", "size": 64}, "generator": {"domains": ["live"]}}
    parts = {part.kind: part for part in parts_of_plan(build_experiment(settings, "a test"))}
    assert all(part.assumed for part in parts.values())
    assert (parts["restoration"].faces, parts["detector"].total, parts["detector"].domains) == (FACES, 4, 3)
    settings["protocol"] = {"name": "limited", "train": ["a", "b"], "test": ["c"]}
    parts = {part.kind: part for part in parts_of_plan(build_experiment(settings, "a test"))}
    assert (parts["detector"].total, parts["detector"].domains) == (1, 2)


def test_seeds_of_one_detector_are_one_line(tmp_path):
    sweep = {
        "axes": {"seed": [0, 1, 2]},
        "variants": [{"label": "a"}, {"label": "b", "set": {"objective.name": "erm"}}],
    }
    experiment = build_experiment({**chain_settings(tmp_path), "sweep": sweep}, "a test")
    parts = parts_of_plan(experiment)
    assert [part.kind for part in parts].count("detector") == 6
    detectors = [part for part in left_of(parts) if part.kind == "detector"]
    assert [part.total for part in detectors] == [6, 6]  # two folds by three seeds


def test_rates_are_measured_from_finished_runs(tmp_path):
    run = tmp_path / "detectors" / "x" / "to_m"
    config = {
        "detector": {"name": "a"}, "train": {"per_cell": 5},
        "protocol": {"name": "leave_one_out", "domains": ["m", "c", "i"]},
    }  # fmt: skip
    write_json(run / "config.json", config)
    (run / "metrics.jsonl").write_text('{"step": 4, "seconds_per_step": 2.0}\n')
    assert measured_rates(tmp_path) == {}
    write_json(run / "done.json", {})
    # Two sources, five faces of each and label: twenty faces a step of two seconds.
    assert measured_rates(tmp_path) == {("detector", "a"): 0.1}


def test_amounts_by_hand_before_and_after_the_faces_are_there(tmp_path):
    """Two domains of 5 persons with 2 videos, 15 live pictures beside them: 20 faces in a fold's domains, 35 in all."""
    experiment = build_experiment(chain_settings(tmp_path), "a test")
    before = {part.kind: part for part in parts_of_plan(experiment)}
    calls = calls_of(experiment, 41)
    # Two folds, each of one training domain: 2 steps of 2 live faces and 2 attacks.
    assert (before["detector"].amount, before["detector"].total, before["detector"].faces) == (16, 2, 20)
    assert (before["generator"].amount, before["identity"].amount) == (2, 2)
    assert (before["restoration"].amount, before["restoration"].faces) == (20 * calls, 20)
    # Without a fold, nothing but one domain is known of the detector.
    ((_, none),) = [item for item in _parts(experiment, ()) if item[1].kind == "detector"]
    assert (none.amount, none.total, none.domains, none.faces) == (0, 0, 1, 20)
    build(experiment.data, Workspace(experiment).faces)
    after = {part.kind: part for part in parts_of_plan(experiment)}
    assert [(part.amount, part.faces, part.assumed) for part in after.values()] == [
        (part.amount, after[kind].faces, False) for kind, part in before.items()
    ]
    assert after["restoration"].faces == 20
    assert parts_of_cues(experiment, [41], all_faces=True)[-1].faces == 35

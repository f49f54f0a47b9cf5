"""What a plan runs, what is left of it, and rates that earlier runs have measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_experiments import chain_settings

from dfg.samplers import SAMPLERS, open_sampler
from dfg.schedule import sd_scheduler
from pipelines.cost.parts import (
    FACES,
    _joined,
    _parts,
    calls_of,
    folds_of,
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
    assert FACES == 100_000
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
    workspace = Workspace(experiment)
    write_json(workspace.identity() / "done.json", {})
    write_json(workspace.generator() / "done.json", {"weights_sha256": "0a"})
    write_json(workspace.detector() / "to_phone" / "done.json", {})
    done = {part.kind: part for part in parts_of_plan(experiment)}
    assert {kind: (part.amount, part.done, part.total) for kind, part in done.items()} == {
        "identity": (0, 1, 1), "generator": (0, 1, 1), "restoration": (20 * calls, 0, 1), "detector": (8, 1, 2),
    }  # fmt: skip
    assert [part.kind for part in left_of(done.values())] == ["restoration", "detector"]


def write_run(folder: Path, config: dict[str, Any], lines: list[tuple[int, float]], finished: bool = True) -> None:
    write_json(folder / "config.json", config)
    text = "".join(f'{{"step": {step}, "seconds_per_step": {seconds}}}\n' for step, seconds in lines)
    (folder / "metrics.jsonl").write_text(text)
    if finished:
        write_json(folder / "done.json", {})


def test_measured_rates_are_medians_of_what_has_ended(tmp_path):
    generator = {"generator": {"name": "dfg"}}
    # 10 steps of 1 s and 30 of 3 s are 2.5 s a step.
    for name, lines in (("a", [(10, 1.0), (40, 3.0)]), ("b", [(10, 4.0)]), ("c", [(10, 7.0)]), ("d", [])):
        write_run(tmp_path / "generator" / name, generator, lines)
    write_run(tmp_path / "generator" / "e", generator, [(10, 100.0)], finished=False)
    write_json(tmp_path / "generator" / "f" / "done.json", {})
    write_run(tmp_path / "identity" / "a", {}, [(5, 2.0)])
    detector = {"detector": {"name": "x"}, "train": {"per_cell": 3}}
    limited = {"name": "limited", "train": ["m"], "test": ["c", "i"]}
    write_run(tmp_path / "detectors" / "a" / "m_to_i", {**detector, "protocol": limited}, [(5, 12.0)])
    unnamed = {**detector, "detector": {"name": "y"}, "protocol": {"name": "leave_one_out"}}
    write_run(tmp_path / "detectors" / "b" / "to_m", unnamed, [(5, 12.0)])
    write_run(tmp_path / "detectors" / "c" / "to_x", {**detector, "protocol": limited}, [(5, 12.0)])
    assert measured_rates(tmp_path) == {("detector", "x"): 2.0, ("generator", "dfg"): 4.0, ("identity", "trained"): 2.0}


@pytest.mark.parametrize(
    ("settings", "calls"),
    [
        ({"generator": {"name": "memae"}, "cue": {"source": "memae", "samples": 3}}, 1),
        ({"generator": {"name": "anoddpm"}, "cue": {"source": "anoddpm", "samples": 3}}, 201 * 3),
        ({"generator": {"name": "anoddpm"}, "cue": {"source": "anoddpm", "samples": 3, "calls": 10}}, 30),
        ({"cue": {"samples": 2, "calls": 5}}, 10),
        ({"cue": {"samples": 2, "num_inference_steps": 10}}, 2 * 3),
    ],
)
def test_calls_of_other_generators_and_given_calls(settings, calls):
    assert calls_of(build_experiment(settings, "a test"), 201) == calls


def test_a_passes_timesteps_are_joined_and_only_those_left_are_counted(tmp_path):
    sweep = {"variants": [{"label": f"t{t}", "set": {"cue.timestep": t}} for t in (61, 41, 61)][:2]}
    experiment = build_experiment({**chain_settings(tmp_path), "sweep": sweep}, "a test")
    (restoration,) = [part for part in parts_of_plan(experiment) if part.kind == "restoration"]
    first, second = (calls_of(experiment, t) for t in (41, 61))
    assert (restoration.timesteps, restoration.amount) == ((41, 61), 20 * (first + second))
    assert (restoration.done, restoration.total, restoration.unit) == (0, 1, "calls of the generator")
    one, other = replace(restoration, timesteps=(41,), done=1), replace(restoration, timesteps=(61,), done=0)
    assert _joined(one, other) == replace(restoration, timesteps=(41, 61), amount=20 * second, done=0)
    assert _joined(one, replace(other, timesteps=(41,))) is one
    detector = replace(one, kind="detector")
    assert _joined(detector, other) is detector


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        ({"cue.form": "residual"}, 1), ({"cue.normalize": "none"}, 1), ({"cue.source": "shuffled"}, 1),
        ({"cue.samples": 2}, 2), ({"cue.seed": 5}, 2), ({"generator.preset": "compact"}, 2),
    ],
)  # fmt: skip
def test_what_a_cue_makes_of_a_restoration_needs_no_other_pass(change, passes, tmp_path):
    sweep = {"variants": [{"label": "a"}, {"label": "b", "set": change}]}
    experiment = build_experiment({**chain_settings(tmp_path), "sweep": sweep}, "a test")
    assert [part.kind for part in parts_of_plan(experiment)].count("restoration") == passes


def test_what_is_left_of_one_model_is_added(tmp_path):
    experiment = build_experiment(chain_settings(tmp_path), "a test")
    *_, detector = parts_of_plan(experiment)
    some = replace(detector, amount=3.0, done=1, total=2, faces=10)
    other = replace(detector, amount=4.0, done=0, total=5, faces=20)
    assert left_of([some, other, replace(other, amount=0)]) == [
        replace(detector, amount=7.0, done=1, total=7, faces=30)
    ]
    for changed in (replace(some, domains=5), replace(some, timesteps=(1,)), replace(some, kind="identity")):
        assert left_of([some, changed]) == [some, changed]
    resized = build_experiment({**chain_settings(tmp_path), "cue": {"form": "residual", "timestep": 41}}, "a test")
    assert len(left_of([some, replace(other, experiment=resized)])) == 2


def test_faces_that_a_training_learns_from(tmp_path):
    """15 live pictures of the corpus, and 5 persons of each other domain with one live video of one frame."""
    for domains, faces in ((["corpus"], 15), (["webcam"], 5), (["corpus", "webcam", "phone"], 25), (["nobody"], 0)):
        settings = chain_settings(tmp_path)
        settings["generator"] = {**settings["generator"], "domains": domains}
        made = {part.kind: part for part in parts_of_makers(build_experiment(settings, "a test"))}
        assert (made["generator"].faces, made["generator"].assumed, made["identity"].faces) == (faces, False, 15)


def test_makers_that_are_not_trained_are_no_parts(tmp_path):
    settings = chain_settings(tmp_path)
    kinds = {
        "published": {**settings, "generator": {"train": False, "unet_weights": "somewhere"}},
        "without": {**settings, "identity": {"name": "none"}},
        "baseline": {**settings, "generator": {"name": "memae"}, "cue": {"source": "memae"}},
        "image": {**settings, "detector": {"name": "image_only"}},
    }
    found = {
        name: [part.kind for part in parts_of_plan(build_experiment(changed, "a test"))]
        for name, changed in kinds.items()
    }
    assert found == {
        "published": ["identity", "restoration", "detector"], "without": ["generator", "restoration", "detector"],
        "baseline": ["generator", "restoration", "detector"], "image": ["detector"],
    }  # fmt: skip


def test_assumed_domains_are_those_that_the_protocol_names():
    data = {"name": "dataset", "path": "nowhere", "size": 64}
    for protocol, folds in (
        ({"name": "leave_one_out"}, ["to_first", "to_fourth", "to_second", "to_third"]),
        ({"name": "leave_one_out", "domains": ["b", "a"]}, ["to_b", "to_a"]),
        ({"name": "all_to_unseen", "test": ["x"], "train": ["y"]}, ["all_to_unseen"]),
    ):
        experiment = build_experiment({"data": data, "protocol": protocol}, "a test")
        assert [fold.name for fold in folds_of(experiment)] == folds
    drawn = {"name": "synthetic", "domains": ["webcam", "phone"]}
    assert [fold.name for fold in folds_of(build_experiment({"data": drawn}, "a test"))] == ["to_phone", "to_webcam"]

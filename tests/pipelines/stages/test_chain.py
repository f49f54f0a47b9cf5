"""The whole chain, tiny: faces, identity, generator, cues, detectors, scores, numbers; and again from what is there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from small_experiments import chain_settings

from pipelines.artefacts.cues import cue_reader
from pipelines.artefacts.faces import make_faces
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment, with_overrides
from pipelines.experiment.plan import expand
from pipelines.experiment.workspace import Workspace
from pipelines.stages import chain, sweep
from pipelines.stages.sweep import scaled
from pipelines.stages.train_detector import snapshot_steps


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Experiment:
    return build_experiment(chain_settings(tmp_path_factory.mktemp("chain")), "the test")


@pytest.fixture(scope="module")
def judged(experiment) -> Path:
    chain.run(experiment, "evaluate")
    return Workspace(experiment).detector()


def test_every_number_names_its_rules(judged):
    result = json.loads((judged / "result.json").read_text())
    assert sorted(result["folds"]) == ["to_phone", "to_webcam"]
    for fold in result["folds"].values():
        assert set(fold["rules"]) == {
            f"{selection}/{threshold}"
            for selection in ("last", "source_dev", "oracle")
            for threshold in ("source_dev_eer", "source_dev_min_acer", "source_dev_min_hter", "target_eer")
        }
        honest = fold["rules"][result["honest"]]
        assert 0 <= honest["hter"] <= 1
        assert honest["threshold_origin"]
        low, high = honest["intervals"]["hter"]
        assert low <= honest["hter"] <= high
        assert fold["rules"]["oracle/target_eer"]["hter"] <= fold["rules"]["last/target_eer"]["hter"]


def test_the_same_command_again_makes_nothing(experiment, judged):
    files = {path: path.stat().st_mtime_ns for path in experiment.root.rglob("*") if path.is_file()}
    chain.run(experiment, "evaluate")
    changed = [path.name for path, when in files.items() if path.stat().st_mtime_ns != when]
    assert set(changed) <= {"plan.json"}


def test_another_t_is_another_detector_on_the_same_generator(experiment, judged):
    other = with_overrides(experiment, {"cue.timestep": 61})
    assert Workspace(other).detector() != judged
    assert Workspace(other).generator() == Workspace(experiment).generator()


def test_what_cannot_matter_does_not_enter_a_name(experiment, judged):
    image_only = {"detector": {"name": "image_only", "preset": "tiny"}}
    first = with_overrides(experiment, image_only)
    second = with_overrides(experiment, {**image_only, "cue.timestep": 61})
    assert Workspace(first).detector() == Workspace(second).detector()
    watched = with_overrides(experiment, {"train.log_every": 7, "generator.loop.checkpoint_every": 3})
    assert Workspace(watched).detector() == judged


@pytest.mark.parametrize("source", ["dfg", "autoencoder", "shuffled", "zero", "noise"])
@pytest.mark.parametrize("form", ["residual", "compensated", "two_part"])
def test_every_cue_can_be_read(experiment, judged, source, form):
    faces = make_faces(experiment)
    reader = cue_reader(with_overrides(experiment, {"cue.source": source, "cue.form": form}), faces)
    rows = np.flatnonzero(faces.domains == "phone")[:4]
    cue = reader.batch(rows)
    assert cue.shape == (4, 6 if form == "two_part" else 3, 32, 32)
    assert cue.isfinite().all()
    assert bool(cue.any()) == (source != "zero" and not (source == "autoencoder" and form == "compensated"))


def test_a_sweep_shares_what_its_experiments_share(experiment, judged, monkeypatch):
    monkeypatch.setattr("pipelines.stages.report.run", lambda root: root)
    grid = with_overrides(
        experiment,
        {
            "sweep": {
                "axes": {"seed": [0, 1]},
                "variants": [
                    {"label": "cue", "set": {}},
                    {"label": "noise (control)", "set": {"cue.source": "noise"}},
                ],
            }
        },
    )
    before = set((experiment.root / "generator").iterdir())
    sweep.run(grid)
    assert set((experiment.root / "generator").iterdir()) == before
    detectors = {Workspace(item.experiment).detector() for item in expand(grid)}
    assert len(detectors) == 4
    assert detectors <= set((experiment.root / "detectors").iterdir())
    plan = json.loads((experiment.root / "plan.json").read_text())
    assert {item["label"] for item in plan["experiments"]} >= {"cue", "noise (control)"}


@pytest.mark.slow
def test_what_the_generator_learned_is_measured_under_every_condition(experiment, judged, capsys):
    from pipelines.stages import inspect_dfg

    rows = inspect_dfg.run(experiment, [21, 41], count=3)
    groups = {"live, held out", "live, other domains", "print", "replay"}
    assert {(row["timestep"], row["condition"]) for row in rows} == {
        (t, condition) for t in (21, 41) for condition in ("identity", "wrong", "none")
    }
    assert {row["group"] for row in rows} <= groups
    of = {(row["group"], row["timestep"], row["condition"]): row["mean_abs_error"] for row in rows}
    assert of["live, other domains", 21, "identity"] < of["live, other domains", 41, "identity"]
    assert of["live, other domains", 41, "identity"] != of["live, other domains", 41, "wrong"]
    assert capsys.readouterr().out.startswith("group,timestep,condition")


def test_a_probe_tells_a_telling_cue_from_noise(experiment, judged, monkeypatch):
    from pipelines.stages import probe

    class Oracle:
        channels = 3

        def __init__(self, faces):
            self.faces = faces

        def batch(self, rows):
            strength = torch.from_numpy(np.where(self.faces.labels[rows] == 0, 1.0, 0.2))
            pattern = torch.randn(len(rows), 3, 32, 32, generator=torch.Generator().manual_seed(int(rows[0])))
            return (pattern * strength[:, None, None, None]).float()

    monkeypatch.setattr(probe, "cue_reader", lambda experiment, faces: Oracle(faces))
    (row,) = probe.run(experiment)
    assert row["auc_cue"] == 1.0
    assert row["size_auc_print"] == 1.0
    monkeypatch.undo()
    (row,) = probe.run(with_overrides(experiment, {"cue.source": "zero"}))
    assert row["auc_cue"] == 0.5
    assert row["auc_both"] == row["auc_picture"]
    assert (experiment.root / "probe.csv").read_text().startswith("label,auc_picture,auc_cue,auc_both")


@pytest.mark.slow
def test_a_probe_compares_every_cue_with_one_of_them(experiment, judged):
    from pipelines.stages import probe

    variants = [
        {"label": "one", "set": {}},
        {"label": "two", "set": {"cue.normalize": "none"}},
        {"label": "t = 0", "set": {"cue.source": "autoencoder"}},
        {"label": "zero", "set": {"cue.source": "zero"}},
    ]
    grid = with_overrides(experiment, {"sweep": {"axes": {"seed": [0]}, "variants": variants}})
    one, two, control, zero = probe.run(grid, against="one")
    assert (one["correlation"], one["psnr"]) == (1.0, np.inf)
    assert two["psnr"] == np.inf
    assert two["correlation"] > 0.9  # the same restorations, their residuals scaled otherwise
    assert control["correlation"] < 1
    assert 0 < control["psnr"] < 60
    assert (zero["correlation"], zero["psnr"]) == ("", "")
    with pytest.raises(AgfasError, match="did you mean 'one'"):
        probe.run(grid, against="ona")


def test_seeds_start_from_other_weights(experiment):
    from pipelines.experiment.untrained import build_training

    first, same, other = (
        build_training(with_overrides(experiment, {"seed": seed}), 1).detector.state_dict() for seed in (0, 0, 1)
    )
    assert all(bool((first[name] == same[name]).all()) for name in first)
    assert any(bool((first[name] != other[name]).any()) for name in first)


def test_snapshots_end_with_the_last_step(experiment):
    assert snapshot_steps(with_overrides(experiment, {"train.steps": 10, "train.evaluations": 4})) == [2, 5, 8, 10]


def test_minutes_scale_every_training(experiment):
    half = scaled(with_overrides(experiment, {"generator.loop.steps": 1000, "train.steps": 100}), 7.5)
    assert (half.generator.loop.steps, half.train.steps) == (500, 50)
    with pytest.raises(AgfasError, match="above 0"):
        scaled(experiment, 0)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("generator.domains=[corpsu]", "corpsu"),
        ("protocol.domains=[webcam,fone]", "phone"),
        ("cue.timestep=42", "41"),
    ],
)
def test_mistakes_that_only_the_data_shows_are_one_sentence(experiment, override, words):
    key, _, value = override.partition("=")
    with pytest.raises(AgfasError, match=words):
        chain.run(with_overrides(experiment, {key: yaml.safe_load(value)}), "train")

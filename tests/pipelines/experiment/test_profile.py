"""Which arithmetic a machine gets, and that names tell it."""

from __future__ import annotations

import pytest

from pipelines.artefacts.faces import make_faces
from pipelines.cues.identity import restoration_identity
from pipelines.experiment import profile
from pipelines.experiment.file import build_experiment, with_overrides
from pipelines.experiment.plan import expand, read_plan, record
from pipelines.experiment.profile import PROFILE_NAME, in_profile, remember_profile
from pipelines.settings import decisive


@pytest.fixture
def ampere(monkeypatch):
    monkeypatch.setattr(profile, "compute_capability", lambda: 8)
    monkeypatch.setattr(profile, "_has_compiler", lambda: True)


def experiment(root, **content):
    return build_experiment({"output": str(root), **content}, "the test")


def test_a_recent_gpu_gets_the_fast_arithmetic(tmp_path, ampere):
    fast = experiment(tmp_path)
    assert fast.profile == "gpu"
    assert (fast.cue.dtype, fast.cue.channels_last, fast.cue.compile, fast.cue.tf32) == ("bfloat16", True, True, True)
    assert fast.cue.autoencoder_dtype == "float32"
    for loop in (fast.identity.loop, fast.generator.loop):
        assert (loop.tf32, loop.optimizer, loop.mixed_precision) == (True, "adamw_fused", "no")
    assert (fast.train.tf32, fast.train.optimizer) == (True, "sgd")


@pytest.mark.parametrize("capability", [0, 7])
def test_other_machines_compute_exactly(tmp_path, monkeypatch, capability):
    monkeypatch.setattr(profile, "compute_capability", lambda: capability)
    exact = experiment(tmp_path)
    assert exact.profile == "exact"
    assert (exact.cue.dtype, exact.cue.compile, exact.cue.tf32, exact.train.tf32) == ("float32", False, False, False)


def test_what_the_configuration_says_stays(tmp_path, ampere):
    given = experiment(
        tmp_path, cue={"dtype": "float32", "compile": False}, generator={"loop": {"optimizer": "adamw", "tf32": False}}
    )
    assert (given.cue.dtype, given.cue.compile, given.cue.tf32) == ("float32", False, True)
    assert (given.generator.loop.optimizer, given.generator.loop.tf32) == ("adamw", False)
    assert experiment(tmp_path, profile="exact").cue.tf32 is False


def test_baselines_and_custom_sources_restore_as_they_do(tmp_path, ampere):
    baseline = experiment(tmp_path, generator={"name": "memae"}, cue={"source": "memae"})
    assert (baseline.cue.dtype, baseline.cue.tf32) == ("float32", False)
    assert baseline.generator.loop.tf32
    # What the profile fills in passes the validation of a sweep's experiments.
    assert with_overrides(baseline, {"seed": 1}).generator.loop.tf32


def test_the_output_folder_keeps_the_choice_for_other_machines(tmp_path, ampere, monkeypatch):
    here = experiment(tmp_path / "run")
    remember_profile(here)
    monkeypatch.setattr(profile, "compute_capability", lambda: 0)
    monkeypatch.setattr(profile, "_has_compiler", lambda: False)
    there = experiment(tmp_path / "run")
    assert there == here
    remember_profile(experiment(tmp_path / "run", profile="exact"))
    assert experiment(tmp_path / "run").profile == "gpu"


def test_a_folder_of_an_earlier_version_stays_exact(tmp_path, ampere):
    (tmp_path / "faces").mkdir()
    assert experiment(tmp_path).profile == "exact"


def test_a_plan_remembers_before_it_is_written(tmp_path, ampere):
    fast = experiment(tmp_path)
    record(tmp_path, expand(fast))
    assert experiment(tmp_path) == fast
    assert read_plan(tmp_path)[0].experiment.cue == fast.cue


def test_making_faces_remembers(tmp_path):
    drawn = {"subjects": 5, "live_videos": 1, "attack_videos": 1, "frames": 1, "corpus_subjects": 0, "size": 32}
    make_faces(experiment(tmp_path, data=drawn))
    assert (tmp_path / PROFILE_NAME).is_file()


def test_a_sweep_keeps_the_profile_where_a_variant_replaces_a_block(tmp_path, ampere):
    base = experiment(tmp_path)
    changed = with_overrides(base, {"generator": {"name": "dfg", "preset": "compact"}, "cue.timestep": 401})
    assert changed.generator.loop.tf32
    assert changed.cue.dtype == "bfloat16"
    exact = with_overrides(in_profile(experiment(tmp_path, profile="exact")), {"cue": {"timestep": 401}})
    assert exact.cue.dtype == "float32"


def test_names_tell_the_arithmetic_and_older_names_stay(tmp_path, ampere):
    fast, exact = experiment(tmp_path), experiment(tmp_path, profile="exact")
    for timestep in (0, 801):
        names = [restoration_identity(each.cue, "dfg", "weights", timestep) for each in (fast, exact)]
        assert names[0]["tf32"]
        assert "tf32" not in names[1]
    for name in ("identity", "generator", "train"):
        assert decisive(getattr(fast, name), name) != decisive(getattr(exact, name), name)
    loop = decisive(exact.generator.loop, "loop")
    assert not {"tf32", "deterministic", "workers"} & set(loop)
    assert decisive(fast.generator.loop, "loop")["tf32"] is True

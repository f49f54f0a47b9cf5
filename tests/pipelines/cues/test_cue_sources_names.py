"""Names that artefacts have already do not change when makers of cues are added; the configurations of Table IV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.experiment.file import build_experiment, read_experiment
from pipelines.experiment.plan import expand
from pipelines.experiment.workspace import Workspace
from pipelines.fingerprint import fingerprint

# The study of docs/results.md as it was run, before a generator had a name.
STUDY: dict[str, Any] = {
    "name": "study",
    "data": {"name": "synthetic", "subjects": 24},
    "identity": {
        "name": "trained",
        "preset": "tiny",
        "loop": {"steps": 300, "batch_size": 64, "learning_rate": 1e-3, "schedule": "cosine", "warmup": 20},
    },
    "generator": {
        "preset": "tiny",
        "precondition": True,
        "autoencoder": {"name": "patch", "patch_size": 4, "latent_channels": 24, "whitening": 0.3},
        "loop": {
            "steps": 3000, "batch_size": 16, "learning_rate": 1e-3, "schedule": "cosine", "warmup": 50,
            "ema_decay": 0.999, "max_grad_norm": 1.0,
        },
    },
    "cue": {
        "source": "dfg", "timestep": 401, "num_inference_steps": 5, "samples": 4, "form": "residual",
        "normalize": "none", "batch_size": 64,
    },
    "detector": {"name": "oanet", "preset": "tiny"},
    "objective": {"name": "ssdg"},
    "train": {
        "optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05, "steps": 200, "warmup": 20, "per_cell": 6,
        "shift": 2, "evaluations": 2,
    },
}  # fmt: skip


def workspace_of(**cue: Any) -> Workspace:
    workspace = Workspace(build_experiment({**STUDY, "cue": {**STUDY["cue"], **cue}}, "the test"))
    workspace.faces_id = lambda: "0123456789abcdef-64"  # type: ignore[method-assign]
    return workspace


@pytest.mark.parametrize(
    ("cue", "detector"), [({}, "e26d53177b30e124"), ({"source": "autoencoder"}, "57e093f78b6f091b")]
)
def test_the_study_keeps_its_names(cue, detector):
    workspace = workspace_of(**cue)
    assert fingerprint(workspace.generator_key()) == "4a1dc7c844845287"
    assert workspace.restoration() == "e554b80ef332acaf"
    assert fingerprint(workspace.detector_key()) == detector


def test_the_generators_name_is_its_default():
    named = build_experiment({**STUDY, "generator": {"name": "dfg", **STUDY["generator"]}}, "the test")
    workspace = Workspace(named)
    workspace.faces_id = lambda: "0123456789abcdef-64"  # type: ignore[method-assign]
    assert workspace.generator_key() == workspace_of().generator_key()


def test_table_four_shares_the_studys_parts():
    study, table = (expand(read_experiment(Path(f"configs/{name}.yaml"))) for name in ("study", "table4"))
    known = {item.title: item.experiment for item in study}
    shared = [item for item in table if item.title in known]
    assert {item.label for item in shared} == {
        "image_only",
        "oanet t=401 normalised (the paper's cue)",
        "control autoencoder (t=0) normalised",
        "control shuffled cue t=401 normalised",
    }
    for item in shared:
        without_cue = {"cue"} if item.label == "image_only" else set()
        assert item.experiment.model_dump(exclude=without_cue) == known[item.title].model_dump(exclude=without_cue)
    plain = known["oanet t=401 (seed=0)"]
    for item in table:
        ours = item.experiment
        for part in ("root", "data", "objective", "train", "protocol", "evaluate"):
            assert getattr(ours, part) == getattr(plain, part)
        if ours.generator.name == "dfg":
            assert ours.generator == plain.generator
    sources = {"dfg", "dfg_no_identity", "memae", "deep_svdd", "anoddpm", "autoencoder", "shuffled"}
    assert {item.experiment.cue.source for item in table} == sources
    assert {item.experiment.cue.normalize for item in table} == {"per_face"}
    assert {item.experiment.seed for item in table} == {0, 1, 2}


@pytest.mark.parametrize("name", ["memae", "deep_svdd", "anoddpm"])
def test_the_papers_size_has_its_configuration(name):
    experiment = read_experiment(Path(f"configs/dfg_{name}_paper.yaml"))
    assert (experiment.generator.name, experiment.generator.preset, experiment.cue.source) == (name, "paper", name)
    assert experiment.data.size == 256
    assert experiment.generator.loop.learning_rate == 1e-4

"""Cues of every face of a dataset: one domain or many, and what training finds of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from output_folder import make_experiment, write_faces
from typer.testing import CliRunner

from pipelines.artefacts.cues import cue_reader, cue_stores
from pipelines.artefacts.faces import judged_rows, make_faces
from pipelines.cli import app
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import with_overrides
from pipelines.experiment.workspace import Workspace
from pipelines.stages import cues


def experiment_in(root: Path, domains: tuple[str, ...]) -> Experiment:
    """A generator of two steps, two domains of the protocol at most."""
    write_faces(root / "faces", domains=domains, subjects=2)
    return make_experiment(
        root / "run",
        generator={
            "domains": [domains[0]],
            "autoencoder": {"name": "patch", "patch_size": 4, "latent_channels": 6},
            "unet": {"block_out_channels": (8, 8, 8), "norm_num_groups": 4, "attention_head_dim": 4},
            "loop": {"steps": 2, "batch_size": 4, "log_every": 1},
        },
        cue={"timestep": 201, "num_inference_steps": 5, "batch_size": 8},
        protocol={"name": "leave_one_out", "domains": ["kiosk", "phone"]} if len(domains) > 1 else {},
    )


def stores(experiment: Experiment) -> set[str]:
    return {path.name for path in Workspace(experiment).cues().iterdir()}


def test_a_store_of_all_faces_serves_the_protocol(tmp_path, capsys):
    experiment = experiment_in(tmp_path, ("kiosk", "phone", "webcam"))
    faces = make_faces(experiment)
    cues.run_alone(experiment, [201], all_faces=True)
    whole = stores(experiment)
    assert len(whole) == 2  # t = 0 and t = 201
    assert len(cue_stores(experiment, faces.columns(), [201])[201]) == len(faces)
    found = cue_reader(experiment, faces)
    shuffled = cue_reader(with_overrides(experiment, {"cue.source": "shuffled"}), faces)
    cues.run(experiment, faces, [201])
    cues.verify(experiment, [201])
    assert stores(experiment) == whole  # neither made again
    capsys.readouterr()
    cues.print_status(experiment, [201])
    assert capsys.readouterr().out.count(f"{len(faces)} of {len(faces)}") == 2

    # The same experiment without it makes its own store, and its detector sees the same cues.
    alone = with_overrides(experiment, {"output": str(tmp_path / "alone")})
    cues.run_alone(alone, [201])
    assert not stores(alone) & whole
    assert len(cue_stores(alone, faces.columns(), [201])[201]) < len(faces)
    rows = np.flatnonzero(judged_rows(experiment, faces.columns()))
    assert np.array_equal(found.batch(rows), cue_reader(alone, faces).batch(rows))
    donors = cue_reader(with_overrides(alone, {"cue.source": "shuffled"}), faces)
    assert np.array_equal(shuffled.batch(rows), donors.batch(rows))
    with pytest.raises(IndexError, match="outside the protocol's domains"):
        found.batch(np.setdiff1d(np.arange(len(faces)), rows))


def test_a_store_that_was_only_begun_is_made(tmp_path):
    """As by a process that was killed, or by another one that is a moment ahead."""
    experiment = experiment_in(tmp_path, ("kiosk", "phone"))
    faces = make_faces(experiment)
    cues.run_alone(experiment, [201])
    whole = stores(experiment)
    for name in whole:
        shutil.rmtree(Workspace(experiment).cues() / name)
        (Workspace(experiment).cues() / name / "shards").mkdir(parents=True)
    cues.run(experiment, faces, [201])
    assert stores(experiment) == whole
    assert len(cue_stores(experiment, faces.columns(), [201])[201]) == len(faces)


def test_one_domain_needs_no_protocol(tmp_path):
    experiment = experiment_in(tmp_path, ("kiosk",))
    with pytest.raises(AgfasError, match=r"at least 2, but has 1 \(kiosk\).*--whole-dataset"):
        cues.run_alone(experiment, [201])
    assert not (experiment.root / "generator").exists()  # said before anything is trained
    cues.run_alone(experiment, [201], all_faces=True)
    # It is the one that a protocol of this domain needs.
    judged = with_overrides(experiment, {"protocol": {"name": "within"}})
    assert cue_stores(judged, make_faces(judged).columns(), [201])[201]
    assert len(stores(experiment)) == 2


def test_all_faces_of_all_domains_are_the_default_protocols(tmp_path):
    """No store is made twice where the protocol takes every domain."""
    experiment = experiment_in(tmp_path, ("kiosk", "phone"))
    cues.run_alone(experiment, [201])
    made = stores(experiment)
    cues.run_alone(experiment, [201], all_faces=True)
    assert stores(experiment) == made


@pytest.mark.parametrize("command", ["cues", "probe", "inspect-dfg"])
def test_a_dry_run_makes_nothing(tmp_path, command):
    experiment = experiment_in(tmp_path, ("kiosk", "phone"))
    config = tmp_path / "experiment.yaml"
    config.write_text(f"output: {experiment.root}\nidentity: {{name: none}}\n")
    data = f"data={{name: dataset, path: {tmp_path / 'faces'}, size: 16}}"
    result = CliRunner().invoke(app, [command, str(config), data, "--dry-run"])
    assert result.exit_code == 0, result.exception
    assert "generator not trained" in result.output
    assert not experiment.root.exists()

"""What is finished is read without torch: no command loads a model only to find or print something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_experiments import chain_settings

from pipelines.experiment.file import build_experiment
from pipelines.stages import chain

# A module that is None in sys.modules cannot be imported.
PROGRAM = """
import sys
sys.modules["torch"] = None
sys.argv = ["agfas", *sys.argv[1:]]
from pipelines.cli import main
main()
"""

COMMANDS = {
    "evaluate": ["evaluate", "CONFIG"],
    "cues --status": ["cues", "CONFIG", "--status"],
    "train-dfg --dry-run": ["train-dfg", "CONFIG", "--dry-run"],
    "cues --dry-run": ["cues", "CONFIG", "--dry-run"],
    "train --dry-run": ["train", "CONFIG", "--dry-run"],
    "evaluate --dry-run": ["evaluate", "CONFIG", "--dry-run"],
    "sweep --dry-run": ["sweep", "CONFIG", "--dry-run"],
    "probe --dry-run": ["probe", "CONFIG", "--dry-run"],
    "quickstart --dry-run": ["quickstart", "CONFIG", "--dry-run"],
    "reproduce --list": ["reproduce", "--list"],
    "threshold": ["threshold", "ROOT"],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The configuration of an experiment that is evaluated."""
    root = tmp_path_factory.mktemp("finished")
    chain.run(build_experiment(chain_settings(root / "out"), "the test"), "evaluate")
    (root / "tiny.yaml").write_text(yaml.safe_dump(chain_settings(root / "out")))
    return root / "tiny.yaml"


def run(config: Path, command: str) -> subprocess.CompletedProcess:
    places = {"CONFIG": str(config), "ROOT": str(config.parent / "out")}
    arguments = [places.get(word, word) for word in COMMANDS[command]]
    return subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)


# Each starts a process, which takes two seconds.
QUICK = ("evaluate", "threshold")


@pytest.mark.parametrize(
    "command", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]
)
def test_what_is_finished_is_read_without_torch(finished, command):
    done = run(finished, command)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout


def test_the_state_is_what_it_is(finished):
    assert "2 of 2 detectors trained, evaluated" in run(finished, "train --dry-run").stdout
    assert run(finished, "cues --status").stdout.count(" rows, ") == 2


def test_evaluate_ends_with_the_table_and_the_folder(finished):
    *_, rules, few, empty, folder = run(finished, "evaluate").stdout.splitlines()
    assert rules.startswith("honest: last/source_dev_eer; papers': oracle/target_eer")
    assert few.startswith("Few test videos: to_phone 5 live, to_phone 5 attack")
    assert not empty
    assert folder.startswith("Detectors: ")


def test_a_model_is_needed_where_something_is_missing(finished):
    """The guard guards: with another t there is something to make, and torch is missed."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "evaluate", str(finished), "cue.timestep=61"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "torch" in done.stderr

"""Starts of one run by several processes: one creates the folder, the others read it, and an error reaches all."""

from __future__ import annotations

import json

import pytest
import torch
from launching import ended, start
from training_parts import Regression, batches

from pipelines.training import run as run_module
from pipelines.training.loop import fit
from pipelines.training.run import Run
from pipelines.training.settings import LoopSettings

STARTS = """
import json, sys
from pathlib import Path
from pipelines.errors import AgfasError
from pipelines.processes import rank_and_world
from pipelines.training.run import Run

root, starts = Path(sys.argv[1]), int(sys.argv[2])
rank, world = rank_and_world()
for number in range(starts):
    run = Run(root / str(number), {"number": number}, {"any": "config"})
    assert run.done is None
    assert json.loads((run.folder / "environment.json").read_text())["processes"] == world
refused = []
for folder, identity in ((root / "foreign", {}), (root / "0", {"number": 1})):
    try:
        Run(folder, identity)
    except AgfasError as error:
        refused.append([type(error).__name__, str(error)])
print(json.dumps(refused))
"""


def test_the_environment_says_how_many_processes_and_which_kernels(tmp_path, monkeypatch):
    run = Run(tmp_path / "run", {})
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    fit(Regression(), batches, LoopSettings(steps=1), run, title="train")
    found = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert (found["processes"], found["device"]) == (1, "cpu")
    assert found["kernels"].startswith("float32 products ")
    assert "cudnn deterministic on" in found["kernels"]  # as it is where training begins


@pytest.mark.slow
def test_checkpoints_that_outlived_the_end_of_their_run_go_at_the_next_start(tmp_path, monkeypatch):
    run, left = Run(tmp_path / "run", {}), tmp_path / "run" / "checkpoints" / "step_000001"
    left.mkdir(parents=True)
    with monkeypatch.context() as killed:
        killed.setattr(run_module, "remove_checkpoints", lambda folder: None)
        run.finish({})
    assert left.is_dir()
    assert Run(tmp_path / "run", {}).was_done
    assert not left.parent.exists()


@pytest.mark.slow
def test_many_starts_of_four_processes(tmp_path):
    script = tmp_path / "starts.py"
    script.write_text(STARTS)
    (tmp_path / "runs" / "foreign").mkdir(parents=True)
    (tmp_path / "runs" / "foreign" / "holiday.jpg").touch()
    ranks = ended(start(4, script, tmp_path / "runs", 25))
    assert [code for code, _, _ in ranks] == [0] * 4, ranks[-1][2]
    for rank, (_, out, _) in enumerate(ranks):
        foreign, other = json.loads(out)
        kind = "AgfasError" if rank == 0 else "OtherProcessFailed"
        assert foreign[0] == other[0] == kind
        assert "is not a run folder" in foreign[1]
        assert "different: number" in other[1]


LATE = """
import sys, time
from pathlib import Path
from pipelines.processes import is_main, wait
from pipelines.training.run import Run

run = Run(Path(sys.argv[1]), {})
if is_main():
    run.finish({"steps": 0})  # nothing to train, as with published weights
else:
    while run.done is None:
        time.sleep(0.01)
print(run.was_done, flush=True)
wait()
again = Run(Path(sys.argv[1]), {})
print(again.was_done, flush=True)
"""


@pytest.mark.slow
def test_a_late_process_finds_a_run_as_the_main_one_found_it(tmp_path):
    """Otherwise it would go on to the next stage and meet the others of this one there."""
    script = tmp_path / "late.py"
    script.write_text(LATE)
    ranks = ended(start(2, script, tmp_path / "run"))
    assert [(code, out.split()) for code, out, _ in ranks] == [(0, ["False", "True"])] * 2

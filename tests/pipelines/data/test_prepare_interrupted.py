"""The same bytes by any number of processes, after a kill, after Ctrl-C and around a dead worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import prepare_stubs
import pytest
from prepare_stubs import (
    DEADLY,
    SMALL,
    BrokenDetector,
    SquareDetector,
    everything,
    markers,
    people,
    refused,
    save,
    scene,
)

from pipelines.data.prepare import job as job_module
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.records import load_faces
from pipelines.errors import AgfasError
from pipelines.stages.prepare import run

REPOSITORY = Path(__file__).parents[3]


def test_bytes_do_not_depend_on_the_processes(made, crowd, tmp_path):
    assert run(crowd, tmp_path / "out", PrepareRecipe(size=32, workers=2), SquareDetector) == 1
    assert everything(tmp_path / "out") == everything(made)
    assert not (tmp_path / "out" / ".work").exists()


def start(source: Path, out: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(Path(__file__).parent)])}
    command = [sys.executable, prepare_stubs.__file__, str(source), str(out)]
    # A shell that runs the tests in the background lets its children ignore Ctrl-C.
    heard = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=environment, preexec_fn=heard, **silent)


def wait_for(condition, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_killed_and_run_again_it_ends_in_the_same_bytes(crowd, tmp_path, monkeypatch):
    monkeypatch.setattr(job_module, "FACES_A_TASK", 4)
    whole, out = tmp_path / "whole", tmp_path / "out"
    recipe = PrepareRecipe(**SMALL, max_refused=1, keep_picture=True)
    assert run(crowd, whole, recipe, SquareDetector) == 0
    process = start(crowd, out)
    wait_for(lambda: len(markers(out)) >= 2)
    workers = children_of(process.pid)
    process.kill()
    process.wait()
    wait_for(lambda: not any(is_alive(worker) for worker in workers))  # no worker outlives its parent
    assert len(workers) >= 2
    done = {path: path.stat().st_mtime_ns for path in markers(out)}
    assert not (out / "face_dataset.json").exists()
    assert len(done) < 8
    (out / ".work").joinpath("rubbish").mkdir()
    made = []
    monkeypatch.setattr(job_module, "Pool", counting(made))
    assert run(crowd, out, recipe, SquareDetector) == 0
    assert sum(made) == 8 - len(done)  # the finished tasks were found
    assert everything(out) == everything(whole)


def counting(made: list[int]):
    class CountingPool(job_module.Pool):
        def run(self, tasks):
            made.append(len(tasks))
            return super().run(tasks)

    return CountingPool


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def is_alive(pid: str) -> bool:
    """Whether a process runs; one that is only waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_stopped_while_it_is_put_together_it_ends_in_the_same_bytes(tmp_path, monkeypatch):
    source, whole, out = people(tmp_path / "in", subjects=1, pictures=1), tmp_path / "whole", tmp_path / "out"
    recipe = PrepareRecipe(**SMALL, aligned=True)
    assert run(source, whole, recipe) == 0
    replace = os.replace
    for moves in range(8):
        calls = iter(range(moves))

        def stopping(one, other, calls=calls):
            if Path(other).parent == out and next(calls, None) is None:
                raise KeyboardInterrupt
            replace(one, other)

        monkeypatch.setattr(os, "replace", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(source, out, recipe)
        assert not (out / "face_dataset.json").exists()
    monkeypatch.setattr(os, "replace", replace)
    assert run(source, out, recipe) == 0
    assert everything(out) == everything(whole)


def test_interrupted_it_leaves_a_state_that_goes_on(crowd, tmp_path):
    process = start(crowd, tmp_path / "out")
    wait_for(lambda: markers(tmp_path / "out"))
    process.send_signal(signal.SIGINT)
    process.wait(120)
    assert process.returncode != 0
    assert markers(tmp_path / "out")
    assert not (tmp_path / "out" / "face_dataset.json").exists()


def test_a_picture_that_kills_its_worker_is_named_and_left_out(tmp_path):
    source = people(tmp_path / "in", subjects=2, pictures=1)
    save(source / "bonafide" / "s0" / "deadly.png", scene((40, 20, 70), corner=DEADLY))
    assert run(source, tmp_path / "out", PrepareRecipe(**SMALL), SquareDetector) == 1
    assert len(load_faces(tmp_path / "out")) == 4
    (line,) = refused(tmp_path / "out")
    assert line["path"] == "bonafide/s0/deadly.png"
    assert line["reason"] == "Its worker process was killed by SIGKILL (out of memory?), 2 times."


def test_a_detector_that_cannot_be_loaded_ends_the_job_before_any_work(crowd, tmp_path):
    with pytest.raises(AgfasError, match=r"nowhere\.onnx"):
        run(crowd, tmp_path / "out", PrepareRecipe(**SMALL), BrokenDetector)
    assert not (tmp_path / "out").exists()

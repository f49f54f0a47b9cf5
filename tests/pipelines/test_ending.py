"""A signal ends every kind of work after the piece in hand, with a code that asks for more; errors are told once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from launching import ended, environment, start
from prepare_stubs import SMALL, SquareDetector, people
from shard_parts import arrays_of, new_store
from training_parts import Regression, batches

from pipelines.blocks import Job, SharedArray, share
from pipelines.cues.tasks import run_tasks
from pipelines.data.prepare import job as prepare_job
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.ending import INTERRUPTED, REQUEUE, Stopped, stop_if_asked, watch_signals
from pipelines.stages.prepare import run as prepare
from pipelines.training.loop import fit
from pipelines.training.run import Run
from pipelines.training.settings import LoopSettings

WORK = """
import sys, time
from pipelines import cli
from pipelines.ending import finishing, stop_if_asked

def work(**_):
    if sys.argv[1] == "at once":
        print("begun", flush=True)
        while True:  # a signal just before one long sleep would wait for its end
            time.sleep(0.02)
    with finishing():
        print("begun", flush=True)
        time.sleep(float(sys.argv[2]))  # the piece in hand
        print("finished", flush=True)
        stop_if_asked()
    return 0

cli.app = work
cli.main()
"""


def interrupted(numbers, kind="a piece", seconds=0.5, pause=0.0):
    """Exit code, output and errors of work to which signals are sent as it begins."""
    command = [sys.executable, "-c", WORK, kind, str(seconds)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment(), text=True, **pipes) as process:
        process.stdout.readline()
        for number in numbers:
            time.sleep(pause)
            process.send_signal(number)
        out, errors = process.communicate(timeout=30)
    return process.returncode, out, errors


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, REQUEUE), (signal.SIGUSR1, REQUEUE), (signal.SIGINT, INTERRUPTED)]
)
def test_the_piece_in_hand_is_finished(number, code):
    returned, out, errors = interrupted([number])
    assert (returned, out) == (code, "finished\n")
    assert "Finished work is kept; run the same command again to resume." in errors
    assert "Traceback" not in errors
    assert interrupted([number], "at once")[:2] == (code, "")


def test_a_second_key_stops_at_once_but_not_the_launchers_echo():
    assert interrupted([signal.SIGINT] * 2)[:2] == (INTERRUPTED, "finished\n")
    assert interrupted([signal.SIGINT] * 2, seconds=30, pause=1.1)[:2] == (INTERRUPTED, "")


@pytest.fixture
def signals():
    """The handlers of a command in this process; the returned function sends this process a signal."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    watch_signals()
    yield lambda number=signal.SIGTERM: os.kill(os.getpid(), number)
    watch_signals()  # forgets what was heard
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_training_ends_with_a_checkpoint_of_the_step_in_hand(tmp_path, signals, number):
    settings = LoopSettings(steps=9, optimizer="adamw", learning_rate=0.05, ema_decay=0.9, checkpoint_every=100)
    whole, resumed = Regression(), Regression()
    fit(whole, batches, settings, Run(tmp_path / "whole", {}), title="whole")
    run = Run(tmp_path / "stopped", {})
    with pytest.raises(Stopped) as stopped:
        fit(
            Regression(), batches, settings, run, title="stop", after_step=lambda step, _: step == 4 and signals(number)
        )
    assert stopped.value.code == (REQUEUE if number == signal.SIGTERM else INTERRUPTED)
    assert [path.name for path in (run.folder / "checkpoints").glob("step_*")] == ["step_000004"]
    watch_signals()
    steps = []
    fit(resumed, batches, settings, run, title="resumed", after_step=lambda step, _: steps.append(step))
    assert steps == [5, 6, 7, 8, 9]
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_a_signal_in_the_last_step_lets_training_end(tmp_path, signals):
    settings = LoopSettings(steps=2)
    run = Run(tmp_path / "run", {})
    fit(Regression(), batches, settings, run, title="train", after_step=lambda step, _: step == 2 and signals())
    with pytest.raises(Stopped):
        stop_if_asked()


def test_the_cue_job_writes_the_shard_in_hand(tmp_path, signals):
    store = new_store(tmp_path)

    def make(task, names):
        if task == 2:
            signals(signal.SIGUSR1)
        for name in names:
            yield name, arrays_of(store.task_rows(task))

    with pytest.raises(Stopped) as stopped:
        run_tasks({1: store}, make, show_progress=False)
    assert stopped.value.code == REQUEUE
    assert store.unfinished() == [3, 4]


def test_shared_blocks_end_after_the_one_in_hand(tmp_path, signals):
    array = SharedArray(tmp_path / "scores.npy", (8,), float, 2, "scores")

    def make(block):
        if block == 1:
            signals()
        array.write(block, torch.zeros(2).numpy())

    with pytest.raises(Stopped):
        share([Job(array.blocks, make, array.publish, 8)], "score", "face", show=False)
    assert array.blocks.done().tolist() == [True, True, False, False]


def test_prepare_finishes_the_task_in_hand(tmp_path, signals, monkeypatch):
    monkeypatch.setattr(prepare_job, "FACES_A_TASK", 2)
    source, out = people(tmp_path / "in", subjects=2), tmp_path / "out"
    give = prepare_job.Pool._give

    def giving(pool, one):
        give(pool, one)
        if one.task is not None and one.task.number == 1:
            signals()

    monkeypatch.setattr(prepare_job.Pool, "_give", giving)
    with pytest.raises(Stopped):
        prepare(source, out, PrepareRecipe(**SMALL), SquareDetector)
    assert sorted(path.stem for path in out.glob(".work/*/tasks/*.json")) == ["000000", "000001"]


# Each process raises what its place says; the others wait for it.
ERRORS = """
import sys
from pipelines import cli
from pipelines.errors import AgfasError
from pipelines.processes import main_process_first, rank_and_world, wait

def work(**_):
    rank, world = rank_and_world()
    if sys.argv[1] == "all":
        raise AgfasError("no such key")
    if sys.argv[1] == "last" and rank == world - 1:
        raise AgfasError("no such file here")
    if sys.argv[1] == "unforeseen" and rank == world - 1:
        raise ValueError("what nobody thought of")
    with main_process_first():
        if sys.argv[1] == "main" and rank == 0:
            raise AgfasError("no room")
    wait()

cli.app = work
cli.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "message"),
    [("all", "no such key"), ("last", "no such file here"), ("main", "no room"), ("unforeseen", "nobody thought of")],
)
def test_an_error_ends_all_processes_and_is_told_once(tmp_path, who, message):
    script = tmp_path / "errors.py"
    script.write_text(ERRORS)
    began = time.monotonic()
    ranks = ended(start(2, script, who, AGFAS_TIMEOUT=100))
    assert [code for code, _, _ in ranks] == [1, 1]
    told = "".join(errors for _, _, errors in ranks)
    assert told.count(message) == (2 if who == "unforeseen" else 1), told  # a traceback shows the line, too
    assert told.count("Traceback") == (who == "unforeseen"), told
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_a_setting_that_no_process_can_use_is_told_once(tmp_path):
    ranks = ended(start(2, "-m", "pipelines.cli", "train", tmp_path / "none.yaml", AGFAS_TIMEOUT=60))
    assert [code for code, _, _ in ranks] == [1, 1]
    assert "".join(errors for _, _, errors in ranks).count("none.yaml") == 1


@pytest.mark.parametrize("code", [0, 3])
def test_the_end_is_quick_and_leaves_nothing_undone(code):
    program = (
        "import atexit, threading, time; from pipelines.ending import end_at_once;"
        "atexit.register(print, 'said at the end');"
        "threading.Thread(target=lambda: (time.sleep(0.05), print('a thread'))).start();"
        f"print('first', end=' '); end_at_once({code})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "first a thread\nsaid at the end\n")


def test_what_cannot_be_written_is_said_at_the_end():
    program = "from pipelines.ending import end_at_once; print('lost'); end_at_once(0)"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode != 0
    assert b"No space left" in done.stderr

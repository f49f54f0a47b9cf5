"""How a sweep is shared out, by hand: nothing is made or trained here."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipelines import ending
from pipelines.errors import AgfasError
from pipelines.experiment.file import with_overrides
from pipelines.experiment.plan import Planned, expand
from pipelines.experiment.workspace import Workspace
from pipelines.stages import (
    chain,
    sweep,
)


@pytest.fixture
def stubbed(monkeypatch) -> list[tuple]:
    """A sweep of which nothing is made; what would have been is noted."""
    seen: list[tuple] = []

    def note(place: str, name: str, answer=None) -> None:
        monkeypatch.setattr(place, lambda *given: seen.append((name, *given)) or answer)

    note("pipelines.stages.train_detector.check_options", "options")
    note("pipelines.stages.train_dfg.check_options", "generator's options")
    note("pipelines.stages.train_detector.check_faces", "faces")
    monkeypatch.setattr(sweep, "make_faces", lambda experiment: f"faces of {experiment.data.size}")
    monkeypatch.setattr(sweep, "record", lambda root, planned: seen.append(("recorded", root, len(planned))))
    monkeypatch.setattr(sweep.chain, "prepare_cues", lambda found, faces: seen.append(("cues", len(found), faces)))
    monkeypatch.setattr(sweep, "_unjudged", lambda planned: planned[1:])
    for name in ("_side_by_side", "_dealt", "_one_after_another"):
        monkeypatch.setattr(sweep, name, lambda *given, name=name: seen.append((name, len(given[0]), *given[1:])))
    monkeypatch.setattr(Workspace, "needs_generator", lambda self: self.experiment.seed == 1)
    return seen


@pytest.mark.parametrize(
    ("processes", "jobs", "how"),
    [
        (1, 1, ("_one_after_another", 3)),
        (1, 2, ("_side_by_side", 2, 2)),
        (2, 1, ("_dealt", 2)),
        (2, 2, ("_dealt", 2)),
        (3, 1, ("_one_after_another", 3)),
        (3, 2, ("_one_after_another", 3)),
    ],
)
def test_a_sweep_is_shared_as_jobs_and_processes_allow(small, stubbed, monkeypatch, capsys, processes, jobs, how):
    """Two of three experiments have no result."""
    monkeypatch.setattr(sweep, "rank_and_world", lambda: (0, processes))
    planned = expand(with_overrides(small, {"sweep": {"axes": {"seed": [0, 1, 2]}}}))
    sweep.run_planned(planned, jobs)
    found = [item.experiment for item in planned]
    checks = [("options", found[0]), ("options", found[1]), ("generator's options", found[1]), ("options", found[2])]
    faces = [("faces", one, "faces of 32") for one in found]
    assert stubbed == [*checks, *faces, ("recorded", small.root, 3), ("cues", 3, "faces of 32"), how]
    ignored = f"--jobs is ignored: each of the {processes} launched processes takes experiments of its own.\n"
    assert capsys.readouterr().out == (ignored if (processes, jobs) == (2, 2) else "")


def test_only_the_main_process_records_and_reports(small, stubbed, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "is_main", lambda: False)
    monkeypatch.setattr("pipelines.stages.report.run", lambda root: stubbed.append(("report", root)) or "the page")
    monkeypatch.setattr("pipelines.report.summary.summary", lambda planned: f"{len(planned)} rows")
    sweep.run(small)
    assert "recorded" not in [call[0] for call in stubbed]
    monkeypatch.setattr(sweep, "is_main", lambda: True)
    sweep.run(small)
    assert stubbed[-1] == ("report", small.root)
    assert capsys.readouterr().out == "\n1 rows\n\nReport: the page\n"


def test_an_experiment_that_is_planned_twice_is_trained_once(small, monkeypatch):
    monkeypatch.setattr(Workspace, "detector", lambda self: Path(f"seed {self.experiment.seed % 2}"))
    monkeypatch.setattr(sweep, "_is_judged", lambda item: item.experiment.seed == 1)
    planned = expand(with_overrides(small, {"sweep": {"axes": {"seed": [0, 1, 2, 3]}}}))
    assert [item.experiment.seed for item in sweep._unjudged(planned)] == [2, 3]


def test_experiments_one_after_another_are_counted(small, monkeypatch, capsys):
    done = []
    monkeypatch.setattr(chain, "train_and_judge", done.append)
    planned = [Planned("a", {}, small), Planned("b", {"seed": 1}, small)]
    sweep._one_after_another(planned)
    assert done == [small, small]
    assert capsys.readouterr().out == "[1/2] a\n[2/2] b (seed=1)\n"


class Pool:
    """Workers that do what they are given here."""

    def __init__(self, count, context, begin, given):
        self.opened, self.shut = (count, begin, given), []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def shutdown(self, **how):
        self.shut.append(how)


def test_workers_take_gpus_in_turn_and_end_with_an_error(monkeypatch):
    made, ended = [], []
    context = SimpleNamespace(SimpleQueue=lambda: SimpleNamespace(put=lambda gpu: made.append(gpu)))
    monkeypatch.setattr(sweep, "get_context", lambda kind: context if kind == "spawn" else None)
    monkeypatch.setattr(sweep, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(sweep, "active_children", lambda: [SimpleNamespace(terminate=lambda: ended.append(1))] * 2)
    with sweep._workers(["4", "7"], 3, 5) as pool:
        pass
    assert made == ["4", "7", "4"]
    count, begin, (_, threads_each) = pool.opened
    assert (count, begin, threads_each) == (3, sweep._begin_worker, 5)
    assert pool.shut == ended == []
    with pytest.raises(ZeroDivisionError), sweep._workers([None], 1, 1) as pool:
        raise ZeroDivisionError
    assert pool.shut == [{"wait": False, "cancel_futures": True}]
    assert ended == [1, 1]


@pytest.mark.parametrize("gpu", [None, "3"])
def test_a_worker_trains_alone_on_its_gpu_and_ends_with_its_parent(monkeypatch, gpu):
    seen = []
    monkeypatch.setattr(sweep, "_for_life", ExitStack())
    monkeypatch.setattr(sweep, "stand_alone", lambda: seen.append("alone"))
    monkeypatch.setattr(sweep, "watch_signals", lambda: seen.append("watched"))
    monkeypatch.setattr(sweep._for_life, "enter_context", lambda block: seen.append("for life"))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: seen.append(count))
    monkeypatch.setattr(sweep.progress, "hide_bars", lambda: seen.append("hidden"))
    monkeypatch.setattr(sweep, "Thread", lambda target, args, daemon: SimpleNamespace(
        start=lambda: seen.append((target, args, daemon))
    ))  # fmt: skip
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    sweep._begin_worker(SimpleNamespace(get=lambda: gpu), 5)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == (gpu or "0,1")
    leaves = (sweep._leave_with_parent, (os.getppid(),), True)
    assert seen == ["alone", "watched", "for life", 5, "hidden", leaves]


def test_a_worker_of_a_killed_parent_leaves(monkeypatch):
    parents, slept = iter([7, 7, 1]), []

    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(sweep.time, "sleep", slept.append)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as left:
        sweep._leave_with_parent(7)
    assert left.value.code == 1
    assert slept == [1, 1]


def test_an_experiment_is_not_begun_after_a_signal(small, monkeypatch):
    begun = []
    monkeypatch.setattr(chain, "train_and_judge", begun.append)
    monkeypatch.setattr(ending, "_watch", ending._Watch())
    sweep._train_alone(small)
    assert begun == [small]
    ending._watch.code = 75
    with pytest.raises(ending.Stopped):
        sweep._train_alone(small)
    assert begun == [small]


def test_steps_are_scaled_to_the_nearest_whole_and_at_least_what_is_looked_at(small):
    given = {
        "generator.loop.steps": 9, "train.steps": 40, "train.evaluations": 4, "train.warmup": 10,
        "identity.loop.steps": 8, "identity.loop.warmup": 5,
    }  # fmt: skip
    base = with_overrides(small, given)
    assert sweep.scaled(base, 15.0) is base
    found = sweep.scaled(base, 5.0)
    assert (found.generator.loop.steps, found.train.steps, found.train.warmup) == (3, 13, 3)
    assert (found.identity.loop.steps, found.identity.loop.warmup) == (3, 2)
    found = sweep.scaled(with_overrides(base, {"identity": {"name": "none"}}), 0.1)
    assert (found.generator.loop.steps, found.train.steps, found.train.warmup) == (1, 4, 0)
    with pytest.raises(AgfasError, match=r"--minutes must be above 0, not -1\."):
        sweep.scaled(base, -1)

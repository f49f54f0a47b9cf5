"""Who trains what in a sweep: one after another, side by side, or dealt out among launched processes."""

from __future__ import annotations

import os
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from small_experiments import chain_settings

from pipelines.errors import AgfasError
from pipelines.experiment.file import build_experiment
from pipelines.experiment.plan import Planned, expand
from pipelines.stages import sweep


class Given:
    """Work that was given to a worker."""

    def __init__(self, seen: list[tuple], seed: int) -> None:
        self.seen, self.seed = seen, seed

    def result(self) -> None:
        self.seen.append(("ended", self.seed))


@pytest.fixture
def planned(tmp_path) -> list[Planned]:
    settings = {**chain_settings(tmp_path), "sweep": {"axes": {"seed": [0, 1, 2, 3]}}}
    return expand(build_experiment(settings, "a test"))


@pytest.fixture
def pools(monkeypatch) -> list[tuple]:
    """What workers were opened with and given, in turn; nothing is trained."""
    seen: list[tuple] = []

    @contextmanager
    def workers(gpus, count, threads_each):
        seen.append(("opened", tuple(gpus), count, threads_each))

        def submit(function, experiment):
            seen.append(("given", experiment.seed))
            return Given(seen, experiment.seed)

        yield SimpleNamespace(submit=submit)

    monkeypatch.setattr(sweep, "_workers", workers)
    monkeypatch.setattr(sweep, "threads", lambda: 5)
    monkeypatch.setattr(sweep, "_gpus", list)
    return seen


def test_experiments_of_one_dataset_are_prepared_together(planned):
    other = sweep.with_overrides(planned[0].experiment, {"data.size": 64})
    mixed = [*planned[:2], Planned("other", {}, other), planned[2]]
    assert [[item.title for item in group] for group in sweep._by_dataset(mixed)] == [
        [item.title for item in (*planned[:2], planned[2])],
        ["other"],
    ]


def test_side_by_side_all_are_given_before_one_has_ended(planned, pools, capsys):
    sweep._side_by_side(planned, 2)
    assert capsys.readouterr().err.startswith("experiments: 4 of 4 experiments, ")
    assert pools[0] == ("opened", (None,), 2, 2)
    assert pools[1:5] == [("given", seed) for seed in range(4)]
    assert pools[5:] == [("ended", seed) for seed in range(4)]


def test_more_jobs_than_cores_have_a_thread_each(planned, pools, monkeypatch):
    monkeypatch.setattr(sweep, "_gpus", lambda: ["0", "3"])
    sweep._side_by_side(planned[:1], 9)
    assert pools[0] == ("opened", ("0", "3"), 9, 1)


@pytest.mark.parametrize(("rank", "given"), [(0, [0, 2, 1, 3]), (1, [1, 3, 0, 2])])
def test_a_launched_process_takes_its_own_and_then_what_is_left(planned, pools, monkeypatch, rank, given):
    monkeypatch.setattr(sweep, "rank_and_world", lambda: (rank, 2))
    monkeypatch.setattr(sweep, "state", lambda: SimpleNamespace(local_process_index=rank))
    monkeypatch.setattr(sweep, "_gpus", lambda: ["4", "7"])
    monkeypatch.setattr(sweep, "is_main", lambda: False)
    os.makedirs(planned[0].experiment.root, exist_ok=True)
    judged = {planned[3].title}
    monkeypatch.setattr(sweep, "_is_judged", lambda item: item.title in judged)
    sweep._dealt(planned)
    assert pools[0] == ("opened", (["4", "7"][rank],), 1, 5)
    assert [seed for what, seed in pools[1:] if what == "given"] == [seed for seed in given if seed != 3]
    # Each has ended before the next is given.
    assert [what for what, _ in pools[1:]] == ["given", "ended"] * 3


def test_without_locks_only_ones_own_are_taken(planned, pools, monkeypatch):
    monkeypatch.setattr(sweep, "rank_and_world", lambda: (1, 2))
    monkeypatch.setattr(sweep, "is_main", lambda: False)
    monkeypatch.setattr(sweep, "Claims", lambda path: SimpleNamespace(take=lambda number: True, supported=False))
    monkeypatch.setattr(sweep, "_is_judged", lambda item: False)
    sweep._dealt(planned)
    assert [seed for what, seed in pools[1:] if what == "given"] == [1, 3]


@pytest.mark.parametrize(("named", "count", "expected"), [
    (None, 2, ["0", "1"]), ("3,5", 2, ["3", "5"]), ("3,5", 1, ["3"]), ("", 0, []),
])  # fmt: skip
def test_gpus_are_those_that_the_process_may_see(monkeypatch, named, count, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert sweep._gpus() == expected


def test_no_jobs_are_refused(planned):
    with pytest.raises(AgfasError, match="--jobs must be at least 1, not 0"):
        sweep.run_planned(planned, 0)


@pytest.mark.parametrize(("minutes", "steps"), [(15, (8, 3, 2)), (30, (16, 6, 4)), (1, (1, 2, 0))])
def test_steps_are_scaled_to_the_minutes(tmp_path, minutes, steps):
    experiment = build_experiment(chain_settings(tmp_path), "a test")
    experiment = sweep.with_overrides(
        experiment, {"generator.loop.steps": 8, "train.steps": 3, "train.warmup": 2, "identity.loop.steps": 8}
    )
    scaled = sweep.scaled(experiment, minutes)
    assert (scaled.generator.loop.steps, scaled.train.steps, scaled.train.warmup) == steps
    assert scaled.identity.loop.steps == steps[0]
    with pytest.raises(AgfasError, match="--minutes must be above 0, not 0"):
        sweep.scaled(experiment, 0)

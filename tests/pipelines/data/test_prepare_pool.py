"""The pool of worker processes, with work of a moment: an error ends them all."""

from __future__ import annotations

from multiprocessing import active_children
from multiprocessing.context import SpawnProcess

import pytest

from pipelines.data.prepare.pool import Pool, Task
from pipelines.errors import AgfasError


def set_up():
    return work


def work(task: Task, report) -> None:
    for place, item in enumerate(task.items):
        report(place)
        if item == "b":
            raise AgfasError("the disk is full")


def children() -> list:
    return [child for child in active_children() if isinstance(child, SpawnProcess)]


def test_an_error_ends_the_job_and_no_process_is_left():
    before = children()
    with pytest.raises(AgfasError, match="the disk is full"):
        list(Pool(set_up, 2, str).run([(0, ["a", "b"]), (1, ["c"])]))
    assert children() == before

"""The pool of worker processes: an error ends them all; a death is retried, named, and at last too many."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from multiprocessing import Pipe, active_children
from multiprocessing.context import SpawnProcess

import pytest

from pipelines.data.prepare import pool as pool_module
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


# The same pool with threads for processes: what follows is decided in the parent.


class Death(BaseException):
    """Ends a worker as a signal does."""


class Worker:
    """A thread in the place of a process; its end closes its pipe, as a process's does."""

    started = 0
    exitcode = -signal.SIGKILL

    def __init__(self, target, args, daemon) -> None:
        assert daemon, "workers must not outlive the job"
        self._connection, self._killed = args[0], False
        self._thread = threading.Thread(target=self._run, args=(target, args), daemon=True)

    def _run(self, target, args) -> None:
        with suppress(Death):
            target(*args)
        self._connection.close()

    def start(self) -> None:
        Worker.started += 1
        self._thread.start()

    def join(self) -> None:
        if not self._killed:
            self._thread.join()

    def kill(self) -> None:
        self._killed = True


class Pipes:
    """The pipes of a pool: the worker's end stays open in the parent, whose threads use it."""

    Process = Worker

    @staticmethod
    def Pipe():
        ours, theirs = Pipe()
        return ours, Open(theirs)


class Open:
    def __init__(self, connection) -> None:
        self._connection, self.send, self.recv = connection, connection.send, connection.recv
        self._closed_by_parent = False

    def close(self) -> None:
        if self._closed_by_parent:
            self._connection.close()
        self._closed_by_parent = True


@pytest.fixture
def threads(monkeypatch):
    monkeypatch.setattr(pool_module, "get_context", lambda method: Pipes if method == "spawn" else None)
    monkeypatch.setattr(pool_module, "ignore_signals", lambda: None)
    monkeypatch.setattr(Worker, "started", 0)


def pool_of(does, workers=1):
    """A pool whose workers call a function with each item, and the items that were begun."""
    begun = []

    def serve(task, report) -> None:
        for place, item in enumerate(task.items):
            report(place)
            if place not in task.fatal:
                begun.append(item)
                does(item)

    return Pool(lambda: serve, workers, "<{}>".format), begun


def test_tasks_are_shared_out_and_counted(threads):
    pool, begun = pool_of(lambda item: None)
    counts = list(pool.run([(0, ["a", "b"]), (1, ["c"]), (2, ["d", "e"])]))
    assert begun == list("abcde")
    # ready; at 0, at 1, done and given the next; at 0, done; at 0, at 1, done.
    assert counts == [0, 0, 1, 2, 2, 3, 3, 4, 5]
    assert Worker.started == 1
    pool, begun = pool_of(lambda item: None, workers=5)
    list(pool.run([(0, ["a"]), (1, ["b"])]))
    assert (sorted(begun), Worker.started) == (["a", "b"], 3)
    assert list(pool_of(lambda item: None)[0].run([])) == []


def test_what_kills_a_worker_twice_is_left_out_with_its_cause(threads):
    causes = {}

    def does(item) -> None:
        if item == "b":
            raise Death

    pool, begun = pool_of(does)
    serve = pool._setup()

    def watched(task, report) -> None:
        causes.update(task.fatal)
        serve(task, report)

    pool._setup = lambda: watched
    list(pool.run([(0, ["a", "b", "c"]), (1, ["d"])]))
    assert begun == ["a", "b", "a", "b", "a", "c", "d"]
    assert causes == {1: "Its worker process was killed by SIGKILL (out of memory?), 2 times."}
    assert Worker.started == 3


def test_one_death_is_forgiven(threads):
    deaths = iter([True])

    def does(item) -> None:
        if item == "b" and next(deaths, False):
            raise Death

    pool, begun = pool_of(does)
    list(pool.run([(0, ["a", "b", "c"])]))
    assert begun == ["a", "b", "a", "b", "c"]


@pytest.mark.parametrize(("number", "most"), [(9, False), (10, True)])
def test_twenty_deaths_are_too_many(threads, number, most):
    def does(item) -> None:
        raise Death

    pool, begun = pool_of(does)
    if not most:
        list(pool.run([(0, list(range(number)))]))
        assert len(begun) == 18
        return
    with pytest.raises(AgfasError) as caught:
        list(pool.run([(0, list(range(number)))]))
    assert str(caught.value) == (
        "20 worker processes died, the last one at <9>: it was killed by SIGKILL (out of memory?). Finished tasks are"
        " kept: run the same command again to resume, with fewer --workers if memory is short."
    )


@pytest.mark.parametrize(
    ("code", "how"),
    [
        (3, "ended with code 3"),
        (0, "ended with code 0"),
        (None, "ended with code None"),
        (-11, "was killed by SIGSEGV"),
        (-1, "was killed by SIGHUP"),
        (-9, "was killed by SIGKILL (out of memory?)"),
    ],
)
def test_a_worker_that_dies_during_its_start_ends_the_job(threads, monkeypatch, code, how):
    def dying():
        raise Death

    monkeypatch.setattr(Worker, "exitcode", code)
    with pytest.raises(AgfasError) as caught:
        list(Pool(dying, 1, str).run([(0, ["a"])]))
    assert str(caught.value) == (f"A worker process {how} during its start. Use fewer --workers if memory is short.")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (AgfasError("No weights."), r"^No weights\.$"),
        (OSError(28, "No space left on device", "/out/tasks"), "/out/tasks.*full|full.*/out/tasks"),
        (OSError(99, "Cannot assign requested address"), r"^A worker process failed \(\[Errno 99\] Cannot assign"),
    ],
)
def test_what_a_worker_raises_is_one_sentence(threads, error, message):
    def failing():
        raise error

    with pytest.raises(AgfasError, match=message):
        list(Pool(failing, 1, str).run([(0, ["a"])]))


def test_asked_to_stop_it_finishes_the_tasks_in_hand(threads, monkeypatch):
    asked = []
    pool, begun = pool_of(asked.append)
    monkeypatch.setattr(pool_module, "is_asked", lambda: bool(asked))
    list(pool.run([(0, ["a", "b"]), (1, ["c"])]))
    assert begun == ["a", "b"]

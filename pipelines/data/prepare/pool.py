"""Processes that take tasks, survive what kills one of them, and name the picture that it was at.

`concurrent.futures` gives up on everything when a process dies and does not say on what; here a dead process is
replaced, and a source that kills its process twice is left out with the reason.
"""

from __future__ import annotations

import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from pipelines.errors import AgfasError

# A source that is at work when its process dies is tried once more: the machine may have been short of memory.
_TRIES = 2
# Of the same job: beyond them something else than single pictures is wrong.
_MOST_DEATHS = 20

Report = Callable[[int], None]
Work = Callable[["Task", Report], None]


@dataclass
class Task:
    """A piece of work.

    Attributes:
        number: of the task.
        items: what it is made of.
        fatal: place of an item that killed its process, and how; it is not tried again.
        deaths: how often a process died at each place.
    """

    number: int
    items: list[Any]
    fatal: dict[int, str] = field(default_factory=dict)
    deaths: Counter = field(default_factory=Counter)


@dataclass
class _Process:
    process: Any
    connection: Connection
    task: Task | None = None
    place: int = 0


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    Attributes:
        items: begun so far, of tasks at work and done in this run.
        done: the task that has just been finished, or None.
    """

    items: int
    done: int | None = None


class Pool:
    """Runs tasks in spawned processes.

    Args:
        setup: makes a process's `Work`: called once in each, must be picklable; its `AgfasError` ends the job.
        workers: how many processes.
        describe: an item in words, for the message about a process that died.
    """

    def __init__(self, setup: Callable[[], Work], workers: int, describe: Callable[[Any], str]) -> None:
        self._setup, self._workers, self._describe = setup, workers, describe
        self._context = get_context("spawn")
        self._processes: list[_Process] = []
        self._waiting: deque[Task] = deque()
        self._deaths = self._items_done = 0

    def run(self, tasks: list[tuple[int, list[Any]]]) -> Iterator[Progress]:
        """Do all tasks, in any order, and say after every step how far they are.

        Raises:
            AgfasError: a process could not begin, its work failed (a full disk), or too many died.
        """
        self._waiting.extend(Task(number, items) for number, items in tasks)
        try:
            for _ in range(min(self._workers, len(tasks))):
                self._processes.append(self._start())
            while self._processes:
                for connection in wait([one.connection for one in self._processes]):
                    one = next(one for one in self._processes if one.connection is connection)
                    done = self._hear(one)
                    yield Progress(self._items(), done)
        finally:
            self._stop()

    def _start(self) -> _Process:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._setup), daemon=True)
        process.start()
        theirs.close()  # so that its death closes the pipe
        return _Process(process, ours)

    def _hear(self, one: _Process) -> int | None:
        """Take one message; returns the number of a finished task."""
        try:
            kind, value = one.connection.recv()
        except (EOFError, OSError):
            self._bury(one)
            return None
        if kind == "failed":
            raise AgfasError(value)
        if kind == "at":
            one.place = value
            return None
        finished = one.task
        self._items_done += len(finished.items) if finished else 0
        self._give(one)
        return finished.number if finished else None

    def _give(self, one: _Process) -> None:
        one.place, one.task = 0, self._waiting.popleft() if self._waiting else None
        if one.task is None:
            self._processes.remove(one)
            one.connection.close()  # the process reads the end of its work
            one.process.join()
        else:
            with suppress(BrokenPipeError, ConnectionResetError):  # its death is heard in the next round
                one.connection.send(one.task)

    def _bury(self, one: _Process) -> None:
        one.process.join()
        one.connection.close()
        self._processes.remove(one)
        self._deaths += 1
        how = _cause(one.process.exitcode)
        if one.task is None:
            raise AgfasError(f"A worker process {how} before it began. Use fewer --workers if memory is short.")
        what = self._describe(one.task.items[one.place])
        if self._deaths >= _MOST_DEATHS:
            raise AgfasError(
                f"{self._deaths} worker processes died, the last one at {what}: it {how}. What was finished is kept;"
                " use fewer --workers if memory is short, and run the same command again to go on."
            )
        one.task.deaths[one.place] += 1
        if one.task.deaths[one.place] >= _TRIES:
            one.task.fatal[one.place] = f"Its worker process {how}, {_TRIES} times."
        self._waiting.appendleft(one.task)
        self._processes.append(self._start())

    def _items(self) -> int:
        return self._items_done + sum(one.place for one in self._processes if one.task)

    def _stop(self) -> None:
        for one in self._processes:
            one.process.terminate()
        for one in self._processes:
            one.process.join()
            one.connection.close()
        self._processes.clear()


def _cause(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"was killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"
    return f"ended with code {exitcode}"


def _serve(connection: Connection, setup: Callable[[], Work]) -> None:
    """A process: set up, then task after task until the other end is closed, by intent or by its death."""
    # Ctrl-C reaches every process of the terminal; the parent ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(BrokenPipeError, EOFError, ConnectionResetError):
        try:
            work = setup()
            connection.send(("ready", None))
            while True:
                task = connection.recv()
                work(task, lambda place: connection.send(("at", place)))
                connection.send(("done", None))
        except AgfasError as error:
            connection.send(("failed", str(error)))
        except OSError as error:
            connection.send(("failed", f"A worker process failed ({error})."))

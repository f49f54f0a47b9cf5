"""A pool of processes that survives the death of one of them and reports which source killed it.

`concurrent.futures` aborts all work when a process dies and does not say on what. Here a dead process is replaced, and
a source that kills its process twice is refused.
"""

from __future__ import annotations

import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from pipelines.ending import finishing, ignore_signals, is_asked, stop_if_asked
from pipelines.errors import AgfasError
from pipelines.files import explain_os_error, file_of

# The source that a process was at when it died is retried once: the machine may have been short of memory.
_TRIES = 2
# With more deaths in one job, the cause is not a few bad files.
_MOST_DEATHS = 20

Report = Callable[[int], None]
Work = Callable[["Task", Report], None]


@dataclass
class Task:
    """A unit of work.

    Attributes:
        number: of the task.
        items: its sources.
        fatal: places of items that killed their process, with the cause; they are skipped.
        deaths: number of processes that died at each place.
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


class Pool:
    """Runs tasks in spawned processes.

    Args:
        setup: called once in each process, returns its `Work`; must be picklable. Its `AgfasError` ends the job.
        workers: number of processes.
        describe: name of an item, for the message about a process that died.
    """

    def __init__(self, setup: Callable[[], Work], workers: int, describe: Callable[[Any], str]) -> None:
        self._setup, self._workers, self._describe = setup, workers, describe
        self._context = get_context("spawn")
        self._processes: list[_Process] = []
        self._waiting: deque[Task] = deque()
        self._deaths = self._items_done = 0

    def run(self, tasks: list[tuple[int, list[Any]]]) -> Iterator[int]:
        """Do all tasks, in any order.

        Yields:
            After every message of a process, the number of items begun in this run.

        Raises:
            AgfasError: a process could not start, its work failed (a full disk), or too many died.
            Stopped: a signal asked for it; the tasks in hand are finished.
        """
        self._waiting.extend(Task(number, items) for number, items in tasks)
        with finishing():
            yield from self._run(len(tasks))
        stop_if_asked()

    def _run(self, count: int) -> Iterator[int]:
        try:
            for _ in range(min(self._workers, count)):
                self._processes.append(self._start())
            while self._processes:
                if is_asked():
                    self._waiting.clear()
                for connection in wait([one.connection for one in self._processes]):
                    one = next(one for one in self._processes if one.connection is connection)
                    self._hear(one)
                    yield self._items_done + sum(one.place for one in self._processes if one.task)
        finally:
            self._stop()

    def _start(self) -> _Process:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._setup), daemon=True)
        process.start()
        theirs.close()  # then the death of the process closes the pipe
        return _Process(process, ours)

    def _hear(self, one: _Process) -> None:
        try:
            kind, value = one.connection.recv()
        except (EOFError, OSError):
            self._bury(one)
            return
        if kind == "failed":
            raise AgfasError(value)
        if kind == "at":
            one.place = value
            return
        self._items_done += len(one.task.items) if one.task else 0
        self._give(one)

    def _give(self, one: _Process) -> None:
        one.place, one.task = 0, self._waiting.popleft() if self._waiting else None
        if one.task is None:
            self._processes.remove(one)
            one.connection.close()  # the process ends on EOF
            one.process.join()
        else:
            with suppress(BrokenPipeError, ConnectionResetError):  # `wait` reports its death next
                one.connection.send(one.task)

    def _bury(self, one: _Process) -> None:
        one.process.join()
        one.connection.close()
        self._processes.remove(one)
        self._deaths += 1
        how = _cause(one.process.exitcode)
        if one.task is None:
            raise AgfasError(f"A worker process {how} during its start. Use fewer --workers if memory is short.")
        what = self._describe(one.task.items[one.place])
        if self._deaths >= _MOST_DEATHS:
            raise AgfasError(
                f"{self._deaths} worker processes died, the last one at {what}: it {how}. Finished tasks are kept: run"
                " the same command again to resume, with fewer --workers if memory is short."
            )
        one.task.deaths[one.place] += 1
        if one.task.deaths[one.place] >= _TRIES:
            one.task.fatal[one.place] = f"Its worker process {how}, {_TRIES} times."
        self._waiting.appendleft(one.task)
        self._processes.append(self._start())

    def _stop(self) -> None:
        for one in self._processes:
            one.process.kill()
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
    """Main function of a process: set up, then do tasks until the pipe closes, also by the death of the parent."""
    ignore_signals()
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
            known = explain_os_error(error, file_of(error) or Path())
            told = str(known) if isinstance(known, AgfasError) else f"A worker process failed ({error})."
            connection.send(("failed", told))

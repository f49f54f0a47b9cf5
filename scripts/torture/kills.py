"""SIGKILL: at random moments over two processes, and before every single durable call."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from pathlib import Path

from scripts.torture.checks import Checksums, Witness, checksums
from scripts.torture.processes import KILLED, Tortured
from scripts.torture.worker import TIMESTEPS, Orders, job

PROCESSES = 2
# Per t, a task writes a header, three arrays and a line of the manifest; a process dies within its first six tasks.
_WRITES_OF_A_TASK = 5 * len(TIMESTEPS)
_TASKS_UNTIL_DEATH = 6
_SECONDS_UNTIL_DEATH = 0.4


@dataclass
class Killings:
    """The result of killing at random; every listed shard is verified after each kill.

    Attributes:
        ordered: kills in a write, by the process itself after a random share of the write's bytes.
        timed: kills from outside, at a random moment.
        timed_in_write: timed kills that left a temporary file, the trace of an unfinished write.
        finished: how often the job finished and was compared with a clean run.
        violations: a sentence for each broken promise.
    """

    ordered: int = 0
    timed: int = 0
    timed_in_write: int = 0
    finished: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """In all."""
        return self.ordered + self.timed

    @property
    def in_write(self) -> int:
        """Kills that certainly fell into a write."""
        return self.ordered + self.timed_in_write

    @property
    def half_in_write(self) -> bool:
        """Whether at least half of the kills certainly fell into a write."""
        return 2 * self.in_write >= self.kills


@dataclass(frozen=True)
class _Victim:
    """A running process and the moment at which it is killed; infinity: it kills itself."""

    tortured: Tortured
    moment: float

    @property
    def kills_itself(self) -> bool:
        return self.moment == math.inf


class RandomKills:
    """Two processes share a job; whenever one dies, the stores are checked and another process replaces it.

    Args:
        folder: for the stores; must be empty.
        tasks: number of tasks of each store.
        kills: least number of kills; at least half of them fall into a write, because some processes are ordered to.
        seed: of the moments.
    """

    def __init__(self, folder: Path, tasks: int, kills: int, seed: int) -> None:
        job(folder / "clean", tasks)
        self._folder, self._tasks, self._kills = folder, tasks, kills
        self._clean = checksums(folder / "clean")
        self._draws = random.Random(seed)
        self._result = Killings()

    def run(self) -> Killings:
        """Kill until there were enough kills, and let the job finish whenever it is about to.

        A job that finishes first is started again, at most five times per requested kill.
        """
        while not self._enough() and self._result.finished < 5 * self._kills:
            self._root = self._folder / f"killed-{self._result.finished}"
            self._witness = Witness(self._root, self._clean)
            self._kill_until_finished()
            self._finish()
        return self._result

    def _kill_until_finished(self) -> None:
        victims = {rank: self._start(rank) for rank in range(PROCESSES)}
        while True:
            rank = self._next_dead(victims)
            died = self._bury(victims.pop(rank))
            if not died or self._enough():
                break
            victims[rank] = self._start(rank)
        for victim in victims.values():
            if not victim.kills_itself:
                victim.tortured.process.kill()
            self._bury(victim)

    def _enough(self) -> bool:
        return self._result.kills >= self._kills and self._result.half_in_write

    def _start(self, rank: int) -> _Victim:
        orders = Orders(self._root, self._tasks, rank, PROCESSES)
        if self._result.ordered <= self._result.timed:
            tasks = min(_TASKS_UNTIL_DEATH, max(1, self._tasks // PROCESSES))
            write = self._draws.randint(1, tasks * _WRITES_OF_A_TASK)
            orders = replace(orders, die_in_write=write, share=self._draws.random())
            return _Victim(Tortured.start(orders), math.inf)
        delay = self._draws.uniform(0, _SECONDS_UNTIL_DEATH)
        return _Victim(Tortured.start(orders), time.monotonic() + delay)

    def _next_dead(self, victims: dict[int, _Victim]) -> int:
        """The first process to end; it is killed here if its moment comes first."""
        sentinels = {victim.tortured.process.sentinel: rank for rank, victim in victims.items()}
        first = min(victims, key=lambda rank: victims[rank].moment)
        moment = victims[first].moment
        ended = wait(list(sentinels), None if moment == math.inf else max(0.0, moment - time.monotonic()))
        if ended:
            return sentinels[ended[0]]  # type: ignore[index]
        victims[first].tortured.process.kill()
        return first

    def _bury(self, victim: _Victim) -> bool:
        """Count a kill and check the stores; False if the process had finished before."""
        code, answer = victim.tortured.end()
        if code not in (0, KILLED):
            self._result.violations.append(f"a process ended with code {code}: {answer}")
        if code != KILLED:
            return False
        if victim.kills_itself:
            self._result.ordered += 1
        else:
            self._result.timed += 1
            self._result.timed_in_write += self._left_a_temporary(victim.tortured.process.pid)
        self._result.violations += self._witness.look()
        return True

    def _left_a_temporary(self, process: int) -> bool:
        return any(f".{process}." in path.name for path in self._root.rglob(".*.tmp"))

    def _finish(self) -> None:
        children = [Tortured.start(Orders(self._root, self._tasks, rank, PROCESSES)) for rank in range(PROCESSES)]
        for code, answer in [child.end() for child in children]:
            if code != 0:
                self._result.violations.append(f"a process that was not killed ended with code {code}: {answer}")
        self._result.finished += 1
        self._result.violations += self._witness.look_at_the_end()


@dataclass
class Steps:
    """The result of killing before every call.

    Attributes:
        kills: by the name of the call, and `half of a write` after half of the write's bytes.
        violations: a sentence for each broken promise.
    """

    kills: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


def kill_before_every_call(folder: Path, tasks: int = 1) -> Steps:
    """One process, killed once before each write, append, fsync and rename, and in the middle of each write.

    Args:
        folder: for the stores; must be empty.
        tasks: number of tasks of each store.
    """
    code, names = Tortured.start(Orders(folder / "clean", tasks)).end()
    result, clean = Steps(), checksums(folder / "clean")
    if code != 0:
        result.violations.append(f"a process that was not killed ended with code {code}: {names}")
        return result
    for call, name in enumerate(names, start=1):
        for share in (0.0, 0.5) if name in ("write", "append") else (0.0,):
            orders = Orders(folder / f"call-{call}-{share}", tasks, die_in_call=call, share=share)
            result.kills[f"half of a{'n' * (name == 'append')} {name}" if share else name] += 1
            result.violations += _die_and_resume(orders, clean)
    return result


def _die_and_resume(orders: Orders, clean: Checksums) -> list[str]:
    witness = Witness(orders.root, clean)
    code, _ = Tortured.start(orders).end()
    found = [] if code == KILLED else [f"the process was to die in call {orders.die_in_call}, but ended with {code}"]
    found += witness.look()
    job(orders.root, orders.tasks)
    return found + witness.look_at_the_end()

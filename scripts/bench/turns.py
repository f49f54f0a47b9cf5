"""Contenders are timed in turns, so that a machine that grows slower or faster meets all alike."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def in_turns(contenders: Iterable[T], repeats: int) -> Iterator[T]:
    """Each contender `repeats` times, in the order A B B A."""
    ordered = list(contenders)
    for turn in range(repeats):
        yield from ordered if turn % 2 == 0 else reversed(ordered)


@dataclass(frozen=True)
class Timings:
    """What a race gives.

    Attributes:
        seconds: of every run, by contender.
        results: of every run, by contender.
    """

    seconds: dict[str, list[float]]
    results: dict[str, list[Any]]

    @property
    def medians(self) -> dict[str, float]:
        """Median seconds by contender."""
        return {name: statistics.median(runs) for name, runs in self.seconds.items()}


def race(
    contenders: Mapping[str, Callable[[], Any]],
    repeats: int,
    *,
    fewer: Mapping[str, int] | None = None,
    warm: bool = False,
    before: Callable[[str], Any] = lambda name: None,
    measured: Callable[[Any], float] | None = None,
) -> Timings:
    """Run every contender `repeats` times, in turns.

    Args:
        contenders: by name.
        repeats: runs of each.
        fewer: repeats of contenders that are too slow for as many.
        warm: let each run once, unmeasured, at first: caches fill, code is compiled.
        before: called with the contender's name before each of its runs, unmeasured.
        measured: the seconds of a run from its result, for contenders that measure themselves; default: this clock.
    """
    timings = Timings({name: [] for name in contenders}, {name: [] for name in contenders})
    for name in contenders if warm else ():
        before(name)
        contenders[name]()
    for name in in_turns(contenders, repeats):
        if len(timings.seconds[name]) < (fewer or {}).get(name, repeats):
            before(name)
            start = time.perf_counter()
            result = contenders[name]()
            seconds = time.perf_counter() - start
            timings.seconds[name].append(measured(result) if measured else seconds)
            timings.results[name].append(result)
    return timings


def plain_environment() -> dict[str, str]:
    """This process's environment without settings of malloc, for contenders in processes of their own."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}

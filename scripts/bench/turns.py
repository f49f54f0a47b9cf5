"""The order in which contenders are timed, so that a machine that grows slower or faster meets all alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def in_turns(contenders: Iterable[T], repeats: int) -> Iterator[T]:
    """Each contender `repeats` times, in the order A B B A."""
    ordered = list(contenders)
    for turn in range(repeats):
        yield from ordered if turn % 2 == 0 else reversed(ordered)

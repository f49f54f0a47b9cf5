"""One progress bar for every long step: what is done, how fast, and how long it will still take."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

# A log file or a CI page wants a line now and then, not a bar redrawn ten times a second.
_SECONDS_BETWEEN_LINES = 0.2 if sys.stderr.isatty() else 15.0


_hidden = False


def hide_bars() -> None:
    """Show no bar in this process: a worker's would be drawn over its parent's."""
    global _hidden
    _hidden = True


def bar(total: int, description: str, *, initial: int = 0, unit: str = "it", show: bool = True) -> tqdm:
    """A bar with the remaining time; `show=False` for every process but the first."""
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        disable=_hidden or not show,
        mininterval=_SECONDS_BETWEEN_LINES,
        dynamic_ncols=True,
    )


def track(items: Iterable[T], description: str, *, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Iterate over `items` under a bar."""
    yield from tqdm(
        items, desc=description, total=total, unit=unit, mininterval=_SECONDS_BETWEEN_LINES, disable=_hidden
    )

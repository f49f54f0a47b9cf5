"""Progress of every long step: a bar in a terminal, a line every half minute in a log file."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, TypeVar

from pipelines.errors import AgfasError

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 30.0

VERBOSITY = "AGFAS_VERBOSITY"
"""The variable that hands `--quiet` or `--verbose` on to the processes that a command starts."""

_hidden = os.environ.get(VERBOSITY) == "quiet"


class Lines:
    """Progress as lines of text, with tqdm's methods: one every 30 s, and one at the end.

    Args:
        total: how many there are; None if unknown.
        description: what is being done.
        initial: how many were done before; they do not count for the rate.
        unit: what is counted, in the singular.
        clock: seconds.
        write: receives each line, without its end.
    """

    def __init__(
        self,
        total: int | None,
        description: str,
        initial: float = 0,
        unit: str = "it",
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[str], object] | None = None,
    ) -> None:
        self.total, self.description, self.unit, self.n = total, description, unit, initial
        self._initial, self._clock, self._write = initial, clock, write or _to_stderr
        self._note, self._began = "", clock()
        self._written = self._began

    def update(self, n: float = 1) -> None:
        """Count `n` more as done; writes a line if the last one is half a minute old."""
        self.n += n
        if self._clock() - self._written >= SECONDS_BETWEEN_LINES:
            self._written = self._clock()
            self._write(self.line())

    def set_postfix_str(self, s: str) -> None:
        """Show a text at the end of the next lines."""
        self._note = s

    def line(self) -> str:
        """Such as `generator: 133 of 267 steps, 3.3 steps/s, 0:41 left, loss=0.1924`."""
        elapsed, done = self._clock() - self._began, self.n - self._initial
        rate = done / elapsed if elapsed > 0 else 0.0
        of_total = "" if self.total is None else f" of {self.total}"
        shown = f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"
        parts = [f"{self.n}{of_total} {self.unit}s", f"{shown} {self.unit}s/s", _duration(elapsed)]
        if self.total is not None and self.n < self.total and rate > 0:
            parts[-1] = f"{_duration((self.total - self.n) / rate)} left"
        return f"{self.description}: " + ", ".join([*parts, self._note] if self._note else parts)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        self._write(self.line())


def hide_bars() -> None:
    """Show no progress in this process: a worker's bar would be drawn over its parent's."""
    global _hidden
    _hidden = True


def set_verbosity(verbose: bool, quiet: bool) -> None:
    """Say more or less, here and in the processes started from here; call it before a library is imported.

    Raises:
        AgfasError: both are asked for.
    """
    if verbose and quiet:
        raise AgfasError("--verbose and --quiet contradict each other: give one of them.")
    if quiet:
        hide_bars()
    if verbose or quiet:
        os.environ[VERBOSITY] = "verbose" if verbose else "quiet"
        for library in ("HF_HUB", "TRANSFORMERS", "DIFFUSERS", "DATASETS"):
            os.environ.setdefault(f"{library}_VERBOSITY", "info" if verbose else "error")
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")


def is_verbose() -> bool:
    """Whether `--verbose` was given."""
    return os.environ.get(VERBOSITY) == "verbose"


def quiet_libraries() -> None:
    """Keep the bars of datasets and huggingface_hub out of log files; call before either is imported."""
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def bar(total: int | None, description: str, *, initial: int = 0, unit: str = "it", show: bool = True) -> tqdm | Lines:
    """Progress with the remaining time; `show=False` for every process but the first."""
    if _hidden or not show:
        return Lines(total, description, initial, unit, write=lambda line: None)
    if not sys.stderr.isatty():
        return Lines(total, description, initial, unit)
    from tqdm import tqdm

    return tqdm(total=total, initial=initial, desc=description, unit=unit, mininterval=0.2, dynamic_ncols=True)


def track(items: Iterable[T], description: str, *, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Iterate over `items` and show the progress."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with bar(total, description, unit=unit) as progress:
        for item in items:
            yield item
            progress.update()


def _duration(seconds: float) -> str:
    """Such as `0:41`, `12:05` or `1:02:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

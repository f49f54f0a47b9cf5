"""Work in a second thread: writing behind the loop and reading ahead of it, never by more than one piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Behind:
    """Runs one piece of work in a second thread while the caller makes the next.

    At most one piece is under way, so that memory holds two and no more. What a piece raises is raised again by the
    next `run` or `wait`. Leaving the block, by an error or by Ctrl-C too, waits for the piece under way: what has
    been made is kept.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="behind")
        self._under_way: Future[None] | None = None

    def run(self, work: Callable[[], None]) -> None:
        """Begin `work` once the piece before it is done."""
        self.wait()
        self._under_way = self._pool.submit(work)

    def wait(self) -> None:
        """Return once nothing is under way."""
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            under_way.result()

    def __enter__(self) -> Behind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        if kind is None:
            self.wait()


def one_ahead(prepare: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`prepare` of each item in order, the next one computed in a second thread while the caller uses this one.

    What `prepare` raises is raised at its item's turn.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        waiting: Future[R] | None = None
        for item in items:
            begun = pool.submit(prepare, item)
            if waiting is not None:
                yield waiting.result()
            waiting = begun
        if waiting is not None:
            yield waiting.result()


def resolved(value: Any) -> Any:
    """The value, or what it gives where it is a function: work that was put off."""
    return value() if callable(value) else value

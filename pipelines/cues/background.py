"""Work in a second thread: write behind the loop and read ahead of it, never by more than one item."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Behind:
    """Runs one item of work in a second thread while the caller makes the next.

    At most one item is in progress, so memory holds at most two. An exception is raised again by the next `run` or
    `wait`. Leaving the block, also by an error or Ctrl-C, waits for the item in progress: finished work is kept.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="behind")
        self._under_way: Future[None] | None = None

    def run(self, work: Callable[[], None]) -> None:
        """Start `work` after the item before it is done."""
        self.wait()
        self._under_way = self._pool.submit(work)

    def wait(self) -> None:
        """Return when nothing is in progress."""
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

    An exception of `prepare` is raised at the turn of its item.
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
    """The value, or the result of calling it if it is a function (deferred work)."""
    return value() if callable(value) else value

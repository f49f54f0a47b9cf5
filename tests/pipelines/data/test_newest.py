"""A source is read as fast as it comes, and only its newest picture is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from pipelines.data import newest
from pipelines.data.newest import Newest
from pipelines.errors import AgfasError


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(newest, "_SECONDS_TO_CLOSE", 0.05)


def pictures(count: int, before: list[threading.Event] | None = None) -> Iterator[partial[np.ndarray]]:
    for number in range(count):
        if before:
            before[number].wait(2)
        yield partial(np.full, (1,), number)


def ended(link: Newest) -> str:
    while link.ended is None:
        link._thread.join(2)
    return link.ended


def test_the_newest_picture_comes_with_the_number_of_those_it_replaced():
    link = Newest(lambda: pictures(5), clock=lambda: 7.0)
    assert ended(link) == "The stream ended."
    shot = link.take(0)
    assert shot is not None
    assert (shot.picture()[0], shot.dropped, shot.arrived) == (4, 4, 7.0)
    assert link.take(0) is None


def test_a_picture_is_waited_for():
    events = [threading.Event(), threading.Event()]
    link = Newest(lambda: pictures(2, events))
    assert link.take(0) is None
    events[0].set()
    first = link.take(2)
    events[1].set()
    second = link.take(2)
    assert first is not None
    assert second is not None
    assert (first.picture()[0], second.picture()[0], second.dropped) == (0, 1, 0)


@pytest.mark.parametrize(
    ("error", "words"),
    [(AgfasError("no camera"), "no camera"), (ValueError("rtsp://u:SECRET@h"), "It cannot be read (ValueError).")],
)
def test_an_error_is_the_end_in_words(error, words):
    def fails() -> Iterator[partial[np.ndarray]]:
        yield partial(np.zeros, (1,))
        raise error

    link = Newest(fails)
    assert ended(link) == words
    assert link.take(0) is not None


def test_closing_ends_the_thread_and_the_source():
    events, closed = [threading.Event() for _ in range(3)], []

    def source() -> Iterator[partial[np.ndarray]]:
        try:
            yield from pictures(3, events)
        finally:
            closed.append(True)

    link = Newest(source)
    link.close()  # while it waits for its first picture
    assert not closed
    events[0].set()
    ended(link)
    assert closed == [True]
    assert link.take(0) is None
    assert not link._thread.is_alive()

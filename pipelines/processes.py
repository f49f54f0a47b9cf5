"""Which of the launched processes this is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import PartialState


def is_main() -> bool:
    """Whether this process writes what only one may write."""
    return PartialState().is_main_process


def rank_and_world() -> tuple[int, int]:
    """Number of this process and how many there are."""
    state = PartialState()
    return state.process_index, state.num_processes


def wait() -> None:
    """Wait until every process is here."""
    PartialState().wait_for_everyone()


@contextmanager
def main_process_first() -> Iterator[None]:
    """Let the first process make an artefact while the others wait, then let them find it."""
    with PartialState().main_process_first():
        yield


def device() -> str:
    """The device of this process."""
    return str(PartialState().device)

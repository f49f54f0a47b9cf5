"""Which of the launched processes this is, and what it computes on.

torch and accelerate are imported when they are asked, so that a command that only prints a plan does not wait for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import PartialState


def on_cpu() -> bool:
    """Whether there is no accelerator. accelerate must be told, or it takes several processes on a CPU for one."""
    import torch

    return not torch.accelerator.is_available()


def state() -> PartialState:
    """accelerate's view of the processes, set up on first use."""
    from accelerate import PartialState

    return PartialState(cpu=on_cpu())


def is_main() -> bool:
    """Whether this process writes what only one may write."""
    return state().is_main_process


def rank_and_world() -> tuple[int, int]:
    """Number of this process and how many there are."""
    return state().process_index, state().num_processes


def wait() -> None:
    """Wait until every process is here."""
    state().wait_for_everyone()


@contextmanager
def main_process_first() -> Iterator[None]:
    """Let the first process make an artefact while the others wait, then let them find it."""
    with state().main_process_first():
        yield


def device() -> str:
    """The device of this process."""
    return str(state().device)

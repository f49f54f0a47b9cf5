"""Which of the launched processes this is, and what it computes on.

A process that no launcher started is the first of one, which takes neither torch nor accelerate to know: a command
that only reads or prints never loads them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import PartialState

# Set by torchrun and `accelerate launch`, and by the MPI implementations that accelerate reads.
_LAUNCHERS = ("WORLD_SIZE", "LOCAL_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def is_launched() -> bool:
    """Whether a launcher started this process, perhaps as one of several."""
    return any(name in os.environ for name in _LAUNCHERS)


def on_cpu() -> bool:
    """Whether there is no accelerator; accelerate needs this flag, or it sees several CPU processes as one."""
    import torch

    return not torch.accelerator.is_available()


def state() -> PartialState:
    """accelerate's view of the processes, set up on first use."""
    from accelerate import PartialState

    return PartialState(cpu=on_cpu())


def is_main() -> bool:
    """Whether this process writes what only one may write."""
    return not is_launched() or state().is_main_process


def rank_and_world() -> tuple[int, int]:
    """Index of this process and the number of processes."""
    return (state().process_index, state().num_processes) if is_launched() else (0, 1)


def wait() -> None:
    """Wait until every process gets here."""
    if is_launched():
        state().wait_for_everyone()


@contextmanager
def main_process_first() -> Iterator[None]:
    """Let the first process make an artefact while the others wait, then let them find it."""
    if not is_launched():
        yield
        return
    with state().main_process_first():
        yield


def device() -> str:
    """The device of this process."""
    return str(state().device)


def package_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of installed packages by name."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found

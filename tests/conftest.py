"""What holds for all tests: each is a function of the code, in any order and beside any other.

`pytest-randomly` shuffles the tests and seeds `random` and NumPy before each; torch is seeded here.
"""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch starts OpenMP: processes whose threads together outnumber the cores wait for each other.
    os.environ["OMP_NUM_THREADS"] = "1"

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from pipelines.memory import keep_freed_memory

if TYPE_CHECKING:
    from lookalike import Lookalike

# As every `agfas` command does: the tests train and restore in small steps, thousands of them.
keep_freed_memory()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Seed torch before the fixtures of each test, so that a test that runs alone draws what it draws in the suite."""
    torch.random.default_generator.manual_seed(0)


@pytest.fixture
def lookalike() -> Iterator[Lookalike]:
    """One GPU that is none, while the test runs."""
    from lookalike import installed

    with installed() as seen:
        yield seen


@pytest.fixture
def left_open() -> Callable[[], list[str]]:
    """Names what is open and was not when the test began: descriptors and threads.

    Numbers of them would not do: servers and clients of other tests in this process may end meanwhile.
    """
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("descriptors are listed in /proc")
    before = _open_now()
    return lambda: sorted(_open_now() - before)


def _open_now() -> set[str]:
    found = {f"thread {thread.ident} {thread.name}" for thread in threading.enumerate()}
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of this very listing
            found.add(f"descriptor {descriptor} of {os.readlink(f'/proc/self/fd/{descriptor}')}")
    return found

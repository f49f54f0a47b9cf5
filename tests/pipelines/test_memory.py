"""Freed memory is kept, unless the user has said otherwise."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from pipelines.memory import memory_message
from scripts.bench.training_step import freed_memory_benchmark
from scripts.bench.turns import plain_environment

glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc"
)

# Blocks of 48 MB, each written once: given back, every page comes from the kernel anew.
PROGRAM = """
import resource, sys
import numpy as np
from pipelines.memory import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else None)
np.ones(12_000_000, np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(12_000_000, np.float32)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(how: str, **settings: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True,
        env={**plain_environment(), **settings},
    )  # fmt: skip
    return done.stdout.split()


@glibc
def test_kept_memory_is_not_asked_for_again():
    kept, faults = run("keep")
    _, faults_before = run("leave")
    assert kept == "True"
    assert int(faults) < 0.1 * int(faults_before)


@glibc
def test_what_the_user_has_set_stays():
    assert run("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"


@pytest.mark.slow
def test_both_ways_end_alike():
    rows = freed_memory_benchmark(rounds=1, repeats=1)
    assert len(rows) == 4
    assert rows[0]["ratio"] == 1.0
    assert all(row["equal"] and row["rounds_per_second"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (MemoryError("Unable to allocate 14.9 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 1\ntwo"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
    ],
)
def test_want_of_memory_is_one_sentence(error, short):
    message = memory_message(error)
    assert (message is not None) == short
    assert message is None or ("per_cell" in message and "\n" not in message)

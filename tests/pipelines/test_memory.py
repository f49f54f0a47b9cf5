"""Freed memory is kept, unless the user has said otherwise."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from pipelines import memory
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


@pytest.mark.parametrize("taken", [1, 0])
def test_blocks_come_from_a_heap_that_stays(monkeypatch, taken):
    """Numbers of malloc.h: M_MMAP_THRESHOLD = -3, M_TRIM_THRESHOLD = -1, M_TOP_PAD = -2."""
    given = []
    library = SimpleNamespace(mallopt=lambda *pair: given.append(pair) or taken)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in memory._SETTINGS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    assert memory.keep_freed_memory() is bool(taken)
    assert given == [(-3, 2**30), (-1, 2**31 - 1), (-2, 2**27)]
    names = {"MALLOC_MMAP_THRESHOLD_": 2**30, "MALLOC_TRIM_THRESHOLD_": 2**31 - 1, "MALLOC_TOP_PAD_": 2**27}
    assert {name: os.environ[name] for name in names} == {name: str(value) for name, value in names.items()}
    assert memory.keep_freed_memory() is False  # they are set now
    for name in names:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.keep_freed_memory() is False
    assert len(given) == 3


@pytest.mark.parametrize("there", [True, False])
def test_a_gpu_gets_its_memory_back(monkeypatch, there):
    done = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("emptied"))
    monkeypatch.setattr(memory.gc, "collect", lambda: done.append("collected"))
    memory.free_models()
    assert done == (["collected", "emptied"] if there else [])
    monkeypatch.delitem(sys.modules, "torch")
    memory.free_models()


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

"""What an idle thread costs a training on a processor, once it has touched a tensor.

Its OpenMP workers live as long as it does. With more workers than cores libgomp lets all of them sleep at a barrier
instead of waiting there for the microseconds that it takes, those of the training included.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from pipelines.memory import keep_freed_memory
from scripts.bench.freed_memory import detector_step
from scripts.bench.turns import in_turns

ALONE, IDLE = "no other thread", "beside an idle thread that made a batch"


def idle_thread_benchmark(rounds: int = 10, repeats: int = 5) -> list[dict[str, Any]]:
    """Time optimiser steps of a small detector; the contenders take turns.

    Returns:
        A row per contender: median steps a second and the ratio to the step beside an idle thread.
    """
    keep_freed_memory()
    step = detector_step()
    seconds: dict[str, list[float]] = {ALONE: [], IDLE: []}
    for name in in_turns(seconds, repeats):
        with _company(name):
            step()
            start = time.perf_counter()
            for _ in range(rounds):
                step()
            seconds[name].append((time.perf_counter() - start) / rounds)
    median = {name: statistics.median(found) for name, found in seconds.items()}
    return [
        {
            "benchmark": "idle-thread",
            "contender": name,
            "steps_per_second": 1 / one,
            "ratio": median[IDLE] / one,
            "threads_of_torch": torch.get_num_threads(),
            "repeats": repeats,
        }
        for name, one in median.items()
    ]


def _company(name: str) -> AbstractContextManager[Any]:
    if name == ALONE:
        return nullcontext()
    pool = ThreadPoolExecutor(1)
    pool.submit(lambda: torch.zeros(48, 3, 64, 64, dtype=torch.uint8).float().div_(127.5)).result()
    return pool

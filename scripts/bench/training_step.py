"""What a training step on a processor costs beside its arithmetic: freed memory given back, and an idle thread.

An idle thread that once touched a tensor keeps its OpenMP workers as long as it lives. With more workers than cores
libgomp lets all of them sleep at a barrier instead of waiting there for the microseconds that it takes, those of the
training included.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch

from dfg.baselines import build_baseline
from oanet.batch import FaceBatch
from oanet.detectors import build_detector
from oanet.objectives import build_objective
from pipelines.memory import keep_freed_memory
from scripts.bench import CLONE
from scripts.bench.turns import plain_environment, race

KEPT, GIVEN_BACK = "kept", "given back (malloc as it is)"
ALONE, IDLE = "no other thread", "beside an idle thread that made a batch"
DETECTOR, PIXELS = "training the tiny OA-Net, 48 faces of 64 pixels", "restoring 64 faces of 64 pixels by AnoDDPM"


def freed_memory_benchmark(rounds: int = 12, repeats: int = 3) -> list[dict[str, Any]]:
    """Time a detector's optimiser steps (small blocks) and a U-Net in pixels (large ones); every run is a new process.

    Returns:
        A row per workload and contender: median rounds a second, the ratio to malloc as it is, the share of processor
        time that the system took, and whether all runs ended with the same number.
    """
    return [row for work in WORK for row in _race(work, rounds, repeats)]


def idle_thread_benchmark(rounds: int = 10, repeats: int = 5) -> list[dict[str, Any]]:
    """Time optimiser steps of a small detector, with and without an idle thread that has touched a tensor.

    Returns:
        A row per contender: median steps a second and the ratio to the step beside an idle thread.
    """
    keep_freed_memory()
    step = detector_step()
    medians = race(
        {name: partial(_steps_beside, name, step, rounds) for name in (ALONE, IDLE)}, repeats, measured=float
    ).medians
    return [
        {
            "benchmark": "idle-thread",
            "contender": name,
            "steps_per_second": rounds / median,
            "ratio": medians[IDLE] / median,
            "threads_of_torch": torch.get_num_threads(),
            "repeats": repeats,
        }
        for name, median in medians.items()
    ]


def _steps_beside(company: str, step: Callable[[], float], rounds: int) -> float:
    with _company(company):
        step()
        start = time.perf_counter()
        for _ in range(rounds):
            step()
        return time.perf_counter() - start


def _company(name: str) -> AbstractContextManager[Any]:
    if name == ALONE:
        return nullcontext()
    pool = ThreadPoolExecutor(1)
    pool.submit(lambda: torch.zeros(48, 3, 64, 64, dtype=torch.uint8).float().div_(127.5)).result()
    return pool


def _race(work: str, rounds: int, repeats: int) -> list[dict[str, Any]]:
    contenders = {name: partial(_run, work, name == KEPT, rounds) for name in (GIVEN_BACK, KEPT)}
    timings = race(contenders, repeats, measured=lambda run: run[0])
    medians = timings.medians
    ends = {end for runs in timings.results.values() for _, _, end in runs}
    return [
        {
            "benchmark": "freed-memory",
            "work": work,
            "contender": name,
            "rounds_per_second": rounds / median,
            "ratio": medians[GIVEN_BACK] / median,
            "system_share": statistics.median(share for _, share, _ in timings.results[name]),
            "equal": len(ends) == 1,
            "repeats": repeats,
        }
        for name, median in medians.items()
    ]


def measure(work: str, kept: bool, rounds: int) -> None:
    """Work in this process; prints seconds, the system's share of the processor time, and the last result."""
    if kept:
        keep_freed_memory()
    torch.manual_seed(0)
    one_round = WORK[work]()
    for _ in range(2):
        one_round()
    clock, before = time.perf_counter(), os.times()
    for _ in range(rounds):
        end = one_round()
    after = os.times()
    system, user = after.system - before.system, after.user - before.user
    print(time.perf_counter() - clock, system / (system + user), end)


def detector_step() -> Callable[[], float]:
    """An optimiser step of the tiny OA-Net on 48 faces of 64 pixels; gives the loss."""
    objective: Any = build_objective("ssdg", build_detector("oanet", preset="tiny", seed=0), 3, seed=0)
    image, cue = (torch.randn(48, 3, 64, 64) for _ in range(2))
    place = torch.arange(48)
    batch = FaceBatch(image=image, cue=cue, label=place % 2, domain=place // 2 % 3, key=[str(i) for i in range(48)])
    optimizer = torch.optim.AdamW(objective.parameters(), 1e-3)

    def step() -> float:
        loss = objective(batch, 0.5)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def _pixels() -> Callable[[], float]:
    model: Any = build_baseline("anoddpm", "tiny", 64).eval()
    image, keys = torch.rand(64, 3, 64, 64) * 2 - 1, [str(place) for place in range(64)]

    def call() -> float:
        with torch.no_grad():
            return float(model.reconstruct(image, keys, timestep=20, calls=1).mean())

    return call


WORK: dict[str, Callable[[], Callable[[], float]]] = {DETECTOR: detector_step, PIXELS: _pixels}


def _run(work: str, kept: bool, rounds: int) -> tuple[float, float, float]:
    program = f"from scripts.bench.training_step import measure; measure({work!r}, {kept}, {rounds})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=plain_environment(), cwd=CLONE
    )
    seconds, share, end = map(float, done.stdout.split()[-3:])
    return seconds, share, end

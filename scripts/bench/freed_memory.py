"""Work with freed memory kept, and with malloc as it is: small blocks (a detector), large ones (a U-Net in pixels)."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from pipelines.memory import plain_environment
from scripts.bench.turns import in_turns

KEPT, GIVEN_BACK = "kept", "given back (malloc as it is)"
DETECTOR, PIXELS = "training the tiny OA-Net, 48 faces of 64 pixels", "restoring 64 faces of 64 pixels by AnoDDPM"


def freed_memory_benchmark(rounds: int = 12, repeats: int = 3) -> list[dict[str, Any]]:
    """Time optimiser steps of a detector, and calls of a U-Net in pixels; every run is a fresh process.

    Returns:
        A row per workload and contender: median rounds a second, the ratio to malloc as it is, the share of processor
        time that the system took, and whether all runs ended with the same number.
    """
    return [row for work in WORK for row in _race(work, rounds, repeats)]


def _race(work: str, rounds: int, repeats: int) -> list[dict[str, Any]]:
    runs: dict[str, list[tuple[float, float, float]]] = {GIVEN_BACK: [], KEPT: []}
    for name in in_turns(runs, repeats):
        runs[name].append(_run(work, name == KEPT, rounds))
    plain = statistics.median(seconds for seconds, _, _ in runs[GIVEN_BACK])
    ends = {end for found in runs.values() for _, _, end in found}
    return [
        {
            "benchmark": "freed-memory",
            "work": work,
            "contender": name,
            "rounds_per_second": rounds / statistics.median(seconds for seconds, _, _ in found),
            "ratio": plain / statistics.median(seconds for seconds, _, _ in found),
            "system_share": statistics.median(share for _, share, _ in found),
            "equal": len(ends) == 1,
            "repeats": repeats,
        }
        for name, found in runs.items()
    ]


def measure(work: str, kept: bool, rounds: int) -> None:
    """Work in this process; prints seconds, the system's share of the processor time, and what came out."""
    import time

    import torch

    from pipelines.memory import keep_freed_memory

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
    import torch

    from oanet.batch import FaceBatch
    from oanet.detectors import build_detector
    from oanet.objectives import build_objective

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
    import torch

    from dfg.baselines import build_baseline

    model: Any = build_baseline("anoddpm", "tiny", 64).eval()
    image, keys = torch.rand(64, 3, 64, 64) * 2 - 1, [str(place) for place in range(64)]

    def call() -> float:
        with torch.no_grad():
            return float(model.reconstruct(image, keys, timestep=20, calls=1).mean())

    return call


WORK: dict[str, Callable[[], Callable[[], float]]] = {DETECTOR: detector_step, PIXELS: _pixels}


def _run(work: str, kept: bool, rounds: int) -> tuple[float, float, float]:
    program = f"from scripts.bench.freed_memory import measure; measure({work!r}, {kept}, {rounds})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=plain_environment()
    )
    seconds, share, end = map(float, done.stdout.split()[-3:])
    return seconds, share, end

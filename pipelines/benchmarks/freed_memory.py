"""Training steps of a detector a second with freed memory kept, and with malloc left as it is."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from typing import Any

KEPT, GIVEN_BACK = "kept", "given back (malloc as it is)"


def freed_memory_benchmark(steps: int = 20, repeats: int = 5) -> list[dict[str, Any]]:
    """Time optimiser steps of the tiny OA-Net with SSDG on 48 faces of 64 pixels; every run is a fresh process.

    Returns:
        A row per contender: median steps a second, the ratio to malloc as it is, the share of processor time that the
        system took, and whether all runs ended with the same loss.
    """
    runs: dict[str, list[tuple[float, float, float]]] = {GIVEN_BACK: [], KEPT: []}
    for turn in range(repeats):
        for name in list(runs) if turn % 2 == 0 else list(reversed(runs)):
            runs[name].append(_run(name == KEPT, steps))
    plain = statistics.median(seconds for seconds, _, _ in runs[GIVEN_BACK])
    losses = {loss for found in runs.values() for _, _, loss in found}
    return [
        {
            "benchmark": "freed-memory",
            "contender": name,
            "steps_per_second": steps / statistics.median(seconds for seconds, _, _ in found),
            "ratio": plain / statistics.median(seconds for seconds, _, _ in found),
            "system_share": statistics.median(share for _, share, _ in found),
            "equal_loss": len(losses) == 1,
            "repeats": repeats,
        }
        for name, found in runs.items()
    ]


def measure(kept: bool, steps: int) -> None:
    """Train in this process; prints seconds, the system's share of the processor time, and the last loss."""
    import time

    import torch

    from oanet.batch import FaceBatch
    from oanet.detectors import build_detector
    from oanet.objectives import build_objective
    from pipelines.memory import keep_freed_memory

    if kept:
        keep_freed_memory()
    torch.manual_seed(0)
    objective: Any = build_objective("ssdg", build_detector("oanet", preset="tiny", seed=0), 3, seed=0)
    generator = torch.Generator().manual_seed(0)
    image, cue = (torch.randn(48, 3, 64, 64, generator=generator) for _ in range(2))
    place = torch.arange(48)
    batch = FaceBatch(image=image, cue=cue, label=place % 2, domain=place // 2 % 3, key=[str(i) for i in range(48)])
    optimizer = torch.optim.AdamW(objective.parameters(), 1e-3)

    def train(count: int) -> float:
        for _ in range(count):
            loss = objective(batch, 0.5)["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return float(loss.detach())

    train(3)
    clock, before = time.perf_counter(), os.times()
    last = train(steps)
    after = os.times()
    system, user = after.system - before.system, after.user - before.user
    print(time.perf_counter() - clock, system / (system + user), last)


def _run(kept: bool, steps: int) -> tuple[float, float, float]:
    program = f"from pipelines.benchmarks.freed_memory import measure; measure({kept}, {steps})"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    seconds, share, loss = map(float, done.stdout.split()[-3:])
    return seconds, share, loss

"""What `--dry-run` predicts beside what a training step takes here, on one process and on two."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dfg.unet import checkpoint_gradients
from pipelines.cost import models
from pipelines.cost.counting import DTYPES
from pipelines.cost.estimate import face_seconds, step_seconds, training_memory
from pipelines.cost.machines import GIB, machine_at_hand, machine_of
from pipelines.cost.parts import Part, calls_of, left_of, parts_of_plan
from pipelines.experiment.file import read_experiment
from pipelines.training.optimizer import WeightAverage, make_optimizer
from scripts.bench import CLONE
from scripts.bench.turns import plain_environment

# The compact generator on faces of 256 pixels, and the detector of the small experiments.
_COMPACT = ["generator.loop.batch_size=2", "generator.loop.mixed_precision='no'"]
WORK: dict[str, tuple[str, str, list[str]]] = {
    "compact generator": ("generator", "dfg_compact.yaml", _COMPACT),
    "compact generator, checkpointed": (
        "generator", "dfg_compact.yaml", [*_COMPACT, "generator.gradient_checkpointing=true"]
    ),
    "tiny OA-Net": ("detector", "loo.yaml", []),
}  # fmt: skip


def cost_benchmark(steps: int = 2) -> list[dict[str, Any]]:
    """Run optimiser steps of real models in fresh processes.

    Returns:
        A row per work and number of processes: seconds of a step and gibibytes of a process, predicted and measured.
    """
    return [_row(work, processes, steps) for work in WORK for processes in (1, 2)]


def scale_table() -> list[dict[str, Any]]:
    """What configs/dfg_paper.yaml costs on one, eight and sixty-four GPUs, by data sheets; nothing is run.

    Returns:
        A row per card and number: the memory of a GPU, hours of the generator's 150,000 steps, and of 200,000 cues.
    """
    experiment = read_experiment(CLONE / "configs" / "dfg_paper.yaml", ["profile=gpu", "output=nowhere"])
    parts = {part.kind: part for part in left_of(parts_of_plan(experiment))}
    generator, restoration = parts["generator"], parts["restoration"]
    restoring = models.restoring(restoration)
    needs = {count: models.training(generator, machine_of("h100", count)) for count in (1, 8)}
    rows = []
    for gpu in ("rtx4090", "a100-40", "a100-80", "h100"):
        for count in (1, 8, 64):
            machine = machine_of(gpu, count).in_tf32(True)
            need = needs.get(count)
            memory = sum(training_memory(need, machine).values()) / GIB if need else None
            hours = generator.amount * step_seconds(need, machine) / 3600 if need else None
            cues = 200_000 * face_seconds(restoring, machine, [calls_of(experiment, 801)], plain=True) / 3600
            rows.append(
                {
                    "benchmark": "scale", "gpu": gpu, "gpus": count,
                    "generator, GiB of a GPU": "–" if memory is None else f"{memory:.1f} of {machine.memory / GIB:.1f}",
                    "generator, 150,000 steps": "at most 32 GPUs" if hours is None else f"{hours:.1f} h",
                    "200,000 cues at t = 801": f"{cues:.1f} h" if cues >= 1 else f"{60 * cues:.0f} min",
                }
            )  # fmt: skip
    return rows


def _row(work: str, processes: int, steps: int) -> dict[str, Any]:
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    program += ["-m", "scripts.bench.cost", work, str(steps)]
    threads = max(1, (os.cpu_count() or 1) // processes)
    done = subprocess.run(
        program, capture_output=True, text=True, check=True, cwd=CLONE,
        env={**plain_environment(), "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(CLONE)},
    )  # fmt: skip
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("measured ")]
    step, step_here, memory, memory_here = (max(map(float, column)) for column in zip(*lines, strict=True))
    return {
        "benchmark": "cost", "work": work, "processes": processes,
        "step_predicted_s": step, "step_measured_s": step_here, "step_ratio": step / step_here,
        "memory_predicted_gib": memory, "memory_measured_gib": memory_here, "memory_ratio": memory / memory_here,
        "steps": steps,
    }  # fmt: skip


def measure(work: str, steps: int) -> None:
    """One process: predict, then train a few steps of the real model; prints both."""
    dist.init_process_group("gloo")
    kind, config, overrides = WORK[work]
    part = _part(kind, config, overrides)
    # Measured at once by all processes, on the cores that each has.
    machine = replace(machine_at_hand(), count=dist.get_world_size())
    need = models.training(part, machine)
    predicted = step_seconds(need, machine), sum(training_memory(need, machine).values())
    before = _resident()
    seconds = train_steps(part, need.faces, steps)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("measured", predicted[0], seconds, predicted[1] / GIB, (peak - before) / GIB, flush=True)
    dist.destroy_process_group()


def _part(kind: str, config: str, overrides: list[str]) -> Part:
    experiment = read_experiment(CLONE / "configs" / config, [*overrides, "output=nowhere"])
    return next(part for part in left_of(parts_of_plan(experiment)) if part.kind == kind)


def train_steps(part: Part, faces: int, steps: int, device: str = "cpu") -> float:
    """Seconds of one step of `faces` faces, as the training loop takes it: optimiser, clipping, average."""
    loop = models.loop_of(part)
    objective, makes = models.objective_of(part)
    if part.kind == "generator" and getattr(part.experiment.generator, "gradient_checkpointing", False):
        checkpoint_gradients(objective.unet)
    with torch.device(device):
        batch = makes(objective, faces)
    nn.Module.to(objective.train(), device)
    average = WeightAverage(objective, loop.ema_decay) if loop.ema_decay else None
    optimizer = make_optimizer(objective, loop)
    several = dist.is_initialized() and dist.get_world_size() > 1
    model = DistributedDataParallel(objective, gradient_as_bucket_view=True) if several else objective
    dtype, start = DTYPES.get(loop.mixed_precision), 0.0
    for number in range(steps + 1):
        if number == 1:  # the first step makes the optimiser's state
            _wait(device)
            start = time.perf_counter()
        with torch.autocast(torch.device(device).type, dtype, enabled=dtype is not None):
            loss = model(batch, 0.5)["loss"]
        loss.float().backward()
        if loop.max_grad_norm:
            nn.utils.clip_grad_norm_(model.parameters(), loop.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        if average is not None:
            average.update(objective, number + 1)
    _wait(device)
    return (time.perf_counter() - start) / steps


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _resident() -> int:
    """Bytes of this process in main memory."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    torch.manual_seed(0)
    measure(sys.argv[1], int(sys.argv[2]))

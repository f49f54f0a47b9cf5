"""What several processes cost beside one: processor time of a training step, over all processes, on one machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from dfg.objective import DenoisingObjective
from dfg.schedule import sd_scheduler
from dfg.unet import build_unet
from oanet.batch import FaceBatch
from oanet.detectors import build_detector
from oanet.objectives import build_objective
from pipelines.memory import keep_freed_memory
from pipelines.training.loop import fit
from pipelines.training.run import Run
from pipelines.training.settings import LoopSettings
from scripts.bench import CLONE
from scripts.bench.turns import plain_environment, race

GENERATOR, DETECTOR = "generator, tiny U-Net, 64 latents of 32 x 32", "OA-Net, tiny, SSDG, 48 faces of 64 pixels"
_WARM = 3


def processes_benchmark(steps: int = 12, repeats: int = 5) -> list[dict[str, Any]]:
    """Train the same steps in one, two and four processes, each on one thread.

    Returns:
        A row per model and number of processes: median processor seconds of a step, summed over the processes; the
        ratio to one process; and the largest relative difference of a step's loss to that of one process.
    """
    return [row for work in (GENERATOR, DETECTOR) for row in _rows(work, steps, repeats)]


def _rows(work: str, steps: int, repeats: int) -> list[dict[str, Any]]:
    counts = {f"{count} processes": count for count in (1, 2, 4)}
    contenders = {name: partial(_run, work, count, steps) for name, count in counts.items()}
    timings = race(contenders, repeats, measured=lambda run: run["seconds"])
    alone = timings.results["1 processes"][0]["losses"]
    return [
        {
            "benchmark": "processes",
            "work": work,
            "processes": counts[name],
            "processor_seconds_per_step": median,
            "ratio": median / timings.medians["1 processes"],
            "loss_differs_by": max(
                abs(a - b) / abs(a) for a, b in zip(alone, timings.results[name][0]["losses"], strict=True)
            ),
            "repeats": repeats,
        }
        for name, median in timings.medians.items()
    ]


def _run(work: str, processes: int, steps: int) -> dict[str, Any]:
    """Seconds of a step over all processes, and the losses."""
    with TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        program = f"from scripts.bench.processes import measure; measure({work!r}, {folder!r}, {steps})"
        ranks = []
        for rank in range(processes):
            environment = {
                **plain_environment(), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "RANK": str(rank),
                "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "",
            }  # fmt: skip
            command = [sys.executable, "-c", program]
            ranks.append(subprocess.Popen(command, env=environment, cwd=CLONE, stdout=subprocess.PIPE, text=True))
        answers = [json.loads(rank.communicate()[0].splitlines()[-1]) for rank in ranks]
    return {"seconds": sum(answer["seconds"] for answer in answers), "losses": answers[0]["losses"]}


def measure(work: str, folder: str, steps: int) -> None:
    """Train in this process's share; prints its processor seconds per step and the losses."""
    keep_freed_memory()
    clock = []

    def after_step(step: int, objective: nn.Module) -> None:
        if step in (_WARM, _WARM + steps):
            clock.append(sum(os.times()[:2]))

    settings = LoopSettings(steps=_WARM + steps, log_every=1, checkpoint_every=10**6)
    run = Run(Path(folder), {})
    fit(_objective(work), _Drawn(work), settings, run, title=work, after_step=after_step)
    print(json.dumps({"seconds": (clock[1] - clock[0]) / steps, "losses": [line["loss"] for line in run.metrics()]}))


def _objective(work: str) -> Any:
    torch.manual_seed(0)
    if work == GENERATOR:
        return DenoisingObjective(
            build_unet("tiny", in_channels=4, sample_size=32, cross_attention_dim=64), sd_scheduler()
        )
    return build_objective("ssdg", build_detector("oanet", preset="tiny", seed=0), 3, seed=0)


class _Drawn:
    """The same random batch at every step: making it is not what is measured."""

    def __init__(self, work: str) -> None:
        self.size = 64 if work == GENERATOR else 48
        draw = torch.Generator().manual_seed(0)
        place = torch.arange(self.size)
        if work == GENERATOR:
            shapes = {"latents": (4, 32, 32), "noise": (4, 32, 32), "tokens": (49, 64)}
            self.values = {name: torch.randn(self.size, *shape, generator=draw) for name, shape in shapes.items()}
            self.values["timesteps"] = torch.randint(1000, (self.size,), generator=draw)
        else:
            self.values = {name: torch.randn(self.size, 3, 64, 64, generator=draw) for name in ("image", "cue")}
            self.values |= {"label": place % 2, "domain": place // 2 % 3}

    def __call__(self, step: int, rows: slice) -> Any:
        mine = {name: value[rows] for name, value in self.values.items()}
        return mine if "latents" in mine else FaceBatch(**mine, key=[str(step)] * len(mine["label"]))

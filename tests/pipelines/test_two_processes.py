"""Two processes on a CPU (gloo): the loss curve, the weights and the whole chain equal those of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from pathlib import Path
import torch
from torch import nn
from safetensors.torch import save_file
from pipelines.generator_settings import LoopSettings
from pipelines.processes import is_main, rank_and_world
from pipelines.training.batches import LatentBatches
from pipelines.training.loop import fit
from pipelines.training.run import Run
import numpy as np


class Views:
    views = 2

    def __len__(self):
        return 24

    def read(self, rows, views):
        latents = np.sin(rows[:, None, None, None] + np.arange(18).reshape(2, 3, 3) + views[:, None, None, None])
        return latents.astype(np.float32), np.ones((len(rows), 4, 5), np.float32)


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 2, 3, padding=1))

    def forward(self, batch, progress=0.0):
        return {"loss": (self.net(batch["latents"] + batch["noise"]) - batch["noise"]).square().mean()}


folder = Path(sys.argv[1])
settings = LoopSettings(steps=12, batch_size=8, learning_rate=0.01, log_every=1, checkpoint_every=5, max_grad_norm=1.0)
model = Denoiser()
run = Run(folder, {"test": 1})
fit(model, LatentBatches(Views(), 8, 1000, seed=0), settings, run, title="train")
if is_main():
    save_file(model.state_dict(), folder / "final.safetensors")
    (folder / "processes.txt").write_text(str(rank_and_world()[1]))
"""


def launch(processes: int, *command: object) -> None:
    """Start a command in some processes with torchrun, without a GPU."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    result = subprocess.run(
        [*torchrun, *map(str, command)], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-5000:]


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_training_in_two_processes_equals_one(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    for count in (1, 2):
        launch(count, script, tmp_path / str(count))
    one, two = (load_file(tmp_path / str(count) / "final.safetensors") for count in (1, 2))
    assert [(tmp_path / name / "processes.txt").read_text() for name in ("1", "2")] == ["1", "2"]
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    # What is logged is the main process's share of the batch, so the curves agree in their course, not in a digit.
    assert len(losses(tmp_path / "1")) == len(losses(tmp_path / "2")) == 12


def test_the_chain_in_two_processes(tmp_path):
    from test_chain import settings

    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(settings(tmp_path / "out")))
    launch(2, "-m", "pipelines.cli", "evaluate", path)
    result = next((tmp_path / "out" / "detectors").glob("*/result.json"))
    assert set(json.loads(result.read_text())["splits"]) == {"to_phone", "to_webcam"}
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert len(plan["experiments"]) == 1

"""Two processes on a CPU (gloo): the loss curve, the weights and the whole chain equal those of one.

And what they must agree on: a loss that is not finite on one of them, and a precision after another one.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from launching import launch
from safetensors.torch import load_file
from small_experiments import chain_settings

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from pathlib import Path
import torch
from torch import nn
from safetensors.torch import save_file
from pipelines.training.settings import LoopSettings
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
settings = LoopSettings(
    steps=12, batch_size=8, learning_rate=0.01, log_every=1, checkpoint_every=5, max_grad_norm=1.0, workers=1
)
model = Denoiser()
run = Run(folder, {"test": 1})
fit(model, LatentBatches(Views(), 8, 1000, seed=0), settings, run, title="train")
if is_main():
    save_file(model.state_dict(), folder / "final.safetensors")
    (folder / "processes.txt").write_text(str(rank_and_world()[1]))
"""


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
    assert len(losses(tmp_path / "1")) == 12
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-5)


# Trains in bf16, then in float32; in the third training the loss of the second process alone is no number.
TOGETHER = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from torch import nn
from pipelines.errors import AgfasError
from pipelines.training.settings import LoopSettings
from pipelines.processes import rank_and_world
from pipelines.training.loop import fit
from pipelines.training.run import Run


class Line(nn.Module):
    def __init__(self, broken_from=99):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.broken_from = nn.Linear(4, 1), broken_from

    def forward(self, batch, progress=0.0):
        loss = (self.net(batch["x"]) - batch["x"].sum(1, keepdim=True)).square().mean()
        if rank_and_world()[0] == 1 and progress * 6 > self.broken_from:
            loss = loss * float("nan")
        return {"loss": loss}


class Batches:
    size = 8

    def __call__(self, step, rows):
        return {"x": torch.randn(8, 4, generator=torch.Generator().manual_seed(step))[rows]}


batches = Batches()


folder = Path(sys.argv[1])
weights = {}
for precision in ("bf16", "no"):
    model = Line()
    settings = LoopSettings(steps=6, learning_rate=0.01, mixed_precision=precision, log_every=1)
    fit(model, batches, settings, Run(folder / precision, {}), title=precision)
    weights |= {f"{precision}.{name}": value for name, value in model.state_dict().items()}
rank, world_size = rank_and_world()
assert world_size == 2
save_file(weights, folder / f"rank{rank}.safetensors")
try:
    fit(Line(broken_from=2), batches, LoopSettings(steps=6), Run(folder / "broken", {}), title="broken")
except AgfasError as error:
    (folder / f"rank{rank}.txt").write_text(str(error))
"""


def test_two_processes_change_their_precision_and_end_together(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TOGETHER)
    launch(2, script, tmp_path / "out")
    one, two = (load_file(tmp_path / "out" / f"rank{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert not torch.equal(one["bf16.net.weight"], one["no.net.weight"])
    for rank in (0, 1):
        assert "became nan at step 3" in (tmp_path / "out" / f"rank{rank}.txt").read_text()


def test_the_chain_in_two_processes(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(chain_settings(tmp_path / "out")))
    launch(2, "-m", "pipelines.cli", "evaluate", path)
    result = next((tmp_path / "out" / "detectors").glob("*/result.json"))
    assert set(json.loads(result.read_text())["folds"]) == {"to_phone", "to_webcam"}
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert len(plan["experiments"]) == 1

"""Two processes: extra live faces and a watched dev loss give what one gives; a hook keeps both equal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from launching import launch
from safetensors.torch import load_file
from small_experiments import SMALL_LIMITED

from pipelines.experiment.config import Experiment
from pipelines.experiment.file import with_overrides

pytestmark = pytest.mark.slow

SMALL_DETECTOR = {
    "name": "image_only", "preset": "tiny", "image_size": 32, "stem": "patch",
    "backbone_options": {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
}  # fmt: skip

SCRIPT = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from oanet.batch import FaceBatch
from oanet.detectors import build_detector
from oanet.objectives import build_objective
from pipelines.training.settings import LoopSettings
from pipelines.processes import rank_and_world
from pipelines.training.loop import fit
from pipelines.training.run import Run


class Faces:
    size = 8

    def __call__(self, step, rows):
        generator = torch.Generator().manual_seed(step)
        label = torch.arange(8) % 2
        image = torch.rand(8, 3, 64, 64, generator=generator)
        domain, keys = torch.arange(8) // 2 % 2, [str(number) for number in range(8)]
        return FaceBatch(image[rows], None, label[rows], domain[rows], keys[rows])


folder = Path(sys.argv[1])
objective = build_objective("sa_fas", build_detector("resnet18", preset="tiny"), 2, alignment=0.9, alignment_start=0.3)
settings = LoopSettings(steps=6, learning_rate=0.01, log_every=2, checkpoint_every=2)
fit(objective, Faces(), settings, Run(folder, {"test": 1}), title="train")
rank, world_size = rank_and_world()
assert world_size == 2
weights = {name: value.contiguous() for name, value in objective.named_parameters()}
save_file(weights, folder / f"rank{rank}.safetensors")
"""


def test_extra_faces_and_a_watched_loss_give_what_one_process_gives(tmp_path):
    weights, lines = [], []
    for count in (1, 2):
        changes = {
            **SMALL_LIMITED,
            "output": str(tmp_path / str(count)),
            "detector": SMALL_DETECTOR,
            "objective": {"name": "label_smoothing"},
            "train.steps": 6,
            "train.per_cell": 4,
            "train.shift": 2,
            "train.optimizer": "sgd",
            "train.schedule": "plateau",
            "train.plateau": {"patience": 1, "min_delta": 9.0},
            "train.look_every": 2,
            "train.extra_live": {"dataset": "corpus", "ratio": 1.0, "domain": "none"},
        }
        path = tmp_path / f"{count}.yaml"
        path.write_text(yaml.safe_dump(with_overrides(Experiment(), changes).model_dump(mode="json")))
        launch(count, "-m", "pipelines.cli", "train", path)
        (run,) = (tmp_path / str(count) / "detectors").glob("*/phone_webcam_to_tablet")
        weights.append(load_file(run / "snapshots" / "step_000006" / "model.safetensors"))
        lines.append([json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()])
    torch.testing.assert_close(weights[0], weights[1], atol=1e-5, rtol=1e-4)
    for one, two in zip(*lines, strict=True):
        assert one["learning_rate"] == two["learning_rate"]
        assert one["dev_loss"] == pytest.approx(two["dev_loss"], rel=1e-4)
    assert [line["learning_rate"] for line in lines[0]] == [1e-3, 1e-3, 5e-4]


def test_the_hook_after_the_step_keeps_processes_equal(tmp_path: Path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    launch(2, script, tmp_path / "run")
    one, two = (load_file(tmp_path / "run" / f"rank{rank}.safetensors") for rank in (0, 1))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any("classifier.linear" in name for name in one)

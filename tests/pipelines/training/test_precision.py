"""Precisions: several in one process, a bf16 generator that resumes, and the scaler of fp16 gradients.

fp16 itself needs a GPU. What a checkpoint must keep of it, the scaler, is torch's own here, on the processor.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from training_parts import SMALL_UNET, Killed, Regression, Views, batches

from dfg.objective import DenoisingObjective
from dfg.schedule import sd_scheduler
from dfg.unet import build_unet
from pipelines.errors import AgfasError
from pipelines.files import read_json, write_json
from pipelines.seals import seal
from pipelines.training import loop
from pipelines.training.batches import LatentBatches
from pipelines.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from pipelines.training.loop import fit
from pipelines.training.run import Run
from pipelines.training.settings import LoopSettings

GENERATOR = LoopSettings(steps=5, batch_size=4, learning_rate=1e-3, ema_decay=0.5, checkpoint_every=2, log_every=1)


def generator() -> DenoisingObjective:
    unet = build_unet("tiny", in_channels=2, sample_size=4, cross_attention_dim=5, **SMALL_UNET)
    return DenoisingObjective(unet, sd_scheduler())


def train_generator(folder, precision="bf16", **options):
    torch.manual_seed(0)
    objective = generator()
    settings = GENERATOR.model_copy(update={"mixed_precision": precision})
    fit(objective, LatentBatches(Views(), 4, 1000, 0), settings, Run(folder, {}), title="generator", **options)
    return objective.state_dict()


def train_detector(folder):
    model = Regression()
    fit(model, batches, LoopSettings(steps=5, learning_rate=0.05), Run(folder, {}), title="detector")
    return model.state_dict()


def kill_at_three(step, model):
    if step == 3:
        raise Killed


def assert_equal(one, two):
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def test_a_killed_generator_in_bf16_ends_bit_identical(tmp_path):
    whole = train_generator(tmp_path / "whole")
    with pytest.raises(Killed):
        train_generator(tmp_path / "killed", after_step=kill_at_three)
    assert_equal(whole, train_generator(tmp_path / "killed"))
    plain = train_generator(tmp_path / "plain", "no")
    assert any(not torch.equal(value, plain[name]) for name, value in whole.items())
    assert all(value.dtype == plain[name].dtype for name, value in whole.items())


FRESH = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
import test_precision

torch.set_num_threads(1)
for what in sys.argv[2:]:
    trained = getattr(test_precision, f"train_{what}")(Path(sys.argv[1]) / what)
    save_file({name: value.contiguous() for name, value in trained.items()}, Path(sys.argv[1]) / f"{what}.safetensors")
"""


def start(folder, *what):
    """A fresh process that trains these one after the other."""
    folder.mkdir()
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", FRESH, str(folder), *what], env=environment, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_two_precisions_in_one_process_give_what_fresh_processes_give(tmp_path):
    orders = [("generator",), ("detector",), ("generator", "detector"), ("detector", "generator")]
    folders = [tmp_path / "-".join(order) for order in orders]
    processes = [start(folder, *order) for folder, order in zip(folders, orders, strict=True)]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
    for what in ("generator", "detector"):
        alone = load_file(tmp_path / what / f"{what}.safetensors")
        for together in folders[2:]:
            assert_equal(alone, load_file(together / f"{what}.safetensors"))


@pytest.mark.parametrize("order", [("bf16", "no", "bf16"), pytest.param(("no", "bf16", "no"), marks=pytest.mark.slow)])
def test_the_precision_may_change_within_a_process(tmp_path, order):
    weights = [train_generator(tmp_path / str(number), precision) for number, precision in enumerate(order)]
    assert_equal(weights[0], weights[2])
    assert any(not torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def scaled_loop(monkeypatch):
    """Let the loop scale its gradients as fp16 on a GPU does; returns the scalers that it made.

    The scale doubles after every three steps whose gradients are finite.
    """
    scalers = []

    def with_scaler(settings, device):
        scalers.append(torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3))
        return scalers[-1]

    monkeypatch.setattr(loop, "gradient_scaler", with_scaler)
    return scalers


def test_a_resumed_run_goes_on_with_the_scale_of_its_gradients(tmp_path, monkeypatch):
    scalers = scaled_loop(monkeypatch)
    settings = LoopSettings(steps=10, learning_rate=0.05, checkpoint_every=4)

    def kill_at_six(step, model):
        if step == 6:
            raise Killed

    whole, resumed = Regression(), Regression()
    fit(whole, batches, settings, Run(tmp_path / "whole", {}), title="whole")
    with pytest.raises(Killed):
        fit(Regression(), batches, settings, Run(tmp_path / "killed", {}), title="killed", after_step=kill_at_six)
    fit(resumed, batches, settings, Run(tmp_path / "killed", {}), title="resumed")
    assert scalers[0].get_scale() == 8.0 * 2**3
    assert scalers[2].state_dict() == scalers[0].state_dict()
    assert_equal(whole.state_dict(), resumed.state_dict())


def test_gradients_are_clipped_without_their_scale(tmp_path, monkeypatch):
    settings = LoopSettings(steps=4, optimizer="sgd", learning_rate=0.05, max_grad_norm=0.1)
    plain, scaled = Regression(), Regression()
    fit(plain, batches, settings, Run(tmp_path / "plain", {}), title="plain")
    assert not scaled_loop(monkeypatch)
    fit(scaled, batches, settings, Run(tmp_path / "scaled", {}), title="scaled")
    assert_equal(plain.state_dict(), scaled.state_dict())


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what to do without a GPU")
def test_fp16_without_a_gpu_is_refused(tmp_path):
    with pytest.raises(AgfasError, match="fp16 needs a GPU"):
        fit(Regression(), batches, LoopSettings(mixed_precision="fp16"), Run(tmp_path, {}), title="fp16")


def overflowed() -> tuple[torch.nn.Module, torch.optim.Optimizer, torch.amp.GradScaler]:
    """A model after one step and one overflow, which halves the scale and is skipped."""
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=7)
    for factor in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale(model(torch.ones(1, 2)).sum() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
    return model, optimizer, scaler


def test_a_checkpoint_keeps_the_scaler_and_an_older_one_without_it_loads(tmp_path):
    model, optimizer, scaler = overflowed()
    save_checkpoint(tmp_path, 3, TrainingState(model, optimizer, scaler=scaler))
    fresh = torch.amp.GradScaler("cpu")
    assert load_checkpoint(tmp_path, TrainingState(model, optimizer, scaler=fresh)) == 3
    assert fresh.state_dict() == scaler.state_dict()
    assert fresh.state_dict()["scale"] == 512.0
    assert fresh.state_dict()["_growth_tracker"] == 1
    assert load_checkpoint(tmp_path, TrainingState(model, optimizer)) == 3  # as training in float32 reads it

    state = tmp_path / "step_000003" / "state.json"
    write_json(state, {name: value for name, value in read_json(state).items() if name != "scaler"})
    seal(state.parent)
    older = torch.amp.GradScaler("cpu", init_scale=64.0)
    assert load_checkpoint(tmp_path, TrainingState(model, optimizer, scaler=older)) == 3
    assert older.get_scale() == 64.0

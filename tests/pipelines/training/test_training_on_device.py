"""Training on a GPU, by its look-alike: the weights of the CPU, and at most one wait per line of metrics."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from lookalike import Lookalike, Record
from torch import nn
from training_parts import SMALL_UNET, Killed, Regression, Views, batches

from dfg.arcface import ArcFaceObjective
from dfg.identity import IdentityEncoder
from dfg.objective import DenoisingObjective
from dfg.schedule import sd_scheduler
from dfg.unet import build_unet
from pipelines.training.batches import LatentBatches
from pipelines.training.loop import fit
from pipelines.training.run import Run
from pipelines.training.settings import LoopSettings

EVERYTHING: dict[str, Any] = {
    "steps": 9, "log_every": 3, "checkpoint_every": 4, "learning_rate": 0.05, "schedule": "cosine", "warmup": 2,
    "ema_decay": 0.9, "max_grad_norm": 1.0,
}  # fmt: skip


class Loss(Regression):
    """Without the other scalar, which it makes on the host."""

    def forward(self, batch, progress=0.0):
        return {"loss": super().forward(batch)["loss"]}


def train(
    seen: Lookalike, objective: nn.Module, data: Any, settings: LoopSettings, run: Run, stop: int = 0
) -> dict[int, list[Record]]:
    """What each step waited for, the first one that was taken left out, with the line of metrics that ends it."""
    places: dict[int, int] = {}

    def mark(step: int, model: nn.Module) -> None:
        places[step] = len(seen.synchronisations)
        if step == stop:
            raise Killed

    try:
        fit(objective, data, settings, run, title="on a GPU", after_step=mark)
    except Killed:
        assert stop
    steps = sorted(places)
    return {step: seen.synchronisations[places[before] : places[step]] for before, step in itertools.pairwise(steps)}


def check_waits(waits: dict[int, list[Record]], settings: LoopSettings) -> None:
    """One for each line of metrics; checkpoints, which are written after the step before, are no part of a step."""
    for step, records in waits.items():
        seen = [record for record in records if not record.where.startswith("pipelines/training/checkpoint.py")]
        saved = (step - 1) % settings.checkpoint_every == 0
        logged = step % settings.log_every == 0 or step == settings.steps
        assert len(seen) <= logged + saved, (step, seen)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adamw_fused"])
def test_steps_wait_once_per_line_also_after_resuming(lookalike, tmp_path, optimizer):
    settings = LoopSettings(optimizer=optimizer, **EVERYTHING)
    run = Run(tmp_path / "run", {})
    check_waits(train(lookalike, Loss(), batches, settings, run, stop=6), settings)
    model = Loss()
    waits = train(lookalike, model, batches, settings, run)
    assert sorted(waits) == [6, 7, 8, 9]
    check_waits(waits, settings)
    assert all(value.is_cuda for value in model.state_dict().values())


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_weights_are_those_of_the_cpu(lookalike, tmp_path, precision):
    settings = LoopSettings(**{**EVERYTHING, "mixed_precision": precision})
    model = Regression()
    fit(model, batches, settings, Run(tmp_path / "there", {}), title="there")
    assert next(model.parameters()).is_cuda
    assert all(value.isfinite().all() for value in model.state_dict().values())


class Pictures:
    """Eight faces of four people."""

    size = 8

    def __call__(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        image = np.random.default_rng(step).uniform(-1, 1, (8, 3, 32, 32)).astype(np.float32)
        return {"image": torch.from_numpy(image)[rows], "identity": (torch.arange(8) % 4)[rows]}


def test_the_identity_encoder_waits_once_per_line(lookalike, tmp_path):
    encoder = IdentityEncoder.from_preset("tiny", widths=(8, 8, 8, 8), input_size=32, embedding_dim=8)
    settings = LoopSettings(steps=4, log_every=2)
    waits = train(lookalike, ArcFaceObjective(encoder, 4), Pictures(), settings, Run(tmp_path / "run", {}))
    check_waits(waits, settings)


def test_the_generator_waits_once_per_line(lookalike, tmp_path):
    unet = build_unet("tiny", in_channels=2, sample_size=4, cross_attention_dim=5, **SMALL_UNET)
    objective = DenoisingObjective(unet, sd_scheduler(), min_snr_gamma=5.0)
    data = LatentBatches(Views(), 4, 1000, seed=0, condition_dropout=0.5)
    settings = LoopSettings(steps=3, log_every=2, ema_decay=0.9, optimizer="adamw_fused", max_grad_norm=1.0)
    check_waits(train(lookalike, objective, data, settings, Run(tmp_path / "run", {})), settings)

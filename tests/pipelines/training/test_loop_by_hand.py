"""The loop's steps beside the same steps written out in plain torch: rates, clipping, averages, what it reports."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from training_parts import Line, batches, draw

from oanet.batch import FaceBatch
from oanet.detectors import build_detector
from oanet.objectives import build_objective
from pipelines.training.loop import fit
from pipelines.training.optimizer import set_learning_rate
from pipelines.training.run import Run
from pipelines.training.settings import LoopSettings, PlateauSettings
from pipelines.training.watch import DevWatch

STEPS, RATE, WARMUP = 6, 0.2, 2
RATES = [0.1, 0.2, *(0.1 * (1 + math.cos(math.pi * done / 4)) for done in range(4))]


def by_hand(optimizer: torch.optim.Optimizer, model: Line, clip: float) -> tuple[list[float], list[float]]:
    """Train with the rates above; the losses, and the mean absolute errors."""
    losses, sizes = [], []
    for step, rate in enumerate(RATES):
        batch = draw(step)
        error = model.net(batch["x"]) - batch["y"]
        optimizer.zero_grad()
        (error**2).mean().backward()
        norm = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters()))
        for parameter in model.parameters():
            parameter.grad.mul_(min(1.0, clip / norm) if clip else 1.0)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        losses.append(float((error**2).mean().detach()))
        sizes.append(float(error.abs().mean().detach()))
    return losses, sizes


@pytest.mark.parametrize("clip", [0.0, 0.7])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_the_loop_takes_the_steps_of_plain_torch_at_the_rates_of_its_schedule(tmp_path, name, clip):
    hand, model = Line(), Line()
    if name == "sgd":
        optimizer = torch.optim.SGD(hand.parameters(), 99.0, momentum=0.8, weight_decay=0.1)
    else:
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
        optimizer = kind(hand.parameters(), 99.0, betas=(0.7, 0.8), weight_decay=0.1)
    losses, sizes = by_hand(optimizer, hand, clip)
    settings = LoopSettings(
        steps=STEPS,
        optimizer=name,
        learning_rate=RATE,
        momentum=0.8,
        betas=(0.7, 0.8),
        weight_decay=0.1,
        schedule="cosine",
        warmup=WARMUP,
        max_grad_norm=clip,
        log_every=2,
    )
    run = Run(tmp_path, {})
    assert fit(model, batches, settings, run, title=name) == STEPS
    for one, other in zip(hand.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    lines = run.metrics()
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert [line["learning_rate"] for line in lines] == pytest.approx([RATES[1], RATES[3], RATES[5]])
    assert [line["loss"] for line in lines] == pytest.approx([sum(losses[at : at + 2]) / 2 for at in (0, 2, 4)], 1e-4)
    assert [line["size"] for line in lines] == pytest.approx([sum(sizes[at : at + 2]) / 2 for at in (0, 2, 4)], 1e-4)
    assert all(0 < line["seconds_per_step"] < 60 for line in lines)


def test_the_rate_is_that_of_all_groups():
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "lr": 3.0}], 1.0)
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_a_plateau_lowers_the_rate_of_the_steps_that_follow(tmp_path):
    """Every second step sees the same loss: the second look is the first without a gain."""
    settings = LoopSettings(steps=7, learning_rate=0.08, log_every=1)
    watch = DevWatch(lambda objective: 1.0, 2, PlateauSettings(patience=1, min_learning_rate=0.03), None)
    run = Run(tmp_path, {})
    fit(Line(), batches, settings, run, title="plateau", watch=watch)
    rates = [line["learning_rate"] for line in run.metrics()]
    assert rates == pytest.approx([0.08, 0.08, 0.08, 0.08, 0.04, 0.04, 0.03])
    assert [line.get("dev_loss") for line in run.metrics()] == [None, 1.0, None, 1.0, None, 1.0, None]


def test_an_objective_hears_after_every_step_how_far_the_training_is(tmp_path):
    class Faces:
        size = 4

        def __call__(self, step: int, rows: slice) -> FaceBatch:
            image = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(step))
            number = torch.arange(4)
            return FaceBatch(image[rows], None, (number % 2)[rows], (number // 2)[rows], list("abcd")[rows])

    torch.manual_seed(0)
    detector = build_detector("livenessnet", image_size=32, width=2, hidden=4)
    objective = build_objective("erm", detector, num_domains=2)
    heard, counted = [], []
    objective.after_step = heard.append
    settings = LoopSettings(steps=4, learning_rate=1e-3)
    run = Run(tmp_path, {})
    fit(objective, Faces(), settings, run, title="heard", after_step=lambda step, model: counted.append(step))
    assert heard == [0.25, 0.5, 0.75, 1.0]
    assert counted == [1, 2, 3, 4]


def test_what_looks_at_the_model_between_steps_leaves_it_training(tmp_path):
    modes = []

    class Watched(Line):
        def forward(self, batch, progress=0.0):
            modes.append(self.training)
            return super().forward(batch)

    watch = DevWatch(lambda model: float(model.eval().training), 1, None, None)
    settings = LoopSettings(steps=3)
    fit(Watched(), batches, settings, Run(tmp_path / "looked", {}), title="looked", watch=watch)
    fit(
        Watched().eval(),
        batches,
        settings,
        Run(tmp_path / "a", {}),
        title="a",
        after_step=lambda _, model: model.eval(),
    )
    assert modes == [True] * 6


def test_the_average_of_the_weights_is_what_the_run_ends_with(tmp_path):
    """d is 0 at the first step, then n / (9 + n) until it passes 0.2."""
    model, seen = Line(), []

    def keep(step: int, trained: nn.Module) -> None:
        seen.append(trained.net.weight.detach().clone())

    settings = LoopSettings(steps=4, learning_rate=0.1, optimizer="sgd", ema_decay=0.2)
    fit(model, batches, settings, Run(tmp_path, {}), title="average", after_step=keep)
    average = seen[0]
    for weight, decay in zip(seen[1:], (2 / 11, 0.2, 0.2), strict=True):
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(model.net.weight.detach(), average)

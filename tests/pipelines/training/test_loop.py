"""The training loop: resumed equals uninterrupted, accumulation equals one batch, averages, schedules, trackers."""

from __future__ import annotations

import itertools

import pytest
import torch
from accelerate import tracking
from diffusers.training_utils import EMAModel
from torch import nn
from training_parts import Killed, Line, Regression, batches

from pipelines.errors import AgfasError
from pipelines.files import temporary_beside
from pipelines.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from pipelines.training.loop import fit
from pipelines.training.optimizer import WeightAverage, learning_rate, make_optimizer
from pipelines.training.run import Run
from pipelines.training.settings import LoopSettings


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "adamw_fused"])
def test_vectors_are_decayed_unless_it_is_said(optimizer):
    """Without a gradient, decay alone moves a weight."""
    moved = {}
    for decays in (True, False):
        model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
        torch.nn.init.ones_(model[0].weight)
        torch.nn.init.ones_(model[0].bias)
        settings = LoopSettings(optimizer=optimizer, learning_rate=0.1, weight_decay=0.5, decay_vectors=decays)
        step = make_optimizer(model, settings)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        step.step()
        names = ("0.weight", "0.bias", "1.weight")
        moved[decays] = [
            not torch.equal(model.get_parameter(n), torch.ones_like(model.get_parameter(n))) for n in names
        ]
    assert moved == {True: [True, True, True], False: [True, False, False]}


def test_a_resumed_run_keeps_its_groups(tmp_path):
    settings = LoopSettings(steps=8, learning_rate=0.05, weight_decay=0.5, decay_vectors=False, checkpoint_every=3)
    whole, resumed = Regression(), Regression()
    fit(whole, batches, settings, Run(tmp_path / "whole", {}), title="whole")

    def stop_at_five(step, model):
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        fit(Regression(), batches, settings, Run(tmp_path / "b", {}), title="b", after_step=stop_at_five)
    fit(resumed, batches, settings, Run(tmp_path / "b", {}), title="b")
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "adamw_fused"])
def test_a_killed_and_resumed_run_ends_bit_identical(tmp_path, optimizer):
    settings = LoopSettings(
        steps=20,
        optimizer=optimizer,
        learning_rate=0.05,
        schedule="cosine",
        warmup=3,
        ema_decay=0.9,
        checkpoint_every=4,
        log_every=2,
        max_grad_norm=1.0,
    )
    whole = Regression()
    fit(whole, batches, settings, Run(tmp_path / "whole", {"a": 1}), title="whole")

    def stop_at_eleven(step, model):
        if step == 11:
            raise Killed

    run = Run(tmp_path / "killed", {"a": 1})
    with pytest.raises(Killed):
        fit(Regression(), batches, settings, run, title="killed", after_step=stop_at_eleven)
    resumed = Regression()
    run = Run(tmp_path / "killed", {"a": 1})
    fit(resumed, batches, settings.model_copy(update={"workers": 2}), run, title="resumed")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert [line["step"] for line in run.metrics()] == list(range(2, 21, 2))
    expected = [line["loss"] for line in Run(tmp_path / "whole", {"a": 1}).metrics()]
    assert [line["loss"] for line in run.metrics()] == expected


def with_step(model, optimizer, number):
    gradients = torch.Generator().manual_seed(number)
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=gradients))
    optimizer.step()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "adamw_fused"])
def test_weights_of_any_layout_go_on_as_they_were(tmp_path, optimizer):
    """Fused kernels walk through memory: averages of another layout would belong to other weights."""
    settings = LoopSettings(optimizer=optimizer, learning_rate=0.05)
    models = [nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    first, second = (TrainingState(model, make_optimizer(model, settings)) for model in models)
    with_step(first.model, first.optimizer, 1)
    save_checkpoint(tmp_path, 1, first)
    assert load_checkpoint(tmp_path, second) == 1
    for state in (first, second):
        with_step(state.model, state.optimizer, 2)
    assert torch.equal(first.model.weight, second.model.weight)


def test_fused_adamw_is_adamw_but_for_rounding(tmp_path):
    weights = {}
    for optimizer in ("adamw", "adamw_fused"):
        model = Line()
        settings = LoopSettings(steps=20, optimizer=optimizer, learning_rate=0.05, weight_decay=0.1, betas=(0.8, 0.9))
        assert make_optimizer(model, settings).defaults["fused"] == (True if optimizer == "adamw_fused" else None)
        fit(model, batches, settings, Run(tmp_path / optimizer, {}), title=optimizer)
        weights[optimizer] = torch.nn.utils.parameters_to_vector(model.parameters())
    torch.testing.assert_close(weights["adamw"], weights["adamw_fused"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("optimizer", "expected"), [("adam", 2.0 - 0.1), ("adamw", 2.0 * (1 - 0.1 * 0.5))])
def test_adam_decays_through_its_gradient_and_adamw_beside_it(optimizer, expected):
    """Weight 2, gradient 0, rate 0.1, decay 0.5: Adam sees the gradient 0.5 * 2, and moves by the rate."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    step = make_optimizer(model, LoopSettings(optimizer=optimizer, learning_rate=0.1, weight_decay=0.5))
    model.weight.grad = torch.zeros(1, 1)
    step.step()
    assert model.weight.item() == pytest.approx(expected, rel=1e-6)


def test_a_resumed_run_removes_what_a_killed_save_left(tmp_path):
    run = Run(tmp_path / "run", {})
    places = [run.folder / "checkpoints" / "step_000002", run.folder / "pipeline"]
    left = [place.with_name(f".{place.name}.7.0123456789abcdef.tmp") for place in places]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "model.safetensors").touch()
    with temporary_beside(run.folder / "checkpoints" / "step_000004") as kept:
        kept.mkdir()
        fit(Line(), batches, LoopSettings(steps=1), run, title="resumed")
        assert kept.exists()
    assert not any(folder.exists() for folder in left)


def test_accumulated_micro_batches_equal_one_large_batch(tmp_path):
    base = {"steps": 6, "optimizer": "sgd", "learning_rate": 0.05}
    large, small = Line(), Line()
    fit(large, batches, LoopSettings(**base), Run(tmp_path / "large", {}), title="large")
    accumulating = LoopSettings(**base, gradient_accumulation=3)  # 8 faces: 2, 3 and 3
    fit(small, batches, accumulating, Run(tmp_path / "small", {}), title="small")
    torch.testing.assert_close(large.state_dict(), small.state_dict())


def test_training_lowers_the_loss(tmp_path):
    run = Run(tmp_path / "run", {})
    fit(Line(), batches, LoopSettings(steps=200, learning_rate=0.05, log_every=20), run, title="train")
    losses = [line["loss"] for line in run.metrics()]
    assert losses[-1] < 0.1 * losses[0]


def test_a_loss_that_is_no_number_is_explained(tmp_path):
    class Broken(Line):
        def forward(self, batch, progress=0.0):
            return {"loss": super().forward(batch)["loss"] * float("nan")}

    with pytest.raises(AgfasError, match="step 1"):
        fit(Broken(), batches, LoopSettings(steps=2), Run(tmp_path / "run", {}), title="broken")


def test_learning_rate_warms_up_and_falls_to_zero():
    settings = LoopSettings(steps=100, warmup=10, learning_rate=1.0, schedule="cosine")
    rates = [learning_rate(settings, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_learning_rate_falls_in_steps():
    settings = LoopSettings(steps=40, warmup=2, learning_rate=8.0, schedule="step", decay={"every": 10, "factor": 0.5})
    rates = [learning_rate(settings, step) for step in (0, 2, 9, 10, 19, 20, 39)]
    assert rates == [4.0, 8.0, 8.0, 4.0, 4.0, 2.0, 1.0]
    with pytest.raises(ValueError, match="decay is used by schedule: step only"):
        LoopSettings(decay={"every": 10})


def test_progress_counts_from_one_as_the_reversal_of_ssdg_and_ag_fas(tmp_path):
    seen = []

    class Watched(Line):
        def forward(self, batch, progress=0.0):
            seen.append(progress)
            return super().forward(batch)

    fit(Watched(), batches, LoopSettings(steps=4, batch_size=8), Run(tmp_path / "run", {}), title="watched")
    assert seen == [0.25, 0.5, 0.75, 1.0]


def test_the_weight_average_is_that_of_diffusers_at_every_step():
    model = nn.Linear(3, 2).double()
    average = WeightAverage(model, decay=0.98)
    theirs = EMAModel(model.parameters(), decay=0.98)
    for step in range(1, 600):  # from 441 on, the decay is 0.98
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
        average.update(model, step)
        theirs.step(model.parameters())
        for one, other in zip(average.shadow.values(), theirs.shadow_params, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-13)
        if step == 1:
            assert all(torch.equal(average.shadow[name], p) for name, p in model.named_parameters())


def test_a_run_folder_of_another_configuration_is_refused(tmp_path):
    Run(tmp_path / "run", {"seed": 0, "lr": 1})
    with pytest.raises(AgfasError, match=r"different: lr\."):
        Run(tmp_path / "run", {"seed": 0, "lr": 2})


def test_a_folder_with_foreign_files_is_refused(tmp_path):
    (tmp_path / "photo.txt").write_text("mine")
    with pytest.raises(AgfasError, match="not a run folder"):
        Run(tmp_path, {"seed": 0})
    assert (tmp_path / "photo.txt").read_text() == "mine"


def test_a_torn_line_of_metrics_is_left_out(tmp_path):
    run = Run(tmp_path / "run", {})
    run.log({"step": 1, "loss": 2.0})
    with (run.folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 2, "lo')
    assert run.metrics() == [{"step": 1, "loss": 2.0}]


class Remembering(tracking.GeneralTracker):
    """Keeps what it is given."""

    name = "remembering"
    requires_logging_directory = True
    opened: list = []  # noqa: RUF012
    lines: list = []  # noqa: RUF012
    finished = 0

    def __init__(self, run_name: str, logging_dir: str) -> None:
        super().__init__()
        self.opened.append((run_name, str(logging_dir)))

    @property
    def tracker(self):
        return self

    def log(self, values, step=None, **options):
        self.lines.append((step, values))

    def finish(self):
        type(self).finished += 1


def test_a_tracker_is_given_the_lines_of_the_metrics(tmp_path, monkeypatch):
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "remembering", Remembering)
    run = Run(tmp_path / "run", {})
    fit(Line(), batches, LoopSettings(steps=4, log_every=2, trackers=["remembering"]), run, title="tracked")
    assert [{"step": step, **values} for step, values in Remembering.lines] == run.metrics()
    assert [step for step, _ in Remembering.lines] == [2, 4]
    assert Remembering.finished == 1
    assert Remembering.opened == [("agfas", str(run.folder))]


def test_a_tracker_without_its_package_is_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "_available_trackers", [])
    with pytest.raises(AgfasError, match=r"'tensorboard' is not installed.*pip install 'agfas\[tracking\]'"):
        fit(Line(), batches, LoopSettings(trackers=["tensorboard"]), Run(tmp_path / "run", {}), title="tracked")
    with pytest.raises(AgfasError, match="there is no 'tensorbord'; did you mean 'tensorboard'"):
        fit(Line(), batches, LoopSettings(trackers=["tensorbord"]), Run(tmp_path / "run", {}), title="tracked")

"""What the loop shows, writes and tells the libraries beneath, and how it weighs the shares of several processes."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from training_parts import Line, batches

from dfg.noise import generator_for_key
from oanet.batch import FaceBatch
from oanet.objectives.base import Objective
from pipelines.errors import AgfasError
from pipelines.training import loop
from pipelines.training.checkpoint import TrainingState, load_checkpoint
from pipelines.training.loop import _Meter, _to_device, _Training, fit, gradient_scaler, make_accelerator
from pipelines.training.optimizer import make_optimizer
from pipelines.training.parallel import Place, shares
from pipelines.training.run import Run
from pipelines.training.settings import LoopSettings

CPU = torch.device("cpu")


class Bar:
    """Remembers how it was opened and moved."""

    def __init__(self, *opened, **options) -> None:
        self.seen: list = [(opened, options)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.seen.append("closed")

    def update(self, steps):
        self.seen.append(steps)

    def set_postfix_str(self, text):
        self.seen.append(text)


def test_the_bar_counts_steps_and_lines_checkpoints_and_seconds_are_at_their_steps(tmp_path, monkeypatch):
    """Five steps, a line every two, a checkpoint every three; a clock that moves by ten seconds at each look."""
    bars, clock, stored = [], iter(range(100, 1000, 10)), {}
    monkeypatch.setattr(loop, "bar", lambda *opened, **options: bars.append(Bar(*opened, **options)) or bars[-1])
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(clock)))
    run = Run(tmp_path, {})
    settings = LoopSettings(steps=5, log_every=2, checkpoint_every=3, trackers=[])

    def look(step, model):
        stored[step] = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("checkpoints/*/*"))

    fit(Line(), batches, settings, run, title="a line", after_step=look)
    lines = run.metrics()
    assert [line["step"] for line in lines] == [2, 4, 5]
    assert [line["seconds_per_step"] for line in lines] == [5.0, 5.0, 10.0]
    notes = [f"loss={line['loss']:.4f}" for line in lines]
    opened = ((5, "a line"), {"initial": 0, "unit": "step", "show": True})
    assert bars[0].seen == [opened, 1, 1, notes[0], 1, 1, notes[1], 1, notes[2], "closed"]
    files = ("checksums.json", "model.safetensors", "optimizer.safetensors", "state.json")
    assert stored[3] == []
    assert stored[4] == stored[5] == [f"checkpoints/step_000003/{name}" for name in files]
    fit(Line(), batches, settings, run, title="again")
    assert bars[1].seen[0] == ((5, "again"), {"initial": 3, "unit": "step", "show": True})


class Drawing(Line):
    """Draws a number in every step, and remembers it, how far the training is, and in which precision it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.precisions = [], []

    def forward(self, batch, progress=0.0):
        self.seen.append((torch.rand(1).item(), progress))
        self.precisions.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        return super().forward(batch)


@pytest.mark.parametrize("options", [{}, {"seed": 3}])
def test_what_a_step_draws_follows_from_the_seed_and_its_number(tmp_path, options):
    model = Drawing()
    fit(model, batches, LoopSettings(steps=2, gradient_accumulation=2), Run(tmp_path, {}), title="x", **options)
    expected = []
    for step in (0, 1):
        torch.manual_seed(generator_for_key(str(step), options.get("seed", 0)).initial_seed())
        expected += [(torch.rand(1).item(), (step + 1) / 2) for _ in range(2)]
    assert model.seen == expected


@pytest.mark.parametrize(("precision", "dtype"), [("no", None), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_precision_is_that_of_every_forward_pass(tmp_path, monkeypatch, precision, dtype):
    monkeypatch.setattr(loop, "gradient_scaler", lambda settings, device: None)
    model = Drawing()
    fit(model, batches, LoopSettings(steps=2, mixed_precision=precision), Run(tmp_path, {}), title="x")
    assert model.precisions == [dtype] * 2


def test_only_fp16_scales_its_gradients():
    for precision in ("no", "bf16"):
        assert gradient_scaler(LoopSettings(mixed_precision=precision), torch.device("cuda")) is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no GPU
        assert isinstance(
            gradient_scaler(LoopSettings(mixed_precision="fp16"), torch.device("cuda")), torch.amp.GradScaler
        )


def test_a_loss_that_is_no_number_becomes_no_checkpoint(tmp_path):
    class Broken(Line):
        def forward(self, batch, progress=0.0):
            found = super().forward(batch)
            return {"loss": found["loss"] * (float("inf") if progress > 0.5 else 1.0)}

    settings = LoopSettings(steps=4, log_every=4, checkpoint_every=1)
    with pytest.raises(AgfasError, match="The loss became inf at step 3"):
        fit(Broken(), batches, settings, Run(tmp_path, {}), title="x")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000002"]


def accelerated(process_index: int = 0, **more) -> SimpleNamespace:
    return SimpleNamespace(process_index=process_index, device=CPU, reduce=lambda values, how: values, **more)


def test_a_line_is_the_mean_over_its_steps_of_the_sum_over_their_parts():
    meter = _Meter(accelerated())
    for step, losses in enumerate([(1.0, 3.0), (8.0,)]):
        meter.begin(step)
        for loss in losses:
            parts = {"loss": torch.tensor(loss, dtype=torch.bfloat16), "part": torch.tensor(-1), "image": torch.ones(2)}
            meter.add({**parts, "words": "no number"}, 0.5)
    line = meter.line(7, 0.25)
    assert line.pop("seconds_per_step") > 0
    assert line == {"step": 7, "learning_rate": 0.25, "loss": (2.0 + 4.0) / 2, "part": (-1.0 - 0.5) / 2}
    meter.begin(2)
    # Rounded to bfloat16 before, and added up in float32.
    meter.add({"loss": torch.tensor(1.0, dtype=torch.bfloat16)}, 1 + 2**-10)
    meter.read()
    meter.read()
    assert meter.line(8, 0.5)["loss"] == 1 + 2**-10


class OfTheBatch(Objective):
    """An objective, whose loss is that of all faces of a micro-batch."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def loss(self, seen, batch, progress):
        return {}


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("model", [OfTheBatch(), nn.Identity()], ids=["of the batch", "of a share"])
def test_shares_of_several_processes_weigh_as_much_as_the_whole(model, accumulation):
    """DDP averages the gradients of the processes."""
    size, processes = 7, 3
    values, weight = torch.arange(7.0).square(), nn.Parameter(torch.zeros(()))
    slices, totals = shares(size, accumulation, processes), []
    for rank in range(processes):
        meter = _Meter(accelerated())
        meter.begin(2)
        training = SimpleNamespace(
            accelerator=accelerated(rank), place=Place(), objective=model, size=size, autocast=nullcontext(),
            settings=LoopSettings(steps=10), meter=meter, state=SimpleNamespace(scaler=None),
            model=lambda batch, progress: {"loss": batch["value"].mean() * (1 + weight), "at": torch.tensor(progress)},
        )  # fmt: skip
        for parts in slices:
            seen = slice(parts[0].start, parts[-1].stop) if isinstance(model, Objective) else parts[rank]
            _Training._backward(training, 2, parts, {"value": values[seen]})
            assert training.place.share.rank == rank
            assert not isinstance(model, Objective) or model.share is training.place.share
        totals.append(meter.pending[2])
    torch.testing.assert_close(weight.grad / processes, values.mean())
    torch.testing.assert_close(torch.stack(totals).sum(0), torch.tensor([values.mean(), 0.3]))


def test_accelerate_computes_in_float32_whatever_its_environment_says(tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(loop, "Accelerator", lambda **options: given.update(options) or SimpleNamespace())
    run = Run(tmp_path / "run", {})
    make_accelerator(LoopSettings(), run)
    handlers = given.pop("kwargs_handlers")
    assert given == {"cpu": loop.on_cpu(), "mixed_precision": "no", "log_with": None, "project_dir": str(run.folder)}
    assert [handler.gradient_as_bucket_view for handler in handlers] == [True]


def test_a_warning_of_strides_that_changes_nothing_is_not_shown(tmp_path):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        make_accelerator(LoopSettings(), Run(tmp_path, {}))
        warnings.warn("Grad strides do not match bucket view strides. This may", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert [str(one.message) for one in seen if "strides" in str(one.message) or "else" in str(one.message)] == [
        "something else"
    ]


@pytest.mark.parametrize("names", [["all"], []])
def test_all_trackers_are_those_that_are_there(monkeypatch, names):
    monkeypatch.setattr(loop, "get_available_trackers", list)
    loop._check_trackers(names)


def test_a_batch_goes_to_the_device_with_what_is_no_tensor():
    meta, values = torch.device("meta"), torch.ones(2, 3, 4, 4)
    moved = _to_device({"image": values, "key": ["a", "b"]}, meta)
    assert moved["image"].device == meta
    assert moved["key"] == ["a", "b"]
    label = torch.zeros(2, dtype=torch.int64)
    assert _to_device(FaceBatch(values, None, label, label, ["a", "b"]), meta).image.device == meta


def test_a_checkpoint_is_found_by_its_training_and_the_newest_counts(tmp_path):
    model = nn.Linear(2, 1)
    state = TrainingState(model, make_optimizer(model, LoopSettings()))
    assert load_checkpoint(tmp_path, state, "mine") == 0
    for step in (999_999, 1_000_000):
        loop.save_checkpoint(tmp_path, step, state, "mine")
        assert [path.name for path in tmp_path.glob("[!.]*")] == [f"step_{step}"]
    assert load_checkpoint(tmp_path, state, "mine") == 1_000_000
    with pytest.raises(AgfasError, match=r"step_1000000 is a checkpoint of another training\. Remove"):
        load_checkpoint(tmp_path, state, "theirs")
    other = nn.Linear(3, 1)
    with pytest.raises(AgfasError, match=r"cannot be read as a checkpoint of this training \(.*size mismatch"):
        load_checkpoint(tmp_path, TrainingState(other, make_optimizer(other, LoopSettings())), "mine")

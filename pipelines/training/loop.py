"""The one training loop. A method is an objective, never a copy of this loop.

The data and the random draws of a step are functions of the seed and the step's number. A run that is killed and
started again therefore takes the same steps as an uninterrupted one, and ends with the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import LoggerType, broadcast
from torch import nn

from dfg.noise import generator_for_key
from oanet.objectives.base import Objective
from pipelines.errors import AgfasError, nearest
from pipelines.files import remove_stale
from pipelines.processes import on_cpu
from pipelines.progress import bar
from pipelines.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from pipelines.training.optimizer import WeightAverage, learning_rate, make_optimizer, set_learning_rate
from pipelines.training.run import Run
from pipelines.training.settings import LoopSettings
from pipelines.training.watch import DevWatch


class Batches(Protocol):
    """A training set as a function of the step."""

    def __call__(self, step: int, rank: int, world_size: int) -> Any:
        """This process's share of the global batch of micro-step `step` (from 0)."""


AfterStep = Callable[[int, nn.Module], None]


def fit(
    objective: nn.Module,
    batches: Batches,
    settings: LoopSettings,
    run: Run,
    *,
    title: str,
    seed: int = 0,
    after_step: AfterStep | None = None,
    watch: DevWatch | None = None,
) -> int:
    """Train `objective` for `settings.steps` steps, starting from the run's newest checkpoint if there is one.

    Afterwards the objective holds the averaged weights if `ema_decay` is above 0.

    Args:
        objective: `forward(batch, progress)` returns a mapping with a scalar `loss` and further named scalars. An
            `oanet` objective may also change its weights after every optimiser step; see `Objective.after_step`.
        batches: data by step.
        settings: optimiser, schedule, precision and intervals.
        run: where checkpoints and metrics are written.
        title: label of the progress bar.
        seed: determines every random draw, together with the step's number.
        after_step: called as after_step(finished, objective) on every process, where `finished` counts steps.
        watch: evaluates the source dev loss; may lower the learning rate or stop training.

    Returns:
        The number of finished steps: `settings.steps`, or fewer if `watch` stopped training.

    Raises:
        AgfasError: the loss is not finite.
    """
    training = _Training(objective, settings, run, seed, watch)
    finished = training.first
    with bar(settings.steps, title, initial=finished, unit="step", show=training.is_main) as progress:
        for step, micro_batches in _prefetch(batches, settings, training.accelerator, finished):
            # 1. One step of the optimiser, and of the average of the weights.
            training.step(step, micro_batches)
            finished = step + 1
            progress.update(1)
            # 2. The source dev loss, if it is due.
            looked = training.look(step)
            # 3. One line of metrics.
            if looked or finished % settings.log_every == 0 or finished == settings.steps:
                line = training.log(finished, looked)
                progress.set_postfix_str(f"loss={line['loss']:.4f}")
            # 4. The caller's own: snapshots, evaluations.
            if after_step is not None:
                after_step(finished, objective)
                training.model.train()
            # 5. Stop early, or write a checkpoint.
            if watch is not None and watch.stopped:
                break
            if finished % settings.checkpoint_every == 0 and finished < settings.steps:
                training.save(finished)
    training.finish()
    return finished


class _Training:
    """The parts of one training, and what `fit` does with them.

    Attributes:
        first: number of steps that the checkpoint had finished.
        model: the objective, wrapped if there are several processes.
    """

    def __init__(
        self, objective: nn.Module, settings: LoopSettings, run: Run, seed: int, watch: DevWatch | None
    ) -> None:
        self.objective, self.settings, self.run, self.seed, self.watch = objective, settings, run, seed, watch
        self.accelerator = make_accelerator(settings, run)
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(settings.mixed_precision)
        self.autocast: AbstractContextManager[Any] = (
            nullcontext() if dtype is None else torch.autocast(self.accelerator.device.type, dtype)
        )
        self.is_main = self.accelerator.is_main_process
        self.checkpoints = run.folder / "checkpoints"
        self.average = WeightAverage(objective, settings.ema_decay) if settings.ema_decay > 0 else None
        optimizer = make_optimizer(objective, settings)
        self.state = TrainingState(objective, optimizer, self.average, watch, self.accelerator.scaler)
        if self.is_main:
            # A killed save leaves a copy of all weights, which only this removes.
            for folder in (run.folder, self.checkpoints):
                remove_stale(folder)
        self.first = load_checkpoint(self.checkpoints, self.state)
        if self.is_main:
            run.forget_after(self.first)
        self.model, self.optimizer = self.accelerator.prepare(objective, optimizer)
        if self.average is not None:
            self.average.to(self.accelerator.device)
        self.model.train()
        self.rate = 0.0
        self.meter = _Meter()

    def step(self, step: int, micro_batches: list[Any]) -> None:
        """One step of the optimiser over all micro-batches."""
        # Seeded per step and process, so that resuming needs no saved random state.
        torch.manual_seed(generator_for_key(f"{step}:{self.accelerator.process_index}", self.seed).initial_seed())
        self.rate = learning_rate(self.settings, step) * (1.0 if self.watch is None else self.watch.scale)
        set_learning_rate(self.optimizer, self.rate)
        parts: dict[str, float] = {}
        for micro_batch in micro_batches:
            with self.accelerator.accumulate(self.model):
                for name, value in self._micro_step(step, micro_batch).items():
                    parts[name] = parts.get(name, 0.0) + value / len(micro_batches)
        self.meter.add(parts)
        if isinstance(self.objective, Objective):
            self.objective.after_step((step + 1) / self.settings.steps)
        if self.average is not None:
            self.average.update(self.objective, step + 1)

    def _micro_step(self, step: int, micro_batch: Any) -> dict[str, float]:
        """Forward and backward; `accumulate` makes the optimiser step on the last micro-batch only."""
        with self.autocast:
            parts = self.model(_to_device(micro_batch, self.accelerator.device), step / self.settings.steps)
        means = _means(self.accelerator, parts)
        if not math.isfinite(means["loss"]):
            raise AgfasError(
                f"The loss became {means['loss']} at step {step + 1}. Lower the learning rate, or clip the"
                " gradient with max_grad_norm=1; with fp16, try bf16."
            )
        self.accelerator.backward(parts["loss"].float())
        if self.settings.max_grad_norm > 0 and self.accelerator.sync_gradients:
            if self.state.scaler is not None:
                self.state.scaler.unscale_(self.state.optimizer)
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return means

    def look(self, step: int) -> dict[str, float]:
        """Evaluate the source dev loss after step `step` if it is due; returns it as `dev_loss`, or nothing."""
        if self.watch is None or not self.watch.due(step + 1):
            return {}
        loss = self.watch.measure(self.objective) if self.is_main else 0.0
        # Measured once and sent to every process, so that all take the same decision.
        loss = float(broadcast(torch.tensor(loss, dtype=torch.float32, device=self.accelerator.device)).item())
        self.watch.observe(loss, learning_rate(self.settings, step))
        self.model.train()
        return {"dev_loss": loss}

    def log(self, finished: int, looked: dict[str, float]) -> dict[str, Any]:
        """Write one line of metrics to metrics.jsonl and to the trackers."""
        line = {**self.meter.line(finished, self.rate), **looked}
        if self.is_main:
            self.run.log(line)
        self.accelerator.log({name: value for name, value in line.items() if name != "step"}, step=finished)
        return line

    def save(self, finished: int) -> None:
        """Write a checkpoint, once every process has finished the step."""
        self.accelerator.wait_for_everyone()
        if self.is_main:
            save_checkpoint(self.checkpoints, finished, self.state)

    def finish(self) -> None:
        """Put the averaged weights into the objective and close the trackers."""
        if self.average is not None:
            self.average.copy_to(self.objective)
        # Not accelerate's end_training(): it destroys the process group, which the next stage needs.
        for tracker in self.accelerator.trackers:
            tracker.finish()


def make_accelerator(settings: LoopSettings, run: Run) -> Accelerator:
    """Devices, processes and trackers, as `accelerate launch` or a plain start provides them.

    accelerate fixes one precision for the whole process, but one command may train several models in different ones.
    So accelerate is set to full precision, and autocast and the gradient scaler of fp16 are the loop's own.

    Raises:
        AgfasError: a tracker is unknown or its package is not installed; fp16 without a GPU.
    """
    _check_trackers(settings.trackers)
    accelerator = Accelerator(
        cpu=on_cpu(),
        mixed_precision="no",
        gradient_accumulation_steps=settings.gradient_accumulation,
        log_with=settings.trackers or None,
        project_dir=str(run.folder),
    )
    if settings.mixed_precision == "fp16":
        if accelerator.device.type == "cpu":
            raise AgfasError("mixed_precision = fp16 needs a GPU, and none was found. Use bf16 or no.")
        accelerator.scaler = torch.amp.GradScaler(accelerator.device.type)
    if settings.trackers:
        accelerator.init_trackers("agfas")
    return accelerator


def _check_trackers(names: list[str]) -> None:
    """Refuse a tracker whose package is not installed: accelerate would skip it silently."""
    listed = set(LoggerType.list())
    installed = {str(name) for name in get_available_trackers()} | (set(LOGGER_TYPE_TO_CLASS) - listed)
    for name in names:
        if name not in listed | installed:
            raise AgfasError(f"trackers: there is no '{name}'; {nearest(name, listed | installed)}")
        if name not in installed | {"all"}:
            raise AgfasError(
                f"trackers: the package of '{name}' is not installed. Install it (tensorboard and trackio come with"
                f" `pip install 'agfas[tracking]'`), or remove '{name}'; metrics.jsonl is written in any case."
            )


def _prefetch(
    batches: Batches, settings: LoopSettings, accelerator: Accelerator, first: int
) -> Iterator[tuple[int, list[Any]]]:
    """Steps with their micro-batches; on a GPU, a thread prepares the next step while this one trains.

    On a CPU it does not pay: a thread that touches tensors gets OpenMP workers of its own, and with more workers than
    cores, idle or not, those of the training sleep at every barrier (`bench idle-thread`).
    """
    count = settings.gradient_accumulation

    def make(step: int) -> list[Any]:
        rank, world_size = accelerator.process_index, accelerator.num_processes
        return [batches(step * count + k, rank, world_size) for k in range(count)]

    if accelerator.device.type == "cpu":
        for step in range(first, settings.steps):
            yield step, make(step)
        return
    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = pool.submit(make, first) if first < settings.steps else None
        for step in range(first, settings.steps):
            assert upcoming is not None
            current = upcoming.result()
            upcoming = pool.submit(make, step + 1) if step + 1 < settings.steps else None
            yield step, current


def _means(accelerator: Accelerator, parts: Mapping[str, Any]) -> dict[str, float]:
    """The scalar parts, averaged over the processes: those of the whole batch, equal on every process.

    Because they are equal, a loss that is not finite on one process stops them all; otherwise the others would wait
    for it forever. All parts are read in one transfer: every read synchronises with the device.
    """
    scalars = {name: value for name, value in parts.items() if isinstance(value, torch.Tensor) and value.ndim == 0}
    values = [value.detach().to(accelerator.device, torch.float32) for value in scalars.values()]
    return dict(zip(scalars, accelerator.reduce(torch.stack(values), "mean").tolist(), strict=True))


def _to_device(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, dict):
        return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    return batch.to(device)


class _Meter:
    """Means over the steps since the last line of metrics."""

    def __init__(self) -> None:
        self.totals: dict[str, float] = {}
        self.steps = 0
        self.since = time.perf_counter()

    def add(self, parts: dict[str, float]) -> None:
        for name, value in parts.items():
            self.totals[name] = self.totals.get(name, 0.0) + value
        self.steps += 1

    def line(self, step: int, rate: float) -> dict[str, Any]:
        now = time.perf_counter()
        line = {
            "step": step,
            "learning_rate": rate,
            "seconds_per_step": (now - self.since) / self.steps,
            **{name: total / self.steps for name, total in self.totals.items()},
        }
        self.totals, self.steps, self.since = {}, 0, now
        return line

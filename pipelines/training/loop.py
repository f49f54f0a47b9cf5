"""The one training loop. A method is an objective, never a copy of this loop.

The data and the random draws of a step are functions of the seed and the step's number. A run that is killed and
started again therefore takes the same steps as an uninterrupted one, and ends with the same weights.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, LoggerType
from torch import nn

from dfg.noise import generator_for_key
from oanet.objectives.base import Objective
from pipelines.ending import finishing, is_asked, stop
from pipelines.errors import AgfasError, nearest
from pipelines.files import remove_stale
from pipelines.processes import any_process, on_cpu, wait
from pipelines.progress import bar
from pipelines.training.arithmetic import use_arithmetic
from pipelines.training.batches import Batches
from pipelines.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from pipelines.training.loader import batches_ahead
from pipelines.training.optimizer import WeightAverage, learning_rate, make_optimizer, set_learning_rate
from pipelines.training.parallel import Place, ProcessShare, make_independent, shares
from pipelines.training.run import Run, run_id
from pipelines.training.settings import LoopSettings
from pipelines.training.watch import DevWatch

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
        objective: `forward(batch, progress)` returns a mapping with a scalar `loss`, the mean over the batch's faces,
            and further named scalars, always the same. An `oanet` objective compares faces of all processes, and may
            also change its weights after every step; see `Objective`.
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
        Stopped: a signal asked for it; a checkpoint of the last step is written.
    """
    training = _Training(objective, batches.size, settings, run, seed, watch)
    finished = training.first
    shown = bar(settings.steps, title, initial=finished, unit="step", show=training.is_main)
    with finishing(), shown as progress, closing(training.ahead(batches)) as ahead:
        for step, micro_batches in zip(range(finished, settings.steps), ahead, strict=True):
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
            # 5. Stop early, or write a checkpoint; end here if a signal asks any process for it.
            if (watch is not None and watch.stopped) or finished == settings.steps:
                break
            asked = any_process(is_asked())
            if asked or finished % settings.checkpoint_every == 0:
                training.save(finished)
            if asked:
                wait()
                stop()
    training.finish()
    return finished


class _Training:
    """The parts of one training, and what `fit` does with them.

    Attributes:
        first: number of steps that the checkpoint had finished.
        model: the objective, wrapped if there are several processes.
        slices: for each micro-batch, the rows of the global batch that each process holds.
    """

    def __init__(
        self,
        objective: nn.Module,
        size: int,
        settings: LoopSettings,
        run: Run,
        seed: int,
        watch: DevWatch | None,
    ) -> None:
        self.objective, self.size, self.settings, self.run = objective, size, settings, run
        self.seed, self.watch = seed, watch
        self.accelerator = make_accelerator(settings, run)
        device, processes = self.accelerator.device, self.accelerator.num_processes
        self.slices = shares(size, settings.gradient_accumulation, processes)
        self.is_main, self.place = self.accelerator.is_main_process, Place()
        # Losses see the whole batch, so an objective's own layers do too; those that observe faces see one share.
        for observer in objective.observers if isinstance(objective, Objective) else (objective,):
            make_independent(observer, self.place, processes)
        nn.Module.to(objective, device)
        use_arithmetic(objective, settings, device)
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(settings.mixed_precision)
        self.autocast: AbstractContextManager[Any] = (
            nullcontext() if dtype is None else torch.autocast(device.type, dtype)
        )
        self.checkpoints = run.folder / "checkpoints"
        self.average = WeightAverage(objective, settings.ema_decay) if settings.ema_decay > 0 else None
        self.optimizer = make_optimizer(objective, settings)
        self.state = TrainingState(objective, self.optimizer, self.average, watch, gradient_scaler(settings, device))
        if self.is_main:
            # A killed save leaves a copy of all weights, which only this removes.
            for folder in (run.folder, self.checkpoints):
                remove_stale(folder)
        self.first = load_checkpoint(self.checkpoints, self.state, run_id(run.folder))
        if self.is_main:
            run.forget_after(self.first)
            run.describe()
        self.model = self.accelerator.prepare(objective)
        self.model.train()
        self.meter = _Meter(self.accelerator)

    def ahead(self, batches: Batches) -> Generator[list[Any], None, None]:
        """This process's micro-batches of every step that is left."""
        rows = [slices[self.accelerator.process_index] for slices in self.slices]

        def make(step: int) -> list[Any]:
            return [batches(step, part) for part in rows]

        steps = range(self.first, self.settings.steps)
        return batches_ahead(make, steps, self.accelerator.device, self.settings.workers)

    def step(self, step: int, micro_batches: list[Any]) -> None:
        """One step of the optimiser over all micro-batches."""
        # Seeded per step, so that resuming needs no saved random state, and alike on every process: what is drawn for
        # the whole batch is the same on all.
        seed = generator_for_key(str(step), self.seed).initial_seed()
        torch.manual_seed(seed)
        self.place.begin(seed)
        self.meter.begin(step)
        for number, micro_batch in enumerate(micro_batches):
            is_last = number == len(micro_batches) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                self._backward(step, self.slices[number], micro_batch)
        self._update(step)
        if isinstance(self.objective, Objective):
            self.objective.after_step((step + 1) / self.settings.steps)
        if self.average is not None:
            self.average.update(self.objective, step + 1)

    def _backward(self, step: int, slices: list[slice], micro_batch: Any) -> None:
        """Add the gradient of a micro-batch to that of the step.

        DDP averages over processes. The loss of an `Objective` is that of all faces of the micro-batch; any other
        loss is a mean over this process's faces, and is weighted by their number.
        """
        share = ProcessShare.of(slices, self.accelerator.process_index)
        self.place.share = share
        if isinstance(self.objective, Objective):
            self.objective.share = share
            weight = share.count(0) / self.size
        else:
            weight = share.lengths[share.rank] * len(slices) / self.size
        with self.autocast:
            progress = (step + 1) / self.settings.steps
            parts = self.model(_to_device(micro_batch, self.accelerator.device), progress)
        self.meter.add(parts, weight / len(slices))
        loss = parts["loss"] * weight
        (loss if self.state.scaler is None else self.state.scaler.scale(loss)).backward()

    def _update(self, step: int) -> None:
        self.rate = learning_rate(self.settings, step) * (1.0 if self.watch is None else self.watch.scale)
        set_learning_rate(self.optimizer, self.rate)
        scaler = self.state.scaler
        if self.settings.max_grad_norm > 0:
            if scaler is not None:
                scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()
        self.optimizer.zero_grad()

    def look(self, step: int) -> dict[str, float]:
        """Evaluate the source dev loss after step `step` if it is due; returns it as `dev_loss`, or nothing."""
        if self.watch is None or not self.watch.due(step + 1):
            return {}
        loss = self.watch.measure(self.objective)
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
        """Write a checkpoint, once every process has finished the step.

        Raises:
            AgfasError: the loss has become infinite or NaN.
        """
        self.meter.read()
        self.accelerator.wait_for_everyone()
        if self.is_main:
            save_checkpoint(self.checkpoints, finished, self.state, run_id(self.run.folder))

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
        AgfasError: a tracker is unknown or its package is not installed.
    """
    _check_trackers(settings.trackers)
    # DDP's warning of 1 x 1 kernels in channels_last, whose two orders are the same.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    accelerator = Accelerator(
        cpu=on_cpu(),
        mixed_precision="no",
        log_with=settings.trackers or None,
        project_dir=str(run.folder),
        # Gradients that are views of the buckets take no memory beside them.
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
    if settings.trackers:
        accelerator.init_trackers("agfas")
    return accelerator


def gradient_scaler(settings: LoopSettings, device: torch.device) -> torch.amp.GradScaler | None:
    """The scaler of fp16 gradients; None for other precisions.

    Raises:
        AgfasError: fp16 without a GPU.
    """
    if settings.mixed_precision != "fp16":
        return None
    if device.type == "cpu":
        raise AgfasError("mixed_precision = fp16 needs a GPU, and none was found. Use bf16 or no.")
    return torch.amp.GradScaler(device.type)


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


def _to_device(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, dict):
        return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    return batch.to(device)


class _Meter:
    """Means over the steps since the last line of metrics.

    The values stay on the device until they are read: every read makes the host wait for the device.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.names: list[str] = []
        self.pending: dict[int, torch.Tensor] = {}
        self.rows: list[list[float]] = []
        self.since = time.perf_counter()

    def begin(self, step: int) -> None:
        """The values added from here on belong to this step."""
        self.step = step

    def add(self, parts: Mapping[str, Any], weight: float) -> None:
        """Add a micro-batch's scalars; their sum over micro-batches and processes is the step's value."""
        scalars = {name: value for name, value in parts.items() if isinstance(value, torch.Tensor) and value.ndim == 0}
        self.names = list(scalars)
        loss = scalars["loss"]
        dtype = torch.promote_types(loss.dtype, torch.float32)
        values = torch.stack([value.detach().to(loss.device, dtype) for value in scalars.values()]) * weight
        self.pending[self.step] = values if self.step not in self.pending else self.pending[self.step] + values

    def read(self) -> None:
        """Fetch the pending values, equal on every process.

        Raises:
            AgfasError: a loss is not finite; on all processes, so that none waits for another.
        """
        if not self.pending:
            return
        rows = self.accelerator.reduce(torch.stack(list(self.pending.values())), "sum").tolist()
        place = self.names.index("loss")
        for step, row in zip(self.pending, rows, strict=True):
            if not math.isfinite(row[place]):
                raise AgfasError(
                    f"The loss became {row[place]} at step {step + 1}. Lower the learning rate, or clip the gradient"
                    " with max_grad_norm=1; with fp16, try bf16."
                )
        self.rows += rows
        self.pending = {}

    def line(self, finished: int, rate: float) -> dict[str, Any]:
        """The line of metrics after `finished` steps; begins the next one."""
        self.read()
        now = time.perf_counter()
        line = {"step": finished, "learning_rate": rate, "seconds_per_step": (now - self.since) / len(self.rows)}
        for name, values in zip(self.names, zip(*self.rows, strict=True), strict=True):
            line[name] = sum(values) / len(values)
        self.rows, self.since = [], now
        return line

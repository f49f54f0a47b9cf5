"""The one training loop: a method is an objective, never a copy of this.

A step's data and its random draws are functions of the seed and of the step's number alone. So a run that was
killed and started again goes through the same steps as one that was not, and ends with the same weights.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import LoggerType, broadcast
from torch import nn

from oanet.objectives.base import Objective
from pipelines.errors import AgfasError, nearest
from pipelines.files import remove_stale
from pipelines.processes import on_cpu
from pipelines.progress import bar
from pipelines.training.checkpoint import load_checkpoint, save_checkpoint
from pipelines.training.ema import WeightAverage
from pipelines.training.run import Run
from pipelines.training.settings import LoopSettings
from pipelines.training.watch import DevWatch


class Batches(Protocol):
    """A training set as a function of the step."""

    def __call__(self, step: int, rank: int, world_size: int) -> Any:
        """This process's share of the global batch of micro-step `step` (from 0)."""


AfterStep = Callable[[int, nn.Module], None]


def make_accelerator(settings: LoopSettings, run: Run) -> Accelerator:
    """Devices, processes, precision and trackers, as `accelerate launch` or a plain start gives them.

    Raises:
        AgfasError: a tracker is not known, or its package is not installed.
    """
    _check_trackers(settings.trackers)
    # One command may train several models in different precisions, but accelerate keeps the first one's for the whole
    # process and offers no public way to take another. What it knows of devices and processes stays.
    AcceleratorState._reset_state(reset_partial_state=False)
    accelerator = Accelerator(
        cpu=on_cpu(),
        mixed_precision=settings.mixed_precision,
        gradient_accumulation_steps=settings.gradient_accumulation,
        log_with=settings.trackers or None,
        project_dir=str(run.folder),
    )
    if settings.trackers:
        accelerator.init_trackers("agfas")
    return accelerator


def _check_trackers(names: list[str]) -> None:
    """Refuse a tracker that accelerate would leave out without a word, since its package is not installed."""
    listed = set(LoggerType.list())
    installed = {str(name) for name in get_available_trackers()} | (set(LOGGER_TYPE_TO_CLASS) - listed)
    for name in names:
        if name not in listed | installed:
            raise AgfasError(f"trackers: there is no '{name}'; {nearest(name, listed | installed)}")
        if name not in installed | {"all"}:
            raise AgfasError(
                f"trackers: the package of '{name}' is not installed. Install it (tensorboard and trackio come with"
                f" `pip install 'agfas[tracking]'`), or leave '{name}' out; metrics.jsonl is written in any case."
            )


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
    """Train `objective` for `settings.steps` steps, from the run's newest checkpoint if it has one.

    An `oanet` objective may change its weights after every step of the optimiser, see `Objective.after_step`.
    Afterwards the objective holds the averaged weights where `ema_decay` is above 0.

    Args:
        objective: `forward(batch, progress)` gives a mapping with a scalar `loss` and named scalar parts.
        batches: data by step.
        settings: optimiser, schedule, precision, intervals.
        run: where checkpoints and metrics go.
        title: label of the progress bar.
        seed: decides every draw together with the step's number.
        after_step: called with the number of finished steps and the bare objective, on every process.
        watch: looks at held-out faces, and may lower the rate or end the training.

    Returns:
        The number of finished steps: `settings.steps`, or fewer where `watch` ended the training.

    Raises:
        AgfasError: the loss is not finite.
    """
    accelerator = make_accelerator(settings, run)
    optimizer = make_optimizer(objective, settings)
    average = WeightAverage(objective, settings.ema_decay) if settings.ema_decay > 0 else None
    checkpoints = run.folder / "checkpoints"
    if accelerator.is_main_process:
        # A save that was killed leaves a copy of all weights, which nothing else would ever remove.
        for folder in (run.folder, checkpoints):
            remove_stale(folder)
    first = load_checkpoint(checkpoints, objective, optimizer, average, watch, accelerator.scaler)
    model, optimizer = accelerator.prepare(objective, optimizer)
    if average is not None:
        average.shadow = {name: value.to(accelerator.device) for name, value in average.shadow.items()}
    if accelerator.is_main_process:
        run.forget_after(first)
    meter = _Meter()
    finished = first
    model.train()
    with bar(settings.steps, title, initial=first, unit="step", show=accelerator.is_main_process) as progress:
        for step, micro_batches in _prefetch(batches, settings, accelerator, first):
            torch.manual_seed(_step_seed(seed, step, accelerator.process_index))
            rate = learning_rate(settings, step) * (1.0 if watch is None else watch.scale)
            _set_learning_rate(optimizer, rate)
            parts = _one_step(accelerator, model, optimizer, micro_batches, settings, step)
            bare = accelerator.unwrap_model(model)
            if isinstance(bare, Objective):
                bare.after_step((step + 1) / settings.steps)
            if average is not None:
                average.update(bare, step + 1)
            meter.add(parts)
            finished = step + 1
            progress.update(1)
            looked = {}
            if watch is not None and watch.due(finished):
                looked = {"dev_loss": _look(accelerator, watch, bare, learning_rate(settings, step))}
                model.train()
            stopped = watch is not None and watch.stopped
            if looked or finished % settings.log_every == 0 or finished == settings.steps:
                line = {**meter.line(finished, rate), **looked}
                progress.set_postfix_str(f"loss={line['loss']:.4f}")
                if accelerator.is_main_process:
                    run.log(line)
                accelerator.log({k: v for k, v in line.items() if k != "step"}, step=finished)
            if after_step is not None:
                after_step(finished, bare)
                model.train()
            if stopped:
                break
            if finished % settings.checkpoint_every == 0 and finished < settings.steps:
                accelerator.wait_for_everyone()
                if accelerator.is_main_process:
                    save_checkpoint(checkpoints, finished, bare, optimizer, average, watch, accelerator.scaler)
    if average is not None:
        average.copy_to(accelerator.unwrap_model(model))
    # Not end_training(): that would also take down the process group, which the next stage needs.
    for tracker in accelerator.trackers:
        tracker.finish()
    return finished


def make_optimizer(objective: nn.Module, settings: LoopSettings) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over the trainable parameters."""
    parameters = [p for p in objective.parameters() if p.requires_grad]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
    return torch.optim.AdamW(
        parameters,
        settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=settings.optimizer == "adamw_fused" or None,
    )


def learning_rate(settings: LoopSettings, step: int) -> float:
    """The rate of step `step` (from 0): linear warm-up, then constant or a cosine that ends at 0.

    `plateau` is constant here; what lowers it is the watch.
    """
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    if settings.schedule != "cosine":
        return settings.learning_rate
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _one_step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Any,
    micro_batches: list[Any],
    settings: LoopSettings,
    step: int,
) -> dict[str, float]:
    """One optimiser step; returns the scalar parts, each the mean over micro-batches and processes."""
    totals: dict[str, float] = {}
    progress = step / settings.steps
    for micro_batch in micro_batches:
        with accelerator.accumulate(model):
            parts = model(_to_device(micro_batch, accelerator.device), progress)
            told = _told(accelerator, parts)
            if not math.isfinite(told["loss"]):
                raise AgfasError(
                    f"The loss became {told['loss']} at step {step + 1}. Lower the learning rate, or clip the"
                    " gradient with max_grad_norm=1; with fp16, try bf16."
                )
            accelerator.backward(parts["loss"])
            if settings.max_grad_norm > 0 and accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        for name, value in told.items():
            totals[name] = totals.get(name, 0.0) + value / len(micro_batches)
    return totals


def _told(accelerator: Accelerator, parts: Mapping[str, Any]) -> dict[str, float]:
    """The scalar parts, each the mean over the processes: of the whole batch, and the same on every process.

    Then a loss that is not finite on one process ends them all; alone, it would leave the others waiting for it.
    They are read in one piece, since each reading waits for the device.
    """
    scalars = {name: value for name, value in parts.items() if isinstance(value, torch.Tensor) and value.ndim == 0}
    values = [value.detach().to(accelerator.device, torch.float32) for value in scalars.values()]
    return dict(zip(scalars, accelerator.reduce(torch.stack(values), "mean").tolist(), strict=True))


def _prefetch(batches: Batches, settings: LoopSettings, accelerator: Accelerator, first: int) -> Any:
    """Make the next step's data in a thread while this one trains; on a processor, in turn with it.

    There a thread that touches tensors gets OpenMP workers of its own, and with more workers than cores, idle or not,
    those of the training sleep at every barrier: bench `idle-thread`.
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


def _set_learning_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _look(accelerator: Accelerator, watch: DevWatch, bare: nn.Module, rate: float) -> float:
    """Measure on the main process and tell every process, so that all decide alike; returns the loss."""
    loss = watch.measure(bare) if accelerator.is_main_process else 0.0
    told = float(broadcast(torch.tensor(loss, dtype=torch.float32, device=accelerator.device)).item())
    watch.observe(told, rate)
    return told


def _step_seed(seed: int, step: int, rank: int) -> int:
    """A seed of its own for every step and process, so that resuming needs no saved generator state."""
    digest = hashlib.sha256(f"{seed}:{step}:{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _to_device(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, dict):
        return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    return batch.to(device)


class _Meter:
    """Means over the steps since the last line."""

    def __init__(self) -> None:
        self.totals: dict[str, float] = {}
        self.count = 0
        self.since = time.perf_counter()

    def add(self, parts: dict[str, float]) -> None:
        for name, value in parts.items():
            self.totals[name] = self.totals.get(name, 0.0) + value
        self.count += 1

    def line(self, step: int, rate: float) -> dict[str, Any]:
        now = time.perf_counter()
        line = {
            "step": step,
            "learning_rate": rate,
            "seconds_per_step": (now - self.since) / self.count,
            **{name: total / self.count for name, total in self.totals.items()},
        }
        self.totals, self.count, self.since = {}, 0, now
        return line

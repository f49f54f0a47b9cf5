"""Training checkpoints in safetensors and JSON, written atomically.

checkpoints/step_000200/
  model.safetensors       parameters and buffers of the objective
  optimizer.safetensors   the optimiser's tensors, named PARAMETER.STATE
  ema.safetensors         the averaged parameters, if there is an average
  state.json              step, the optimiser's numbers, and the state of `DevWatch` and of the fp16 gradient scaler

The random state is not stored: it is seeded from the step.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from pipelines.errors import AgfasError
from pipelines.files import read_json, write_json
from pipelines.seals import check, write_sealed
from pipelines.training.optimizer import WeightAverage
from pipelines.training.run import step_name, steps_in
from pipelines.training.watch import DevWatch


@dataclass
class TrainingState:
    """Everything that changes while a model trains.

    Attributes:
        model: the bare objective, not wrapped for several processes.
        optimizer: of its parameters.
        average: of its weights, if any.
        watch: of the source dev loss, if any.
        scaler: of fp16 gradients, if any.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None = None
    watch: DevWatch | None = None
    scaler: torch.amp.GradScaler | None = None


def save_checkpoint(folder: Path, step: int, state: TrainingState, run: str = "") -> None:
    """Write `folder/step_N`, sealed, then remove older checkpoints. `run` names the training."""

    def write(target: Path) -> None:
        target.mkdir()
        save_file(_contiguous(state.model.state_dict()), target / "model.safetensors")
        tensors, numbers = _flatten(state.optimizer.state_dict()["state"])
        save_file(tensors, target / "optimizer.safetensors")
        if state.average is not None:
            save_file(_contiguous(state.average.shadow), target / "ema.safetensors")
        watched = {} if state.watch is None else {"watch": state.watch.state()}
        scaled = {} if state.scaler is None else {"scaler": state.scaler.state_dict()}
        write_json(target / "state.json", {"step": step, "optimizer": numbers, **watched, **scaled, "run": run})

    write_sealed(folder / step_name(step), write)
    for old in steps_in(folder)[:-1]:
        shutil.rmtree(folder / step_name(old))


def load_checkpoint(folder: Path, state: TrainingState, run: str = "") -> int:
    """Load the newest checkpoint of `folder` into `state`; returns its step, or 0 if there is none.

    Files are mapped and tensors copied one by one to where the model is, so that the processes of a machine share
    one copy in the page cache and need no other.

    A scaler starts anew if the checkpoint has none, as one of a training in float32.

    Raises:
        AgfasError: a file is not what was written, or is of another training than `run`.
    """
    found = steps_in(folder)
    if not found:
        return 0
    newest = folder / step_name(found[-1])
    check(newest)
    saved = read_json(newest / "state.json", step=int, optimizer=dict)
    again = f"Remove {newest} and run the command again: it starts anew."
    if saved.get("run", run) != run:
        raise AgfasError(f"{newest} is a checkpoint of another training. {again}")
    try:
        _load(newest, saved, state)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        why = " ".join(str(error).split())[:200]
        raise AgfasError(f"{newest} cannot be read as a checkpoint of this training ({why}). {again}") from error
    return int(saved["step"])


def _load(newest: Path, saved: dict[str, Any], state: TrainingState) -> None:
    state.model.load_state_dict(load_file(newest / "model.safetensors"))
    _restore(state.optimizer, load_file(newest / "optimizer.safetensors"), saved["optimizer"])
    if state.average is not None:
        state.average.load(load_file(newest / "ema.safetensors"))
    if state.watch is not None:
        state.watch.load(saved["watch"])
    if state.scaler is not None and saved.get("scaler"):
        state.scaler.load_state_dict(saved["scaler"])


def _contiguous(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    # Cloned, because safetensors refuses tensors that share memory.
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _flatten(state: dict[int, dict[str, Any]]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The optimiser's state by parameter number and name -> tensors and numbers, both by `NUMBER.NAME`."""
    flat = {f"{index}.{name}": value for index, entries in state.items() for name, value in entries.items()}
    tensors = {name: value for name, value in flat.items() if isinstance(value, torch.Tensor)}
    return _contiguous(tensors), {name: value for name, value in flat.items() if name not in tensors}


def _laid_out_as(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    if value.shape != parameter.shape:
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _restore(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], numbers: dict[str, Any]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *numbers.items()]:
        index, name = key.split(".", 1)
        if isinstance(value, torch.Tensor):
            # AdamW reads its count of steps on the host, and would wait for the device to know it. Fused kernels walk
            # through the memory of a parameter and its averages together, so these need its strides.
            value = value.clone() if name == "step" else _laid_out_as(parameters[int(index)], value)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

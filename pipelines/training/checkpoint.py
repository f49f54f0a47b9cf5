"""Training checkpoints in safetensors and JSON, written whole or not at all.

checkpoints/step_000200/
  model.safetensors       parameters and buffers of the objective
  optimizer.safetensors   the optimiser's tensors, named PARAMETER.STATE
  ema.safetensors         the averaged parameters, where there is an average
  state.json              step, the optimiser's plain numbers, what is watched, where anything is, and the scaler of
                          fp16 gradients, where there is one
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipelines.files import read_json, write_atomically, write_json
from pipelines.training.ema import WeightAverage
from pipelines.training.run import step_name, steps_in
from pipelines.training.watch import DevWatch


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    watch: DevWatch | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Write `folder/step_N` and remove the older ones."""

    def write(target: Path) -> None:
        target.mkdir()
        save_file(_contiguous(model.state_dict()), target / "model.safetensors")
        tensors, numbers = _flatten(optimizer.state_dict()["state"])
        save_file(tensors, target / "optimizer.safetensors")
        if average is not None:
            save_file(_contiguous(average.shadow), target / "ema.safetensors")
        watched = {} if watch is None else {"watch": watch.state()}
        scaled = {} if scaler is None else {"scaler": scaler.state_dict()}
        write_json(target / "state.json", {"step": step, "optimizer": numbers, **watched, **scaled})

    path = folder / step_name(step)
    write_atomically(path, write)
    for old in steps_in(folder)[:-1]:
        shutil.rmtree(folder / step_name(old))


def load_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    watch: DevWatch | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> int:
    """Load the newest checkpoint into model, optimiser, average, watch and scaler; return its step, or 0 without any.

    A scaler finds nothing in the checkpoint of an older version, and then begins anew.
    """
    found = steps_in(folder)
    if not found:
        return 0
    newest = folder / step_name(found[-1])
    state = read_json(newest / "state.json")
    model.load_state_dict(load_file(newest / "model.safetensors"))
    _restore(optimizer, load_file(newest / "optimizer.safetensors"), state["optimizer"])
    if average is not None:
        average.load(load_file(newest / "ema.safetensors"))
    if watch is not None:
        watch.load(state["watch"])
    if scaler is not None and state.get("scaler"):
        scaler.load_state_dict(state["scaler"])
    return int(state["step"])


def _contiguous(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _flatten(state: dict[int, dict[str, Any]]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, entries in state.items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{name}"] = value.detach().cpu().contiguous().clone()
            else:
                numbers[f"{index}.{name}"] = value
    return tensors, numbers


def _restore(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], numbers: dict[str, Any]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *numbers.items()]:
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

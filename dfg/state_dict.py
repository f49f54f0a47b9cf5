"""Weight files of torch: read without executing code, and unwrapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

# Where whole training checkpoints hold the weights: arcface_torch's, Lightning's and most others', timm's.
_INSIDE = ("state_dict_backbone", "state_dict", "model")

_PARALLEL = "module."


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Tensors by name, on the CPU; of a whole training checkpoint, those of its model.

    The prefix `module.` of data-parallel training is removed.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is empty, damaged or of another kind, or it holds objects, whose loading would execute code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No weights at {path}: there is no such file.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each raise errors of their own on foreign bytes
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path} cannot be read safely ({first[:200]}). A file of tensors by torch.save is expected: copy it again,"
            " or save the state dict of the model alone."
        ) from error
    state = _unwrapped(state)
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"{path} holds no state dict: expected a dictionary of names and tensors.")
    return {str(name).removeprefix(_PARALLEL): tensor for name, tensor in state.items()}


def _unwrapped(state: Any) -> Any:
    """The model's part of a checkpoint that holds more."""
    for name in _INSIDE:
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            return state[name]
    return state

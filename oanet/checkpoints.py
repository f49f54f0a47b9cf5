"""Other people's weight files: read without running what is in them, put into a network name by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


def read_checkpoint(path: str | Path) -> Any:
    """What `torch.save` wrote, with tensors, plain values and numpy scalars only, on the CPU.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is damaged, or holds anything that would have to run to be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No weights at {path}: there is no such file. Check the detector's `weights`.")
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each raise errors of their own on foreign bytes
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path} cannot be read safely ({first[:200]}). A file of tensors is expected, as torch.save writes it;"
            " copy it again, or convert it where you trust it."
        ) from error


def load_weights(network: nn.Module, state: Mapping[str, Any], path: str | Path) -> None:
    """Put tensors into a network; every name and shape must fit. On the meta device they are only checked.

    Raises:
        ValueError: names what is missing, in excess or of another shape.
    """
    wanted = network.state_dict()
    # An absent batch counter is harmless: it counts training steps and takes no part in evaluation.
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    excess = [name for name in state if name not in wanted]
    reshaped = [name for name in wanted if name in state and _shape(state[name]) != wanted[name].shape]
    for problem, names in (("lacks", missing), ("has in excess", excess), ("has another shape in", reshaped)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ValueError(
                f"{path} does not fit {type(network).__name__}: it {problem} {names[0]}{more}. Check that it is the"
                " file of this very network, and that its options are those that it was trained with."
            )
    if not any(value.is_meta for value in wanted.values()):
        network.load_state_dict(dict(state), strict=False)


def without_prefix(state: Mapping[str, Any], prefixes: Iterable[str]) -> dict[str, Any]:
    """The same entries, the first fitting prefix taken off each name."""
    renamed = {}
    for name, value in state.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        renamed[name[len(prefix) :]] = value
    return renamed


def _shape(value: Any) -> torch.Size | None:
    return value.shape if isinstance(value, torch.Tensor) else None


def _numpy_scalars() -> list[Any]:
    """What a pickled numpy number names: its maker under the names of numpy 1 and 2, and its kinds."""
    scalar = np.float64(0).__reduce__()[0]
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in ("float32", "float64", "int64")),
    ]

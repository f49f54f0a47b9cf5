"""Published weight files: read without executing code, and loaded by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def read_checkpoint(path: str | Path) -> Any:
    """A file of `torch.save` that holds only tensors, plain values and numpy scalars, on the CPU.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is damaged, or loading it would execute code.
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
            f"{path} cannot be read safely ({first[:200]}). A file of tensors by torch.save is expected; copy it again,"
            " or, if you trust it, convert it."
        ) from error


def load_weights(network: nn.Module, state: Mapping[str, Any], path: str | Path) -> None:
    """Load tensors into a network; every name and shape must match. On the meta device they are only checked.

    Raises:
        ValueError: names are missing, unexpected, or of another shape.
    """
    wanted = network.state_dict()
    # BatchNorm's step counter is not used in evaluation, so it may be missing.
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    excess = [name for name in state if name not in wanted]
    reshaped = [name for name in wanted if name in state and _shape(state[name]) != wanted[name].shape]
    for problem, names in (("lacks", missing), ("has in excess", excess), ("has another shape in", reshaped)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ValueError(
                f"{path} does not fit {type(network).__name__}: it {problem} {names[0]}{more}. Check that the"
                " file is of this network, and that the options are the ones it was trained with."
            )
    if not any(value.is_meta for value in wanted.values()):
        network.load_state_dict(dict(state), strict=False)


def _shape(value: Any) -> torch.Size | None:
    return value.shape if isinstance(value, Tensor) else None


def _numpy_scalars() -> list[Any]:
    """Globals of a pickled numpy number: its constructor under the names of numpy 1 and 2, and its dtypes."""
    scalar = np.float64(0).__reduce__()[0]
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in ("float32", "float64", "int64")),
    ]

"""Weights of other people's networks: found in a folder, read without unpickling, put into a network name by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import AgfasError

if TYPE_CHECKING:
    import torch

SUFFIXES = (".pth", ".pt")


def find_weights(place: Path, what: str) -> Path:
    """The weight file at `place`, or the only one in the folder `place`.

    Raises:
        AgfasError: there is none, or there are several.
    """
    if place.is_file():
        return place
    if not place.is_dir():
        raise AgfasError(f"No {what} at {place}: there is neither a file nor a folder. Check the name.")
    found = sorted(path for path in place.iterdir() if path.suffix in SUFFIXES)
    if len(found) != 1:
        names = f": {', '.join(path.name for path in found)}" if found else ""
        raise AgfasError(
            f"{place} holds {len(found)} files that end in {' or '.join(SUFFIXES)}{names}. Name the one file with the"
            f" {what}."
        )
    return found[0]


def read_state_dict(path: Path, what: str) -> dict[str, torch.Tensor]:
    """A file of names and tensors; the prefix `module.` that parallel training leaves is taken off.

    Nothing is unpickled but tensors.

    Raises:
        AgfasError: another kind of file, or a damaged one.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each raise errors of their own on foreign bytes
        first = str(error).strip().splitlines()[:1]
        raise AgfasError(
            f"{path} holds no {what} that can be read safely ({first[0] if first else type(error).__name__})."
            " A state dict of tensors is expected, as torch.save writes it; copy or convert the file again."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise AgfasError(f"{path} holds no state dict of {what}: a dictionary of names and tensors is expected.")
    return {name.removeprefix("module."): value for name, value in state.items()}


def load_state_dict(network: torch.nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    """Put the tensors into a network; every name and shape must fit.

    Raises:
        AgfasError: what is missing, unexpected or of another shape.
    """
    wanted = network.state_dict()
    # An absent batch counter is harmless: it counts training steps and takes no part in evaluation.
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in wanted]
    reshaped = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    for problem, names in (("lacks", missing), ("has in excess", unexpected), ("has another shape in", reshaped)):
        if names:
            raise AgfasError(
                f"{path} does not fit {type(network).__name__}: it {problem} {names[0]} (and {len(names) - 1} more)."
                " Check that it is the weight file of this very network."
            )
    network.load_state_dict(state, strict=False)

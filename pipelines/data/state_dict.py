"""Published weights of networks: found in a folder, read without unpickling objects, loaded with every name checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import AgfasError

if TYPE_CHECKING:
    import torch

SUFFIXES = (".pth", ".pt")


def find_weights(place: Path, what: str) -> Path:
    """The weight file at `place`, or the only weight file in the folder `place`.

    Args:
        place: file or folder.
        what: name of the weights, for error messages.

    Raises:
        AgfasError: no weight file, or several.
    """
    if place.is_file():
        return place
    if not place.is_dir():
        raise AgfasError(f"No {what} at {place}: there is no file or folder. Check the name.")
    found = sorted(path for path in place.iterdir() if path.suffix in SUFFIXES)
    if len(found) != 1:
        names = f": {', '.join(path.name for path in found)}" if found else ""
        raise AgfasError(
            f"{place} holds {len(found)} files with the suffix {' or '.join(SUFFIXES)}{names}. Name the file with the"
            f" {what}."
        )
    return found[0]


def read_state_dict(path: Path, what: str) -> dict[str, torch.Tensor]:
    """Read a state dict of tensors, without the prefix `module.` of data-parallel training.

    Raises:
        AgfasError: another kind of file, or a damaged one.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch raise various errors on foreign bytes
        first = str(error).strip().splitlines()[:1]
        raise AgfasError(
            f"{path} holds no {what} that can be read safely ({first[0] if first else type(error).__name__})."
            " It must be a state dict of tensors, as torch.save writes it; copy or convert the file again."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise AgfasError(f"{path} holds no state dict of {what}: it must be a dictionary of names and tensors.")
    return {name.removeprefix("module."): value for name, value in state.items()}


def load_state_dict(network: torch.nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    """Load tensors into a network; all names and shapes must match.

    Raises:
        AgfasError: missing or unexpected names, or other shapes.
    """
    wanted = network.state_dict()
    # Batch counters may be missing: they count training steps and do not affect evaluation.
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in wanted]
    reshaped = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    for problem, names in (("lacks", missing), ("has the unknown", unexpected), ("has another shape in", reshaped)):
        if names:
            raise AgfasError(
                f"{path} does not fit {type(network).__name__}: it {problem} {names[0]} (and {len(names) - 1} more)."
                " Check that it is the weight file of this network."
            )
    network.load_state_dict(state, strict=False)

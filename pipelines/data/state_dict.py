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
    """`dfg.state_dict.read_state_dict`, whose errors name what the weights are for.

    Raises:
        AgfasError: another kind of file, or a damaged one.
    """
    from dfg.state_dict import read_state_dict as read

    try:
        return read(path)
    except (OSError, ValueError) as error:
        raise AgfasError(f"The {what} cannot be loaded: {error}") from error


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

"""What a detector is: a module that knows its constructor's arguments and can be saved and loaded by them."""

from __future__ import annotations

import functools
import inspect
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from oanet.head import DomainHeads, LinearHead, LivenessHead
from oanet.names import check_detector
from oanet.output import DetectorOutput

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_DOMAIN_HEADS = "domain_heads"

Self = TypeVar("Self", bound="Detector")


def captures_config(init: Callable[..., None]) -> Callable[..., None]:
    """Decorate `__init__`: `self.config` becomes its arguments by name, defaults included."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapped(self: Detector, *args: Any, **options: Any) -> None:
        bound = signature.bind(self, *args, **options)
        bound.apply_defaults()
        init(self, *args, **options)
        self.config = {key: value for key, value in bound.arguments.items() if key != "self"}

    return wrapped


class Detector(nn.Module, ABC):
    """Face, and perhaps its cue, to a liveness decision.

    A subclass sets `name` and `needs_cue`, decorates its `__init__` with `captures_config` (arguments must be
    JSON values), sets `feature_dim`, and implements `forward`.

    Attributes:
        name: its name in the registry.
        needs_cue: whether `forward` reads the cue; where that is an option (`cue`), an attribute of the instance.
        feature_dim: D of `DetectorOutput.features`.
        config: the constructor's arguments.
        map_names: the maps of `DetectorOutput.maps` that it predicts.
        score_map: the map that its logits are read from, where they are.
        domain_heads: how many heads `use_domain_heads` gave it; None for the classifier that it was built with.
    """

    name: ClassVar[str]
    needs_cue: ClassVar[bool]
    map_names: tuple[str, ...] = ()
    score_map: str | None = None
    domain_heads: int | None = None
    feature_dim: int
    config: dict[str, Any]

    @abstractmethod
    def forward(
        self, image: torch.Tensor, cue: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> DetectorOutput:
        """Judge B faces.

        Args:
            image: (B, 3, H, W) in [-1, 1], RGB, any size: resized inside where the network has a fixed one.
            cue: (B, cue_channels, H, W) from `oanet.cue.form_cue`; ignored where `needs_cue` is False.
            need_weights: fill `DetectorOutput.attention` where there is cross-attention.

        Raises:
            ValueError: for a missing cue, or one with other channels than the detector was built for.
        """

    def num_parameters(self) -> int:
        """How many parameters there are, those that are not trained included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def use_domain_heads(self, num_domains: int) -> DomainHeads:
        """Exchange the classifier for one logistic head per training domain; the score is their mean probability.

        The heads are part of the detector: `save_pretrained` writes them, `from_pretrained` makes them again.

        Raises:
            ValueError: where the detector's `head` is none of `oanet.head`.
        """
        head = getattr(self, "head", None)
        if not isinstance(head, LivenessHead | LinearHead):
            raise ValueError(
                f"The detector {self.name!r} cannot be given a classifier per domain: it does not end in a"
                " `LivenessHead` or `LinearHead` named `head`. Use one that does, such as 'image_only' or 'resnet18'."
            )
        self.domain_heads = num_domains
        return head.use_domains(num_domains)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors`, each whole or not at all.

        `pretrained` is written as false and `weights` as none: the weights lie beside it, and nothing need be fetched
        or read elsewhere to load them.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"name": self.name, **self.config}
        if "pretrained" in config:
            config["pretrained"] = False
        if "weights" in config:
            config["weights"] = None
        if self.domain_heads is not None:
            config[_DOMAIN_HEADS] = self.domain_heads
        text = json.dumps(config, indent=2) + "\n"
        config_path = folder / CONFIG_FILE
        # A folder with a config is a whole detector: a config of another shape goes before its weights do.
        if config_path.exists() and config_path.read_text(encoding="utf-8") != text:
            config_path.unlink()
        state = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        _replace(folder / WEIGHTS_FILE, lambda path: save_file(state, path))
        _replace(config_path, lambda path: path.write_text(text, encoding="utf-8"))

    @classmethod
    def from_pretrained(cls: type[Self], folder: str | Path) -> Self:
        """Load what `save_pretrained` wrote, in eval mode, on the CPU. Nothing is unpickled.

        Raises:
            FileNotFoundError: where a file is missing.
            ValueError: where the folder holds another detector, or the files do not fit.
        """
        folder = Path(folder)
        config = read_config(folder)
        name = config.pop("name")
        domain_heads = config.pop(_DOMAIN_HEADS, None)
        wanted = getattr(cls, "name", cls.__name__)
        if name != wanted:
            raise ValueError(f"{folder} holds the detector {name!r}, not {wanted!r}; use `load_detector`.")
        with torch.random.fork_rng(devices=[]):
            detector = cls(**config)
            if domain_heads is not None:
                detector.use_domain_heads(domain_heads)
        _load_weights(detector, folder / WEIGHTS_FILE)
        return detector.eval()


def check_cue(cue: torch.Tensor | None, detector: str, channels: int) -> torch.Tensor:
    """The cue, if it is one that a detector of `channels` cue channels can read; else ValueError."""
    if cue is None:
        raise ValueError(f"The detector {detector!r} needs a cue beside the image; see `oanet.cue.form_cue`.")
    if cue.ndim != 4 or cue.shape[1] != channels:
        raise ValueError(
            f"The detector {detector!r} was built with cue_channels = {channels} but the cue has the shape "
            f"{tuple(cue.shape)}. A 'two_part' cue has 6 channels, every other form 3."
        )
    return cue


def read_config(folder: Path) -> dict[str, Any]:
    """The saved constructor arguments with their `name`, and `domain_heads` where it has some, checked."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no detector: {CONFIG_FILE} is missing.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error
    if not isinstance(config, dict) or "name" not in config:
        raise ValueError(f"{path} does not name a detector; was it written by save_pretrained?")
    check_detector(config["name"], (key for key in config if key not in ("name", _DOMAIN_HEADS)))
    return config


def _load_weights(detector: Detector, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing beside its {CONFIG_FILE}.")
    try:
        detector.load_state_dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}.") from error
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit its {CONFIG_FILE}: {error}.") from error


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside `path`, flush to the disk, then rename over it."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        write(temporary)
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

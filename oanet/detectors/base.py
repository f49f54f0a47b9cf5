"""The base class of detectors: a module that is saved and loaded with its constructor's arguments."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from oanet.batch import DetectorOutput
from oanet.head import DomainHeads, Head, unnormalize_feature
from oanet.names import DETECTORS
from oanet.published import Decision
from oanet.sources import by_architecture

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_DOMAIN_HEADS, _CHECKSUM = "domain_heads", "checksum"

Self = TypeVar("Self", bound="Detector")


def _captures_config(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap `__init__`: it also sets `self.config` to its arguments by name, defaults included and places resolved."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapped(self: Detector, *args: Any, **options: Any) -> None:
        bound = signature.bind(self, *args, **options)
        bound.apply_defaults()
        init(self, *args, **options)
        given = {key: value for key, value in bound.arguments.items() if key != "self"}
        self.config = by_architecture(given, self.backbones)

    return wrapped


class Detector(nn.Module, ABC):
    """Classifies faces as live or attack, from the image, its cue, or both.

    A subclass sets `name` and `feature_dim`, takes JSON values as constructor arguments, and implements `forward`.
    `needs_cue`, `inference_only`, `presets`, `sees`, `sees_published` and `published` must be literals: a config is
    checked by the class's source.

    Attributes:
        name: short name, for messages; in configs if it is registered.
        needs_cue: whether `forward` reads the cue; set on the instance where that is an option (`cue`).
        inference_only: why the detector is evaluated with published weights and not trained here.
        presets: constructor options by preset, for detectors that are not built in.
        backbones: the options that may name a backbone's folder or repository, and for each the option of its sizes.
        sees: what `look` needs: `crop`, the aligned crop alone; `picture`, the whole picture; `box` and `points`, the
            picture with the face's box or five points. Set on the instance where that is an option (`sees`).
        sees_published: what it sees with its published `weights`, if that is something else.
        published: of a network with published weights, the fields of `oanet.published.Publication`.
        decision: the rule that came with the published weights; None without.
        feature_dim: D of `DetectorOutput.features`.
        config: the constructor's arguments by name, with a backbone's architecture in place of its folder.
        map_names: the predicted maps of `DetectorOutput.maps`.
        score_map: the map that the logits are computed from, if any.
        domain_heads: number of heads set by `use_domain_heads`; None for the original classifier.
    """

    name: ClassVar[str]
    needs_cue: bool = False
    inference_only: ClassVar[str | None] = None
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    backbones: ClassVar[Mapping[str, str]] = MappingProxyType({})
    sees: str = "crop"
    sees_published: ClassVar[str | None] = None
    published: ClassVar[dict[str, Any] | None] = None
    decision: Decision | None = None
    map_names: tuple[str, ...] = ()
    score_map: str | None = None
    domain_heads: int | None = None
    feature_dim: int
    config: dict[str, Any]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in cls.__dict__:
            cls.__init__ = _captures_config(cls.__init__)  # type: ignore[method-assign]

    @abstractmethod
    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """Classify B faces.

        Args:
            image: (B, 3, H, W) in [-1, 1], RGB, any size; networks of a fixed size resize it. For a detector that
                sees more than the crop: what `look` made of each face, (B, C, H, W) in [-1, 1].
            cue: (B, cue_channels, H, W) from `oanet.cue.form_cue`; ignored unless `needs_cue`.
            need_weights: fill `DetectorOutput.attention`, if there is cross-attention.

        Raises:
            ValueError: the cue is missing, or has another number of channels than `cue_channels`.
        """

    def look(self, picture: np.ndarray, box: np.ndarray | None = None, points: np.ndarray | None = None) -> np.ndarray:
        """What the detector sees of a face, cut and resized as it was made for: the crop itself by default.

        Args:
            picture: (H, W, 3) uint8, RGB, upright: the crop, or the whole picture, as `sees` says.
            box: (4,) left, top, width and height of the face in pixels of the picture.
            points: (5, 2) left and right eye, nose, left and right mouth corner, in pixels of the picture.

        Returns:
            (H, W, C) uint8, RGB; several crops lie one behind another in the channels.

        Raises:
            ValueError: the box or the points are missing, or are no face's; `RejectedInput` as the publisher rejects.
        """
        return picture

    def look_at_nobody(self) -> np.ndarray:
        """What the detector sees, (H, W, C) uint8, of a grey picture as if a face filled its middle."""
        shares = np.array([(0.35, 0.28), (0.66, 0.28), (0.5, 0.5), (0.38, 0.72), (0.62, 0.72)])
        grey = np.full((128, 128, 3), 128, dtype=np.uint8)
        return self.look(grey, np.array([32.0, 32.0, 64.0, 64.0]), shares * 64 + 32)

    def embedding(self, output: DetectorOutput) -> Tensor:
        """The feature before `normalize_feature`, (B, D) float32: its length tells faces apart too."""
        scaled = isinstance(getattr(self, "head", None), Head)
        return unnormalize_feature(output.features) if scaled else output.features

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a file holds published weights of this detector, by its content."""
        return False

    def penalty(self) -> Tensor | None:
        """What the method adds to every loss of its weights, a scalar; None by default."""
        return None

    def num_parameters(self) -> int:
        """Number of parameters, frozen ones included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def use_domain_heads(self, num_domains: int) -> DomainHeads:
        """Replace the classifier by one logistic head per training domain; the score is their mean probability.

        The heads are saved and loaded with the detector.

        Raises:
            ValueError: the detector's `head` is not from `oanet.head`.
        """
        head = getattr(self, "head", None)
        if not isinstance(head, Head):
            raise ValueError(
                f"The detector {self.name!r} cannot be given a classifier per domain: it does not end in a"
                " `LivenessHead` or `LinearHead` named `head`. Use one that does, such as 'image_only' or 'resnet18'."
            )
        self.domain_heads = num_domains
        return head.use_domains(num_domains)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors`, each atomically; the config holds the checksum of both.

        `pretrained` is written as false and `weights` as null, since all weights are in the folder.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"name": DETECTORS.name_of(type(self)), **self.config}
        if "pretrained" in config:
            config["pretrained"] = False
        if "weights" in config:
            config["weights"] = None
        if self.domain_heads is not None:
            config[_DOMAIN_HEADS] = self.domain_heads
        config_path = folder / CONFIG_FILE
        state = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}

        def write_weights(path: Path) -> None:
            save_file(state, path)
            config[_CHECKSUM] = _checksum(config, path)
            # A config marks a complete detector, so remove the one that does not fit these weights before they move in.
            config_path.unlink(missing_ok=True)

        _write_durably(folder / WEIGHTS_FILE, write_weights)
        _write_durably(config_path, lambda path: path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8"))

    @classmethod
    def from_pretrained(cls: type[Self], folder: str | Path) -> Self:
        """Load a saved detector, in eval mode, on the CPU. Nothing is unpickled.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: the folder holds another detector, the files are not those that were saved together, or they
                do not fit each other.
        """
        folder = Path(folder)
        config = read_config(folder)
        _check_saved(folder, config)
        name = config.pop("name")
        domain_heads = config.pop(_DOMAIN_HEADS, None)
        if DETECTORS.load(name) is not cls:
            wanted = DETECTORS.name_of(cls)
            raise ValueError(f"{folder} holds the detector {name!r}, not {wanted!r}; use `load_detector`.")
        with torch.random.fork_rng(devices=[]):
            detector = cls(**config)
            if domain_heads is not None:
                detector.use_domain_heads(domain_heads)
        _load_weights(detector, folder / WEIGHTS_FILE)
        return detector.eval()


def check_cue(cue: Tensor | None, detector: str, channels: int) -> Tensor:
    """The cue. Raises ValueError if it is missing or has another number of channels."""
    if cue is None:
        raise ValueError(f"The detector {detector!r} needs a cue beside the image; see `oanet.cue.form_cue`.")
    if cue.ndim != 4 or cue.shape[1] != channels:
        raise ValueError(
            f"The detector {detector!r} was built with cue_channels = {channels} but the cue has the shape "
            f"{tuple(cue.shape)}. A 'two_part' cue has 6 channels, every other form 3."
        )
    return cue


def read_config(folder: Path) -> dict[str, Any]:
    """The saved `name`, constructor arguments and, if present, `domain_heads` and the checksum; names are checked."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no detector: {CONFIG_FILE} is missing.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error
    if not isinstance(config, dict) or "name" not in config:
        raise ValueError(f"{path} does not name a detector; was it written by save_pretrained?")
    DETECTORS.check(config["name"], (key for key in config if key not in ("name", _DOMAIN_HEADS, _CHECKSUM)))
    return config


def _check_saved(folder: Path, config: dict[str, Any]) -> None:
    """Compare config and weights with the checksum of both, which is taken out; older folders have none."""
    expected, path = config.pop(_CHECKSUM, None), folder / WEIGHTS_FILE
    if expected is not None and path.is_file() and expected != _checksum(config, path):
        raise ValueError(
            f"{path} and its {CONFIG_FILE} are not what was saved together (their checksum differs). Save or fetch"
            f" the folder again; if the change is yours, remove {_CHECKSUM} from {CONFIG_FILE}."
        )


def _checksum(config: dict[str, Any], weights: Path) -> str:
    plain = json.loads(json.dumps(config))  # as it is read again: keys are text, and sort as such
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    with weights.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _load_weights(detector: Detector, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing beside its {CONFIG_FILE}.")
    try:
        detector.load_state_dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}.") from error
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit its {CONFIG_FILE}: {error}.") from error


def _write_durably(path: Path, write: Callable[[Path], object]) -> None:
    """Write to a temporary sibling, flush it to the disk, and rename it to `path`."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        write(temporary)
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # make the rename itself durable
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

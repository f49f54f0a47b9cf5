"""What is loaded beside the trained models: who finds the faces, and who tells face from background."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from pipelines.data.detection.base import FaceDetector
from pipelines.errors import AgfasError
from pipelines.verdict.settings import LoadedPart

PARSER_NAME = "bisenet"


class Parser(Protocol):
    """Makes masks, as `pipelines.data.parsing.FaceParser` does."""

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the masks, in JSON's types."""

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 -> (B, H, W) uint8, 1 on the face."""


GivenDetector: TypeAlias = "str | FaceDetector | None"
GivenParser: TypeAlias = "str | Path | Parser | None"


@dataclass(frozen=True)
class Loaded:
    """Loaded parts and the files that they came from, to be copied into a saved folder.

    Attributes:
        detector: finds faces; None takes every picture for an aligned crop.
        detector_weights: None where a caller brought the detector, or it found its weights itself.
        parser: makes masks; None without.
        parser_weights: likewise.
    """

    detector: FaceDetector | None = None
    detector_weights: Path | None = None
    parser: Parser | None = None
    parser_weights: Path | None = None


def load_parts(detector: GivenDetector, weights: str | Path | None, parser: GivenParser) -> Loaded:
    """Open what a caller names, and take what a caller brings as it is.

    Args:
        detector: a name of `pipelines.data.detection.DETECTORS`, or a detector.
        weights: of a detector that is given by name.
        parser: the weights of a `FaceParser`, or a parser.

    Raises:
        AgfasError: weights without a name, an unknown name, or weights that cannot be loaded.
    """
    place = None if weights is None else Path(weights)
    found = _open_detector(detector, place)
    if isinstance(parser, (str, Path)):
        from pipelines.data.parsing import FaceParser

        return Loaded(found, place, FaceParser(Path(parser)), Path(parser))
    return Loaded(found, place, parser)


def _open_detector(given: GivenDetector, weights: Path | None) -> FaceDetector | None:
    if isinstance(given, str):
        from pipelines.data.detection import load_detector

        return load_detector(given, weights)
    if weights is not None:
        raise AgfasError(f"{weights} was given as weights of a face detector, but not which. Name it: --face-detector.")
    return given


def part_of_detector(detector: FaceDetector | None) -> LoadedPart | None:
    """What is remembered of a face detector."""
    return None if detector is None else _part(detector.name, detector)


def part_of_parser(parser: Parser | None) -> LoadedPart | None:
    """What is remembered of a face parser."""
    return None if parser is None else _part(PARSER_NAME, parser)


def _part(name: str, part: Any) -> LoadedPart:
    return LoadedPart(
        name=name,
        # As it will be read back from JSON, whose lists are no tuples.
        fingerprint=json.loads(json.dumps(part.fingerprint())),
        licence=str(getattr(part, "licence", "its publisher's")),
    )

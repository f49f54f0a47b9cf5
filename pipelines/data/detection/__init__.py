"""Face detectors: they find the faces of a picture, with five landmarks each.

To add one, write a class like `FaceDetector` in a new file and list it in `DETECTORS`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipelines.errors import AgfasError, in_short, nearest

__all__ = ["DETECTORS", "DetectedFace", "FaceDetector", "in_short", "load_detector"]

DETECTORS = {
    "yunet": "pipelines.data.detection.yunet:YuNet",
    "insightface": "pipelines.data.detection.insightface:InsightFace",
    "retinaface": "pipelines.data.detection.retinaface:RetinaFace",
    "mtcnn": "pipelines.data.detection.mtcnn:MTCNN",
}


@dataclass(frozen=True)
class DetectedFace:
    """One face in a picture.

    Attributes:
        box: (4,) float32, left, top, width, height in pixels of the picture; may extend beyond its edges.
        landmarks: (5, 2) float32, x and y in pixels of the picture: left eye, right eye, nose, left mouth corner,
            right mouth corner, where left is left in the picture of an upright face.
        score: confidence in [0, 1].
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float

    @classmethod
    def from_corners(cls, row: np.ndarray, landmarks: np.ndarray) -> DetectedFace:
        """A face from left, top, right, bottom and score, and ten landmark coordinates."""
        left, top, right, bottom, score = row
        box = np.array([left, top, right - left, bottom - top], dtype=np.float32)
        return cls(box, np.asarray(landmarks, dtype=np.float32).reshape(5, 2), float(score))

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return float(self.box[2] * self.box[3])


class FaceDetector(Protocol):
    """Finds the faces of a picture.

    Attributes:
        name: key in `DETECTORS`.
    """

    name: str

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the result (weights, sizes, thresholds), in JSON's types."""

    def __call__(self, picture: np.ndarray) -> list[DetectedFace]:
        """The faces of a picture (H, W, 3) uint8 RGB, the largest first."""


def load_detector(name: str, weights: Path | None = None, **options: Any) -> FaceDetector:
    """Load a face detector.

    Args:
        name: key in `DETECTORS`.
        weights: its weight file or folder. Required for `yunet`. Default: `mtcnn` reads those in the installed package
            facenet-pytorch, the others download theirs.
        options: arguments of its class.

    Raises:
        AgfasError: unknown name or option, or weights that are missing or do not fit.
    """
    if name not in DETECTORS:
        raise AgfasError(f"There is no face detector {name!r}: {nearest(name, DETECTORS)}")
    module, kind = DETECTORS[name].split(":")
    detector = getattr(import_module(module), kind)
    allowed = [option for option in inspect.signature(detector).parameters if option != "weights"]
    for option in options:
        if option not in allowed:
            raise AgfasError(f"The face detector {name!r} has no option {option!r}: {nearest(option, allowed)}")
    return detector(weights, **options)

"""What every face detector takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class DetectedFace:
    """One face in a picture.

    Attributes:
        box: (4,) float32, left, top, width, height in pixels of the picture; may reach beyond its edges.
        landmarks: (5, 2) float32, x and y in pixels of the picture. The order is that of the picture, left to right for
            an upright face: left eye, right eye, nose, left mouth corner, right mouth corner.
        score: the detector's confidence in [0, 1].
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return float(self.box[2] * self.box[3])


class FaceDetector(Protocol):
    """Finds the faces of a picture.

    Attributes:
        name: under which `load_detector` knows it.
    """

    name: str

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides what it finds (weights, sizes, thresholds), in JSON's types."""

    def __call__(self, picture: np.ndarray) -> list[DetectedFace]:
        """The faces of a picture (H, W, 3) uint8 RGB, the largest first; an empty list where there is none."""

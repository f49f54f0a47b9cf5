"""What comes of one source: faces, or the reasons why not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipelines.errors import AgfasError


class BeyondLimit(AgfasError):
    """A sound face that a limit of the recipe's does not let through: no fault of the source."""


@dataclass(frozen=True)
class Refusal:
    """One line of `refused.csv`.

    Attributes:
        path: as `source_name` says.
        frame: of a video, -1 where the whole source is refused.
        reason: one sentence.
        tried: what was looked at before it was refused.
        lost: how many of the faces that were asked for it costs.
        filtered: whether a limit of the recipe refused a sound face, which `max_refused` does not count.
    """

    path: str
    frame: int
    reason: str
    tried: str
    lost: int = 1
    filtered: bool = False

    def as_json(self) -> dict[str, Any]:
        """In JSON's types, as a task's marker holds it."""
        return asdict(self)


@dataclass(frozen=True)
class Crop:
    """A face cut out, with everything that was measured on it.

    Attributes:
        picture: (size, size, 3) uint8 RGB.
        landmarks, source_landmarks: (5, 2) float32 in pixels of the crop and of the source; NaN where not detected.
        box: (4,) float32 left, top, width, height in pixels of the source.
        score: the detector's; NaN where nothing was detected.
        pose: (3,) yaw, pitch, roll in degrees; NaN where not detected.
        quality: in [0, 1].
        mask: (size, size) uint8, 1 face, 0 not; None where there is no parser.
    """

    picture: np.ndarray
    landmarks: np.ndarray
    source_landmarks: np.ndarray
    box: np.ndarray
    score: float
    pose: tuple[float, float, float]
    quality: float
    mask: np.ndarray | None

"""Faces followed from frame to frame, so that scores of one face are averaged, and those of two never are.

A face goes on where the last frame had it: near, of about the same size, and looking alike. What does not match is a
new face with a new number and no scores: an average that starts again costs a second, an average over a live face and
the print that took its place is a wrong verdict. Nobody is recognised: a person who comes back has another number.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipelines.verdict.answers import FaceVerdict

PATIENCE = 0.5
"""Seconds for which a face may be unseen, as while a hand passes before it."""
LEAST_OVERLAP = 0.3
"""Intersection over union of two boxes from which they may be one face."""
MOST_MOVED = 0.5
"""Distance of two boxes' centres, in sides of a box, up to which they may be one face without the overlap."""
MOST_GROWN = 2.0
"""Ratio of two boxes' areas up to which they may be one face."""
LEAST_ALIKE = 0.5
"""Correlation of grey levels from which two faces in one place may be one, and two frames one scene."""

_SIDE = 24  # of the small grey pictures that are compared


@dataclass(frozen=True)
class Scored:
    """What one frame says of a face: seconds of the clock, score, probabilities of the kinds of attack."""

    time: float
    score: float
    classes: tuple[float, ...] = ()


@dataclass
class Track:
    """One face while it is followed.

    Attributes:
        number: from 1, never used again.
        face: as last seen.
        look: as last seen; see `small_grey`.
        began: when it was first seen.
        seen: when it was last seen.
        scores: of the window, the newest last.
    """

    number: int
    face: FaceVerdict
    look: np.ndarray
    began: float
    seen: float
    scores: deque[Scored] = field(default_factory=deque)

    @property
    def score(self) -> float:
        """The mean over the window; fsum is exact."""
        return math.fsum(each.score for each in self.scores) / len(self.scores)

    @property
    def classes(self) -> tuple[float, ...]:
        """The means of the probabilities over the window; empty without any."""
        columns = zip(*(each.classes for each in self.scores), strict=True)
        return tuple(math.fsum(column) / len(column) for column in columns)


class Tracks:
    """The faces of a stream.

    Args:
        window: seconds over which scores are averaged.
    """

    def __init__(self, window: float) -> None:
        self.window = window
        self.alive: list[Track] = []
        self._scene: np.ndarray | None = None
        self._last, self._number = -math.inf, 0

    def forget(self) -> None:
        """End all tracks: what happened meanwhile was not seen."""
        self.alive, self._scene = [], None

    def update(self, time: float, faces: Sequence[FaceVerdict], picture: np.ndarray) -> None:
        """Take in the next frame.

        Args:
            time: of the frame, in seconds.
            faces: its judged faces.
            picture: the frame (H, W, 3) uint8.
        """
        scene = small_grey(picture, None)
        if time - self._last > self.window or (self._scene is not None and alike(scene, self._scene) < LEAST_ALIKE):
            self.forget()
        looks = [small_grey(picture, face.box) for face in faces]
        pairs = _assigned(self.alive, faces, looks)
        for place, (face, look) in enumerate(zip(faces, looks, strict=True)):
            track = pairs.get(place)
            if track is None:
                self._number += 1
                track = Track(self._number, face, look, time, time)
                self.alive.append(track)
            track.face, track.look, track.seen = face, look, time
            track.scores.append(Scored(time, face.score, face.attack_classes))
        self.alive = [track for track in self.alive if time - track.seen <= PATIENCE]
        for track in self.alive:
            while len(track.scores) > 1 and track.scores[0].time <= time - self.window:
                track.scores.popleft()
        self._scene, self._last = scene, time


def _assigned(tracks: Sequence[Track], faces: Sequence[FaceVerdict], looks: Sequence[np.ndarray]) -> dict[int, Track]:
    """The track of each face that goes on one, by the face's place: those that fit best together."""
    from scipy.optimize import linear_sum_assignment

    fits = np.zeros((len(tracks), len(faces)))
    for row, track in enumerate(tracks):
        for column, (face, look) in enumerate(zip(faces, looks, strict=True)):
            near = nearness(track.face.box, face.box)
            likeness = alike(track.look, look) if near else 0.0
            fits[row, column] = near + likeness if likeness >= LEAST_ALIKE else 0.0
    rows, columns = linear_sum_assignment(fits, maximize=True)
    return {int(column): tracks[row] for row, column in zip(rows, columns, strict=True) if fits[row, column] > 0}


Box = tuple[float, float, float, float]


def nearness(one: Box | None, other: Box | None) -> float:
    """How well two boxes (left, top, width, height) may be one face's, in (0, 1]; 0 if they may not.

    Two faces without a box are the whole picture each.
    """
    if one is None or other is None:
        return float(one is other)
    areas = [max(box[2], 0) * max(box[3], 0) for box in (one, other)]
    if min(areas) <= 0 or max(areas) > MOST_GROWN * min(areas):
        return 0.0
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(wide, 0.0) * max(high, 0.0)
    overlap = shared / (sum(areas) - shared)
    across, down = (one[0] + one[2] / 2 - other[0] - other[2] / 2), (one[1] + one[3] / 2 - other[1] - other[3] / 2)
    moved = math.hypot(across, down) / math.sqrt(min(areas))
    return 1 / (1 + moved) if overlap >= LEAST_OVERLAP or moved <= MOST_MOVED else 0.0


def small_grey(picture: np.ndarray, box: Box | None) -> np.ndarray:
    """A part of a picture (H, W, 3), or the whole of it, as (24, 24) float32 with mean 0 and length 1; or all 0."""
    import cv2

    if box is not None:
        left, top = max(round(box[0]), 0), max(round(box[1]), 0)
        picture = picture[top : max(round(box[1] + box[3]), 0), left : max(round(box[0] + box[2]), 0)]
    if picture.size == 0:
        return np.zeros((_SIDE, _SIDE), np.float32)
    small = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).mean(axis=2)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return small / length if length > 1.0 else np.zeros_like(small)


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two pictures of `small_grey`, in [-1, 1]; two that show nothing are alike."""
    return float((one * other).sum()) if one.any() or other.any() else 1.0

"""What is answered: words, never indices, with the score, the threshold and where it is from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

LIVE, ATTACK, NO_FACE, REFUSED = "live", "attack", "no face", "refused"
ANSWERS = (LIVE, ATTACK, NO_FACE, REFUSED)

RULE = "the largest face decides"
"""How a picture with several faces gets its verdict."""


@dataclass(frozen=True)
class FaceVerdict:
    """One judged face.

    Attributes:
        verdict: `live` or `attack`.
        score: in [0, 1], higher is more live.
        box: left, top, width, height in pixels of the upright picture; None where the picture was taken as a crop.
        landmarks: five points x, y in pixels of the upright picture, in the order of `DetectedFace`; None likewise.
        detection_score: the face detector's confidence in [0, 1]; None likewise.
        panels: pictures (size, size, 3) uint8 by name: `face`, and what there is of `restoration`, `cue`, `attention`;
            empty unless asked for.
    """

    verdict: str
    score: float
    box: tuple[float, float, float, float] | None = None
    landmarks: tuple[tuple[float, float], ...] | None = None
    detection_score: float | None = None
    panels: dict[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    @property
    def area(self) -> float:
        """Of the box in square pixels; 0 without a box."""
        return 0.0 if self.box is None else self.box[2] * self.box[3]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without pixels."""
        return {
            "verdict": self.verdict,
            "score": self.score,
            "box": None if self.box is None else list(self.box),
            "landmarks": None if self.landmarks is None else [list(point) for point in self.landmarks],
            "detection_score": self.detection_score,
        }


@dataclass(frozen=True)
class FrameVerdict:
    """One frame of a video.

    Attributes:
        index: place in the video, from 0.
        seconds: since the video's beginning; None where its rate is unknown.
        score: of the frame's largest face; None where it shows none.
        faces: as in `Verdict`.
        photo: the upright frame (H, W, 3) uint8; None unless panels were asked for.
    """

    index: int
    seconds: float | None
    score: float | None
    faces: tuple[FaceVerdict, ...]
    photo: np.ndarray | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without pixels."""
        return {
            "index": self.index,
            "seconds": self.seconds,
            "score": self.score,
            "faces": [face.to_dict() for face in self.faces],
        }


@dataclass(frozen=True, repr=False)
class Verdict:
    """The answer for one picture or one video.

    Attributes:
        source: path of the file, or `picture N` for one that was given as pixels.
        verdict: `live`, `attack`, `no face` or `refused`.
        reason: one sentence: score against threshold, or why there is no score.
        score: of the largest face in [0, 1]; for a video the mean over the frames that show a face; else None.
        threshold: live is score >= threshold.
        threshold_origin: whose scores the threshold was taken from, in words.
        faces: the judged faces of a picture, the largest first: that one alone, or all with `all_faces=True`.
        frames: of a video, in its order.
        notes: what else the reader should know.
        photo: the upright picture (H, W, 3) uint8; None unless panels were asked for.
    """

    source: str
    verdict: str
    reason: str
    score: float | None
    threshold: float
    threshold_origin: str
    faces: tuple[FaceVerdict, ...] = ()
    frames: tuple[FrameVerdict, ...] = ()
    notes: tuple[str, ...] = ()
    photo: np.ndarray | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"<{self.source}: {self}>"

    def __str__(self) -> str:
        return f"{self.verdict}: {self.reason}"

    @property
    def panels(self) -> dict[str, np.ndarray]:
        """The panels of the face that decided; empty where there is none or none were asked for."""
        return self.faces[0].panels if self.faces else {}

    def without_pixels(self) -> Verdict:
        """The same answer without photos and panels, to be kept where there are many."""
        return replace(self, photo=None, faces=_bare(self.faces), frames=tuple(map(_bare_frame, self.frames)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without pixels."""
        return {
            "source": self.source,
            "verdict": self.verdict,
            "reason": self.reason,
            "score": self.score,
            "threshold": self.threshold,
            "threshold_origin": self.threshold_origin,
            "faces": [face.to_dict() for face in self.faces],
            "frames": [frame.to_dict() for frame in self.frames],
            "notes": list(self.notes),
        }


def _bare(faces: tuple[FaceVerdict, ...]) -> tuple[FaceVerdict, ...]:
    return tuple(replace(face, panels={}) for face in faces)


def _bare_frame(frame: FrameVerdict) -> FrameVerdict:
    return replace(frame, photo=None, faces=_bare(frame.faces))

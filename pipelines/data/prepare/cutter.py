"""From a picture to crops of its faces: detect, align, measure, filter, parse, enhance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.data import pose
from pipelines.data.alignment import inside
from pipelines.data.detection import DetectedFace, FaceDetector
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.quality import measure_quality
from pipelines.errors import AgfasError

if TYPE_CHECKING:
    from pipelines.data.parsing import Parser

DetectorFactory = Callable[[], FaceDetector]
_NOT_DETECTED = np.full((5, 2), np.nan, dtype=np.float32)
_NO_POSE = (float("nan"),) * 3


class BeyondLimit(AgfasError):
    """A sound face outside a limit of the recipe; nothing is wrong with the source."""


@dataclass(frozen=True)
class FaceCrop:
    """A face crop and what was measured on it.

    Attributes:
        picture: (size, size, 3) uint8 RGB.
        landmarks: (5, 2) float32 in pixels of the crop; NaN without detection.
        face: in pixels of the source; None without detection.
        pose: (3,) yaw, pitch, roll in degrees; NaN if unknown.
        quality: in [0, 1], of what lies in the picture.
        mask: (size, size) uint8, 1 face, 0 background; None without a parser.
    """

    picture: np.ndarray
    landmarks: np.ndarray
    face: DetectedFace | None
    pose: tuple[float, float, float]
    quality: float
    mask: np.ndarray | None


class Cutter:
    """Cuts the faces out of pictures by a recipe.

    Args:
        recipe: which faces to keep and how to cut them.
        detector: None if the pictures are crops already.
        parser: makes masks; None for no masks.
    """

    def __init__(self, recipe: PrepareRecipe, detector: FaceDetector | None, parser: Parser | None = None) -> None:
        self.recipe, self.detector, self.parser = recipe, detector, parser
        self.crop = recipe.crop()

    @classmethod
    def load(cls, recipe: PrepareRecipe, make_detector: DetectorFactory) -> Cutter:
        """A cutter with its models loaded.

        Raises:
            AgfasError: weights that are missing or cannot be read.
        """
        parser = None
        if recipe.parsing_weights is not None:
            from pipelines.data.parsing import FaceParser

            parser = FaceParser(recipe.parsing_weights)
        return cls(recipe, None if recipe.aligned else make_detector(), parser)

    def fingerprint(self) -> dict[str, Any]:
        """Fingerprints of the models."""
        return {
            "detector": self.detector.fingerprint() if self.detector else None,
            "parser": self.parser.fingerprint() if self.parser else None,
        }

    def find(self, picture: np.ndarray) -> list[DetectedFace]:
        """The faces to keep of a picture (H, W, 3), the largest first."""
        assert self.detector is not None
        faces = self.crop.choose(self.detector(picture))
        return faces if self.recipe.all_faces else faces[:1]

    def cut(self, picture: np.ndarray, face: DetectedFace) -> FaceCrop:
        """Cut out a detected face.

        Raises:
            BeyondLimit: of pose or quality, with the measured value.
            AgfasError: it cannot be aligned, or its pose is unknown and there is a limit.
        """
        angles = self._pose(picture, face)
        aligned = self.crop.align(picture, face)
        seen = inside(aligned.matrix, picture.shape[:2], self.recipe.size)
        return self._finish(aligned.picture, aligned.landmarks, face, angles, seen)

    def take(self, picture: np.ndarray) -> FaceCrop:
        """A picture that is a crop already.

        Raises:
            BeyondLimit: of quality, with the measured value.
            AgfasError: the picture is not square.
        """
        crop, _ = self.crop.take(picture)
        return self._finish(crop, _NOT_DETECTED, None, _NO_POSE)

    def _pose(self, picture: np.ndarray, face: DetectedFace) -> tuple[float, float, float]:
        """Yaw, pitch and roll; NaN if no head fits the landmarks and there is no limit."""
        limits = {"yaw": self.recipe.max_yaw, "pitch": self.recipe.max_pitch}
        try:
            found = pose.head_pose(face.landmarks, picture.shape[:2])
        except AgfasError:
            if any(limits.values()):
                raise
            return _NO_POSE
        for name, limit in limits.items():
            value = float(getattr(found, name))
            if limit is not None and abs(value) > limit:
                raise BeyondLimit(f"The face's {name} is {value:.1f} degrees, beyond the limit of {limit:g}.")
        return float(found.yaw), float(found.pitch), float(found.roll)

    def _finish(
        self,
        crop: np.ndarray,
        landmarks: np.ndarray,
        face: DetectedFace | None,
        angles: tuple[float, float, float],
        seen: np.ndarray | None = None,
    ) -> FaceCrop:
        # Measured before the enhancement, which would raise every score.
        quality = self._quality(crop, seen)
        picture, mask = self.crop.finish(crop, self.parser)
        if self.recipe.quality == "released" and self.crop.enhancement is not None:
            self._quality(picture, seen, " after the enhancement")  # the public code looks twice
        return FaceCrop(picture, landmarks, face, angles, quality, mask)

    def _quality(self, crop: np.ndarray, seen: np.ndarray | None, when: str = "") -> float:
        """The score. Raises BeyondLimit if the recipe's rule or limit refuses it."""
        rule, least = self.recipe.quality, self.recipe.min_quality
        found = measure_quality(crop, rule or "paper", seen)
        if rule is not None and found.refused:
            raise BeyondLimit(f"The face's {found.refused}{when} (quality: {rule}).")
        if least is not None and not found.score >= least:
            raise BeyondLimit(f"The face's quality is {found.score:.3f}, below the limit of {least:g}.")
        return float(found.score)


def follow(frames: list[tuple[int, list[DetectedFace]]]) -> Iterator[tuple[int, int, DetectedFace]]:
    """Follow persons through a video: each face belongs to the person whose last face is nearest.

    Only faces whose centres are within one face width match, the nearest pairs first. A face without a match is a new
    person. Persons are numbered as they appear, the largest face first.

    Args:
        frames: (position, faces) in the order of time, the largest face first.

    Yields:
        (position, person, face), in that order.
    """
    last: dict[int, np.ndarray] = {}
    for position, faces in frames:
        persons = _matched(last, faces)
        for place in range(len(faces)):
            persons.setdefault(place, len(last) + sum(p >= len(last) for p in persons.values()))
        for place, person in sorted(persons.items(), key=lambda pair: pair[1]):
            yield position, person, faces[place]
        last |= {person: faces[place].box for place, person in persons.items()}


def _matched(last: dict[int, np.ndarray], faces: list[DetectedFace]) -> dict[int, int]:
    """Known persons by place in `faces`."""
    near = []
    for person, box in last.items():
        for place, face in enumerate(faces):
            apart = float(np.hypot(*(_centre(box) - _centre(face.box))))
            if apart <= max(box[2], face.box[2]):
                near.append((apart, person, place))
    matched: dict[int, int] = {}
    for _, person, place in sorted(near):
        if place not in matched and person not in matched.values():
            matched[place] = person
    return matched


def _centre(box: np.ndarray) -> np.ndarray:
    return box[:2] + box[2:] / 2

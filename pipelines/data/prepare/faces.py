"""From a picture to crops of its faces: detect, align, measure, filter, enhance, parse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipelines.data.prepare.outcome import BeyondLimit, Crop
from pipelines.data.prepare.settings import Recipe, enhancement_of
from pipelines.errors import AgfasError

if TYPE_CHECKING:
    from pipelines.data.detection.base import DetectedFace, FaceDetector

DetectorFactory = Callable[[], "FaceDetector"]
_NOT_DETECTED = np.full((5, 2), np.nan, dtype=np.float32)
_NO_POSE = (float("nan"),) * 3


@dataclass
class Cutter:
    """Cuts the faces out of pictures by a recipe.

    Attributes:
        recipe: what to keep.
        detector: None where the pictures are crops already.
        parser: makes masks; None for none.
        enhancement: settings of the chain; None for none.
    """

    recipe: Recipe
    detector: FaceDetector | None
    parser: Any
    enhancement: Any

    @classmethod
    def load(cls, recipe: Recipe, make_detector: DetectorFactory) -> Cutter:
        """With its models.

        Raises:
            AgfasError: weights that are missing or cannot be read.
        """
        parser = None
        if recipe.parsing_weights is not None:
            from pipelines.data.parsing import FaceParser

            parser = FaceParser(recipe.parsing_weights)
        return cls(recipe, None if recipe.aligned else make_detector(), parser, enhancement_of(recipe))

    def fingerprint(self) -> dict[str, Any]:
        """What the models say decides their results."""
        return {
            "detector": self.detector.fingerprint() if self.detector else None,
            "parser": self.parser.fingerprint() if self.parser else None,
        }

    def find(self, picture: np.ndarray) -> list[DetectedFace]:
        """The faces to keep of a picture (H, W, 3), the largest first; empty where there is none."""
        assert self.detector is not None
        faces = [face for face in self.detector(picture) if face.score >= self.recipe.min_score]
        faces.sort(key=lambda face: -face.area)
        return faces if self.recipe.all_faces else faces[:1]

    def cut(self, picture: np.ndarray, face: DetectedFace) -> Crop:
        """One found face as a crop.

        Raises:
            BeyondLimit: of pose or quality, with the measured value.
            AgfasError: it cannot be aligned, or its pose cannot be told where there is a limit.
        """
        from pipelines.data.alignment import align

        pose = self._pose(picture, face)
        aligned = align(picture, face.landmarks, self.recipe.template, self.recipe.size)
        return self._finish(aligned.picture, aligned.landmarks, face.landmarks, face.box, face.score, pose)

    def take(self, picture: np.ndarray) -> Crop:
        """The central square of a picture that is a crop already.

        Raises:
            BeyondLimit: of quality, with the measured value.
        """
        height, width = picture.shape[:2]
        side = min(height, width)
        left, top = (width - side) // 2, (height - side) // 2
        square = Image.fromarray(picture[top : top + side, left : left + side])
        size = (self.recipe.size, self.recipe.size)
        crop = np.asarray(square.resize(size, Image.Resampling.LANCZOS))
        box = np.array([left, top, side, side], dtype=np.float32)
        return self._finish(crop, _NOT_DETECTED, _NOT_DETECTED, box, float("nan"), _NO_POSE)

    def _pose(self, picture: np.ndarray, face: DetectedFace) -> tuple[float, float, float]:
        """Yaw, pitch and roll within the limits; NaN where no head fits the landmarks and there is no limit."""
        from pipelines.data.pose import head_pose

        limits = {"yaw": self.recipe.max_yaw, "pitch": self.recipe.max_pitch}
        try:
            height, width = picture.shape[:2]
            pose = head_pose(face.landmarks, (height, width))
        except AgfasError:
            if any(limits.values()):
                raise
            return _NO_POSE
        for name, limit in limits.items():
            value = float(getattr(pose, name))
            if limit is not None and abs(value) > limit:
                raise BeyondLimit(f"The face's {name} is {value:.1f} degrees, beyond the limit of {limit:g}.")
        return float(pose.yaw), float(pose.pitch), float(pose.roll)

    def _finish(
        self,
        picture: np.ndarray,
        landmarks: np.ndarray,
        source_landmarks: np.ndarray,
        box: np.ndarray,
        score: float,
        pose: tuple[float, float, float],
    ) -> Crop:
        from pipelines.data.quality import measure_quality

        quality = float(measure_quality(picture).score)
        least = self.recipe.min_quality
        if least is not None and not quality >= least:
            raise BeyondLimit(f"The face's quality is {quality:.3f}, below the limit of {least:g}.")
        # The parser was trained on pictures as they are, so it sees the crop before it is enhanced.
        mask = self.parser(picture[None])[0] if self.parser else None
        if self.enhancement is not None:
            from pipelines.data.enhance import enhance

            picture = enhance(picture, self.enhancement)
        return Crop(picture, landmarks, source_landmarks, box, score, pose, quality, mask)


def follow(frames: list[tuple[int, list[DetectedFace]]]) -> Iterator[tuple[int, int, DetectedFace]]:
    """Give the faces of a video's frames to persons: each face goes to the nearest one of the frame before.

    Faces are near where their centres lie within one face's width; the nearest pairs are taken first, and who is near
    nobody is somebody new. Persons are numbered in the order in which they appear, the largest face first.

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
    """Person by place in `faces`, of those who are near somebody."""
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

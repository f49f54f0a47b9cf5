"""From a picture to the crops that the models know: detected and aligned, or a crop already."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipelines.data.detection.base import DetectedFace, FaceDetector
from pipelines.errors import AgfasError
from pipelines.verdict.loaded import Parser
from pipelines.verdict.settings import FaceSettings

# Cutting a crop to its central square takes at most this share of a side away, which no model notices.
_SQUARE_ENOUGH = 0.02


@dataclass(frozen=True)
class Crop:
    """One face as the models see it.

    Attributes:
        pixels: (size, size, 3) uint8.
        face: where it was found; None for a picture that was a crop already.
        mask: (size, size) uint8, 1 on the face; None without a parser.
    """

    pixels: np.ndarray
    face: DetectedFace | None = None
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Cropper:
    """Makes crops as the training data's were made.

    Attributes:
        settings: template, sizes, enhancement.
        detector: finds faces; None takes every picture for a crop.
        parser: makes masks; None makes none.
    """

    settings: FaceSettings
    detector: FaceDetector | None = None
    parser: Parser | None = None

    def __call__(self, photo: np.ndarray, all_faces: bool = False) -> tuple[list[Crop], int]:
        """The largest face of an upright picture (H, W, 3) uint8, or all, the largest first.

        Returns:
            Crops, and how many faces were found.

        Raises:
            AgfasError: without a detector, a picture that is no square; or a face that cannot be aligned.
        """
        if self.detector is None:
            return [self._finished(square(photo))], 1
        sure = [face for face in self.detector(photo) if face.score >= self.settings.min_score]
        found = sorted(sure, key=lambda face: -face.area)
        chosen = found if all_faces else found[:1]
        return [self._aligned(photo, face) for face in chosen], len(found)

    def _aligned(self, photo: np.ndarray, face: DetectedFace) -> Crop:
        from pipelines.data.alignment import align

        settings = self.settings
        return self._finished(align(photo, face.landmarks, settings.template, settings.crop_size).picture, face)

    def _finished(self, crop: np.ndarray, face: DetectedFace | None = None) -> Crop:
        """Resized as it was when the dataset was made, parsed, enhanced, and resized to what the models see."""
        from pipelines.data.faces import to_square

        settings = self.settings
        crop = to_square(Image.fromarray(crop), settings.crop_size)
        mask = None if self.parser is None else resized_mask(self.parser(crop[None])[0], settings.size)
        if settings.enhancement is not None:
            from pipelines.data.enhance import Enhancement, enhance

            crop = enhance(crop, Enhancement(**settings.enhancement))
        return Crop(to_square(Image.fromarray(crop), settings.size), face, mask)


def resized_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask (S, S) uint8 of 0 and 1 as (size, size), by the rule of `pipelines.data.faces`: at least half a pixel."""
    shares = Image.fromarray(mask * np.uint8(255)).resize((size, size), Image.Resampling.BOX)
    return (np.asarray(shares) >= 128).astype(np.uint8)


def square(photo: np.ndarray) -> np.ndarray:
    """A square picture as it is; one that is a pixel or two off, cut to its central square.

    Raises:
        AgfasError: it is no square, so it is no aligned crop.
    """
    height, width = photo.shape[:2]
    side = min(height, width)
    if max(height, width) - side > _SQUARE_ENOUGH * max(height, width):
        raise AgfasError(
            f"the picture has {width} x {height} pixels, so it is no aligned face crop, which is square. Name a face"
            " detector to find the face in it, for example --face-detector yunet --weights yunet.onnx."
        )
    top, left = (height - side) // 2, (width - side) // 2
    return photo[top : top + side, left : left + side]

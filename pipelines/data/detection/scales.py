"""The sizes at which a picture is searched for faces, and the way back to its own pixels.

The time of a detector grows with the picture, and its network was trained on faces of about 10 to 300 pixels: in a
phone picture at full size it is slow, misses the large face in front and finds small ones that are not there. So every
detector searches a small copy first, and larger copies only for small faces.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipelines.data.detection import DetectedFace
from pipelines.data.images import check_pixels
from pipelines.errors import AgfasError

Search = Callable[[np.ndarray], list[DetectedFace]]


@dataclass(frozen=True)
class SearchScales:
    """Search a copy with the longer side `longer_side`. While it shows no face, or the largest one is narrower than
    `small_face` pixels in the copy, double the side, up to the picture's own size.

    Pictures are never enlarged. By default, the first copy of a picture of 4000 x 3000 shows faces down to about 60 of
    its pixels; smaller ones are found in the next copies, where faces below 200 of its pixels are also measured again.
    Faces much smaller than the largest one may be missed.

    Attributes:
        longer_side: of the first copy, in pixels.
        largest_side: of the last copy, which bounds memory: a network at 89 million pixels would need several GiB.
        small_face: box width in the copy below which landmarks are too coarse for alignment.
    """

    longer_side: int = 640
    largest_side: int = 4096
    small_face: int = 32

    def __post_init__(self) -> None:
        if not 32 <= self.longer_side <= self.largest_side:
            raise AgfasError(
                f"longer_side must be from 32 to largest_side; got longer_side={self.longer_side} and"
                f" largest_side={self.largest_side}."
            )

    def first(self) -> SearchScales:
        """Only the first copy."""
        return SearchScales(self.longer_side, self.longer_side, self.small_face)

    def sides(self, own: int) -> Iterator[int]:
        """The longer sides to search in turn for a picture with the longer side `own`."""
        last = min(own, self.largest_side)
        side = self.longer_side
        while side < last:
            yield side
            side *= 2
        yield last


class ScaledDetector(ABC):
    """Base of the face detectors here: they search a picture as `SearchScales` says.

    Subclasses set `name`, `licence` and, once their weights are loaded, `sha256`.

    Args:
        scales: sizes of the copies.
        thresholds: by name, each in [0, 1].

    Raises:
        AgfasError: a threshold outside [0, 1].
    """

    name: str
    licence: str
    sha256: str

    def __init__(self, scales: SearchScales, **thresholds: float) -> None:
        for option, value in thresholds.items():
            if not 0 <= value <= 1:
                raise AgfasError(f"{option} must be from 0 to 1; got {value}.")
        self.scales, self.thresholds = scales, thresholds

    def fingerprint(self) -> dict[str, Any]:
        """Weights, thresholds and sizes."""
        return {"detector": self.name, "weights": self.sha256, **self.thresholds, **asdict(self.scales)}

    def __call__(self, picture: np.ndarray) -> list[DetectedFace]:
        """The faces of a picture (H, W, 3) uint8 RGB, the largest first."""
        return search_scales(picture, self._search, self.scales)

    @abstractmethod
    def _search(self, picture: np.ndarray) -> list[DetectedFace]:
        """The faces of one copy, in its pixels."""


def search_scales(picture: np.ndarray, search: Search, scales: SearchScales) -> list[DetectedFace]:
    """Search a picture as `SearchScales` says.

    Args:
        picture: (H, W, 3) uint8 RGB.
        search: finds the faces of one copy, in pixels of that copy.
        scales: sizes of the copies.

    Returns:
        The faces in pixels of the picture, the largest first.

    Raises:
        ValueError: the picture is not (H, W, 3) uint8, or is empty.
    """
    check_pixels(picture)
    best: list[DetectedFace] = []
    for side in scales.sides(max(picture.shape[:2])):
        copy = shrink(picture, side)
        ratio = (picture.shape[1] / copy.shape[1], picture.shape[0] / copy.shape[0])
        found = ordered([enlarge(face, ratio) for face in search(copy)])
        # A larger copy may lose a large face and keep small false ones; then the smaller copy was right.
        if best and (not found or found[0].area < best[0].area / 2):
            break
        best = found
        if best and best[0].box[2] / ratio[0] >= scales.small_face:
            break
    return best


def shrink(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture resized to the longer side `side` by area averaging; smaller pictures are returned unchanged."""
    import cv2

    height, width = picture.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def enlarge(face: DetectedFace, ratio: tuple[float, float]) -> DetectedFace:
    """A face of a copy in pixels of the original; `ratio` is original to copy along x and y."""
    x, y = ratio
    box = face.box * np.array([x, y, x, y], dtype=np.float32)
    return DetectedFace(box, face.landmarks * np.array([x, y], dtype=np.float32), face.score)


def ordered(faces: list[DetectedFace]) -> list[DetectedFace]:
    """Sort by area, then by score, then from left to right; faces that are empty or not finite are dropped."""
    real = [face for face in faces if np.isfinite(face.box).all() and np.isfinite(face.landmarks).all()]
    real = [face for face in real if face.box[2] > 0 and face.box[3] > 0]
    return sorted(real, key=lambda face: (-face.area, -face.score, float(face.box[0]), float(face.box[1])))

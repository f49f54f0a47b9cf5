"""At which sizes a picture is searched for faces, and the way back to its own pixels.

A detector's time grows with the picture, and its nets were trained on faces of about 10 to 300 pixels: in a phone
picture at full size they are slow, miss the large face in front and find small ones that are not there. So every
detector here searches a small copy first and a larger one only for the sake of small faces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipelines.data.detection.base import DetectedFace
from pipelines.errors import AgfasError

Search = Callable[[np.ndarray], list[DetectedFace]]


@dataclass(frozen=True)
class SearchScales:
    """The rule: search a copy whose longer side is `longer_side`; while no face is found there, or the largest one is
    narrower than `small_face` pixels in the copy, search one of twice the side, up to the picture's own size.

    A picture that is no larger is searched as it is, and nothing is ever enlarged. At the default, the first copy of a
    picture of 4000 x 3000 shows faces down to about 60 of its pixels; smaller ones are found in the next copies, and
    a face below 200 of its pixels is measured there again. Faces much smaller than the largest one may be missed.

    Attributes:
        longer_side: of the first copy, in pixels.
        largest_side: of the last copy; a net at full size over a picture of 89 million pixels would need several GiB.
        small_face: width of a box in the searched copy under which its landmarks are too coarse to align by.
    """

    longer_side: int = 640
    largest_side: int = 4096
    small_face: int = 32

    def __post_init__(self) -> None:
        if not 32 <= self.longer_side <= self.largest_side:
            raise AgfasError(
                f"A detector searches sides from 32 pixels up to largest_side; got longer_side={self.longer_side} and"
                f" largest_side={self.largest_side}."
            )

    def fingerprint(self) -> dict[str, Any]:
        """What decides the sizes, in JSON's types."""
        return asdict(self)

    def first(self) -> SearchScales:
        """The first copy alone."""
        return SearchScales(self.longer_side, self.longer_side, self.small_face)

    def sides(self, own: int) -> Iterator[int]:
        """Longer sides to search in turn, for a picture whose own is `own`."""
        last = min(own, self.largest_side)
        side = self.longer_side
        while side < last:
            yield side
            side *= 2
        yield last


def search_scales(picture: np.ndarray, search: Search, scales: SearchScales) -> list[DetectedFace]:
    """The faces of a picture by the rule of `SearchScales`, the largest first, in pixels of the picture.

    Args:
        picture: (H, W, 3) uint8 RGB.
        search: finds the faces of one copy, in pixels of that copy.

    Raises:
        ValueError: the picture is not (H, W, 3) uint8, or is empty.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or picture.size == 0:
        raise ValueError(f"a picture of shape (H, W, 3) in uint8 is expected; got {picture.shape} {picture.dtype}.")
    best: list[DetectedFace] = []
    for side in scales.sides(max(picture.shape[:2])):
        copy = shrink(picture, side)
        ratio = (picture.shape[1] / copy.shape[1], picture.shape[0] / copy.shape[0])
        found = ordered([enlarge(face, ratio) for face in search(copy)])
        # A larger copy may lose a large face and keep small errors; then the smaller copy was right.
        if best and (not found or found[0].area < best[0].area / 2):
            break
        best = found
        if best and best[0].box[2] / ratio[0] >= scales.small_face:
            break
    return best


def shrink(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture with its longer side at `side`, every pixel of the original counted; as it is where it is smaller."""
    import cv2

    height, width = picture.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def enlarge(face: DetectedFace, ratio: tuple[float, float]) -> DetectedFace:
    """A face found in a copy, in pixels of the original; `ratio` is original to copy along x and y."""
    x, y = ratio
    box = face.box * np.array([x, y, x, y], dtype=np.float32)
    return DetectedFace(box, face.landmarks * np.array([x, y], dtype=np.float32), face.score)


def ordered(faces: list[DetectedFace]) -> list[DetectedFace]:
    """The largest first, then the surest, then the leftmost; what has no area or no finite place is left out."""
    real = [face for face in faces if np.isfinite(face.box).all() and np.isfinite(face.landmarks).all()]
    real = [face for face in real if face.box[2] > 0 and face.box[3] > 0]
    return sorted(real, key=lambda face: (-face.area, -face.score, float(face.box[0]), float(face.box[1])))

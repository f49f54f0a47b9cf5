"""Rotated and upside-down faces, for a detector that was trained on upright ones.

Such a detector may still find them with a low score, but with landmarks of an upright face, so that the crop would be
rotated. Therefore a face with a low score is searched again in rotated copies of its surroundings.
"""

from __future__ import annotations

import numpy as np

from pipelines.data.alignment import invert_similarity, transform_points
from pipelines.data.detection import DetectedFace
from pipelines.data.detection.scales import Search, enlarge, ordered, shrink

# With steps of 45 degrees, a face is at most 22.5 degrees from upright in one of the copies.
_ANGLES = tuple(45.0 * step for step in range(1, 8))
# Side of the rotated surroundings: at most this many pixels, and this many times the box.
_SIDE = 256
_SURROUNDINGS = 2.0
# A rotated copy must exceed the upright score by this much.
_GAIN = 0.03


def look_again(picture: np.ndarray, faces: list[DetectedFace], search: Search, sure: float) -> list[DetectedFace]:
    """Replace every face with a score below `sure` by the best-scoring one of its rotated copies.

    Args:
        picture: (H, W, 3) uint8 RGB, in which the faces were found.
        faces: in pixels of the picture.
        search: finds faces in a small picture.
        sure: in [0, 1].
    """
    return [face if face.score >= sure else _surest(picture, face, search) for face in faces]


def find_turned(picture: np.ndarray, search: Search) -> list[DetectedFace]:
    """The faces of the quarter turn with the highest score, for a picture without an upright face."""
    best: list[DetectedFace] = []
    height, width = picture.shape[:2]
    for angle in (90.0, 180.0, 270.0):
        size = (height, width) if angle != 180.0 else (width, height)
        found = _search_turned(picture, ((width - 1) / 2, (height - 1) / 2), angle, size, search)
        if found and (not best or found[0].score > best[0].score):
            best = found
    return best


def _surest(picture: np.ndarray, face: DetectedFace, search: Search) -> DetectedFace:
    left, top, width, height = (float(value) for value in face.box)
    x, y, side = left + width / 2, top + height / 2, _SURROUNDINGS * max(width, height)
    around, corner = _cut_around(picture, x, y, side)
    if around.size == 0:  # the box is outside the picture
        return face
    small = shrink(around, max(1, round(max(around.shape[:2]) * _SIDE / max(side, _SIDE))))
    ratio = (around.shape[1] / small.shape[1], around.shape[0] / small.shape[0])
    centre = ((x - corner[0]) / ratio[0], (y - corner[1]) / ratio[1])
    size = max(32, round(side / max(ratio)))
    best = face
    for angle in _ANGLES:
        found = _search_turned(small, centre, angle, (size, size), search)
        same = [other for other in (_moved(enlarge(one, ratio), corner) for one in found) if _is_near(other, face)]
        if same and same[0].score > max(best.score, face.score + _GAIN):
            best = same[0]
    return best


def _cut_around(picture: np.ndarray, x: float, y: float, side: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of the picture that any rotation of a square around (x, y) shows, and its left top corner."""
    reach = side * 0.71 + 1  # half of the diagonal
    left, top = max(0, int(x - reach)), max(0, int(y - reach))
    part = picture[top : max(top, int(y + reach)) + 1, left : max(left, int(x + reach)) + 1]
    return part, np.array([left, top], dtype=np.float32)


def _search_turned(
    picture: np.ndarray, centre: tuple[float, float], angle: float, size: tuple[int, int], search: Search
) -> list[DetectedFace]:
    """Search a copy of (width, height) = `size` that shows the picture around `centre`, rotated clockwise."""
    import cv2

    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    shift = (np.array(size) - 1) / 2 - turn @ np.array(centre)
    matrix = np.hstack([turn, shift[:, None]])
    copy = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR)
    back = invert_similarity(matrix)
    return ordered([_turned_back(face, back) for face in search(copy)])


def _turned_back(face: DetectedFace, back: np.ndarray) -> DetectedFace:
    """A face of the rotated copy in the picture; its box becomes a square with the same centre."""
    left, top, width, height = (float(value) for value in face.box)
    x, y = transform_points(back, np.array([[left + width / 2, top + height / 2]]))[0]
    side = (width + height) / 2
    box = np.array([x - side / 2, y - side / 2, side, side], dtype=np.float32)
    return DetectedFace(box, transform_points(back, face.landmarks).astype(np.float32), face.score)


def _moved(face: DetectedFace, by: np.ndarray) -> DetectedFace:
    box = np.concatenate([face.box[:2] + by, face.box[2:]])
    return DetectedFace(box, face.landmarks + by, face.score)


def _is_near(other: DetectedFace, face: DetectedFace) -> bool:
    """Whether the centre of one lies in the box of the other."""
    x, y = other.box[:2] + other.box[2:] / 2
    left, top, width, height = face.box
    return bool(left <= x <= left + width and top <= y <= top + height)

"""From five landmarks to an aligned crop: the similarity that lays them on a template in the least squares sense.

Coordinates are x, y in pixels, with the centre of the first pixel at (0, 0), as in OpenCV.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipelines.errors import AgfasError, nearest

# Landmarks closer together than this (root mean square distance from their centre, in pixels) are no face.
_SMALLEST_SPREAD = 0.5
# The sampled square of a very large face is cut down to this side (of 3 bytes a pixel), so that memory stays bounded.
_LARGEST_SAMPLED_SIDE = 8192


@dataclass(frozen=True)
class Template:
    """Where the five landmarks of an upright face lie in a square crop.

    Attributes:
        points: (5, 2) float64, x and y in units of the crop's side: left eye, right eye, nose, left and right mouth
            corner, as seen in the picture.
        size: side in pixels at which the template is published.
        source: where the numbers come from.
    """

    points: np.ndarray
    size: int
    source: str


_AGFAS = ((0.3489, 0.2848), (0.6614, 0.2848), (0.4996, 0.4963), (0.3784, 0.7222), (0.6215, 0.7217))
_ARCFACE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))

TEMPLATES: dict[str, Template] = {
    # Eyes at 28 % of the height: more chin than ArcFace's, and taller, so that no similarity fits a face exactly.
    "agfas": Template(np.array(_AGFAS), 256, "README of qqwsad5/AG-FAS, for crops of 256"),
    "arcface": Template(np.array(_ARCFACE) / 112, 112, "insightface's face_align, for crops of 112"),
}


@dataclass(frozen=True)
class Aligned:
    """An aligned crop and how it was made.

    Attributes:
        picture: (size, size, 3) uint8 RGB.
        landmarks: (5, 2) float32, in pixels of the crop.
        matrix: (2, 3) float64; takes (x, y, 1) of the picture to pixels of the crop.
        residual: root mean square distance of the landmarks from the template, in pixels of the crop. Large where the
            face is turned away or the landmarks are wrong.
    """

    picture: np.ndarray
    landmarks: np.ndarray
    matrix: np.ndarray
    residual: float

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) of the crop as points of the picture that it was cut from, float64."""
        return transform_points(invert_similarity(self.matrix), points)


def align(picture: np.ndarray, landmarks: np.ndarray, template: str = "agfas", size: int = 256) -> Aligned:
    """Cut a face out so that its landmarks lie on a template.

    What lies outside the picture is black. Where the face is larger than the crop, the crop is sampled n times as
    densely in both directions, n being the number of picture's pixels that fall on one of the crop's, and each n x n
    samples are averaged: every pixel of the picture counts, whatever the angle, and fine texture does not alias into
    patterns that an attack could be taken for. Where it is smaller, it is interpolated bilinearly.

    Args:
        picture: (H, W, 3) uint8 RGB.
        landmarks: (5, 2) in pixels of the picture, in the order of `Template.points`.
        template: name in `TEMPLATES`.
        size: side of the crop in pixels.

    Raises:
        AgfasError: unknown template, landmarks that make no face, or a crop that lies outside the picture.
        ValueError: the picture is not (H, W, 3) uint8, or `size` is not positive.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"a picture of shape (H, W, 3) in uint8 is expected; got {picture.shape} {picture.dtype}.")
    if size < 1:
        raise ValueError(f"the side of a crop is at least one pixel; got {size}.")
    if template not in TEMPLATES:
        raise AgfasError(f"There is no template {template!r}: {nearest(template, TEMPLATES)}")
    target = TEMPLATES[template].points * size
    matrix = similarity(landmarks, target)
    moved = transform_points(matrix, landmarks)
    residual = float(np.sqrt(((moved - target) ** 2).sum(axis=1).mean()))
    return Aligned(_warp(picture, matrix, size), moved.astype(np.float32), matrix, residual)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift that take `source` to `target` with the least sum of squared distances.

    Umeyama 1991 (equations 40 to 42) in the plane. With points written as complex numbers w -> z, centred, the
    similarity is z = a w, and the minimum lies at a = sum(conj(w) z) / sum(|w|^2): |a| is the scale, its argument the
    rotation. There is no reflection among these, so none has to be ruled out.

    Args:
        source, target: (N, 2), N at least 2. Points on one line are enough.

    Returns:
        (2, 3) float64.

    Raises:
        AgfasError: values that are not finite, points that fall together, or points in mirrored order.
    """
    source, target = check_landmarks(source), np.asarray(target, dtype=np.float64)
    w, z = source @ (1, 1j), target @ (1, 1j)
    w_mean, z_mean = w.mean(), z.mean()
    w, z = w - w_mean, z - z_mean
    power = float((np.abs(w) ** 2).sum())
    a = complex((w.conj() * z).sum() / power)
    if abs(a) * math.sqrt(power) < 0.05 * math.sqrt(float((np.abs(z) ** 2).sum())):
        raise AgfasError(
            f"The landmarks {_listed(source)} fit a face only when shrunk to a point: they are mirrored or out of"
            " order. The order is left eye, right eye, nose, left and right mouth corner, as seen in the picture."
        )
    shift = complex(z_mean - a * w_mean)
    return np.array([[a.real, -a.imag, shift.real], [a.imag, a.real, shift.imag]])


def check_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks (N, 2) as float64.

    Raises:
        AgfasError: values that are not finite, or points that fall together.
        ValueError: another shape.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"landmarks have the shape (N, 2); got {points.shape}.")
    if not np.isfinite(points).all():
        raise AgfasError(
            f"The landmarks {_listed(points)} are not all finite numbers, so the face cannot be aligned. Detect the"
            " face again, or leave it out."
        )
    spread = math.sqrt(float(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))
    if spread < _SMALLEST_SPREAD:
        raise AgfasError(
            f"The landmarks {_listed(points)} fall together, so they show no face. Detect the face again, or leave"
            " it out."
        )
    return points


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N, 2) moved by a (2, 3) matrix, float64."""
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def invert_similarity(matrix: np.ndarray) -> np.ndarray:
    """The (2, 3) matrix that undoes another."""
    inverse = np.linalg.inv(matrix[:, :2])
    return np.hstack([inverse, -(inverse @ matrix[:, 2])[:, None]])


def _warp(picture: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Sample the crop from the picture; see `align` for the borders and for faces larger than the crop."""
    import cv2

    picture, matrix = _cut_region(picture, matrix, size)
    pixels = 1 / float(np.hypot(matrix[0, 0], matrix[1, 0]))  # of the picture, along one of the crop's
    dense = min(math.ceil(pixels - 1e-6), max(1, _LARGEST_SAMPLED_SIDE // size))
    if dense <= 1:
        return cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR)
    # The centre of a pixel of the crop is the centre of its dense x dense samples.
    fine = matrix * dense + np.array([[0, 0, (dense - 1) / 2]] * 2)
    sampled = cv2.warpAffine(picture, fine, (size * dense, size * dense), flags=cv2.INTER_LINEAR)
    return cv2.resize(sampled, (size, size), interpolation=cv2.INTER_AREA)


def _cut_region(picture: np.ndarray, matrix: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of the picture that the crop shows, with the matrix for it: OpenCV warps no side above 32,767."""
    height, width = picture.shape[:2]
    corners = np.array([[-1, -1], [size, -1], [-1, size], [size, size]])
    reached = transform_points(invert_similarity(matrix), corners)
    left, top = np.maximum(np.floor(reached.min(axis=0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(reached.max(axis=0)).astype(int) + 2, (width, height))
    if right <= left or bottom <= top:
        raise AgfasError(
            f"The face lies wholly outside the picture of {width} x {height} pixels: its crop would reach from"
            f" {_listed(reached[:1])} to {_listed(reached[3:])}. Check that the landmarks belong to this picture."
        )
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ (left, top)
    return picture[top:bottom, left:right], shifted


def _listed(points: np.ndarray) -> str:
    return ", ".join(f"({x:.1f}, {y:.1f})" for x, y in points)

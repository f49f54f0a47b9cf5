"""Alignment: the similarity that fits five landmarks to a template by least squares, and the crop that it gives.

Coordinates are x, y in pixels, with the centre of the first pixel at (0, 0), as in OpenCV.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipelines.data.images import check_pixels
from pipelines.errors import AgfasError, nearest

# Least root mean square distance of landmarks from their centre, in pixels.
_SMALLEST_SPREAD = 0.5
# Largest side of the sampled square of a very large face; bounds memory to 200 MB.
_LARGEST_SAMPLED_SIDE = 8192


# Positions of the five landmarks of an upright face in a square crop: (5, 2), x and y in units of the crop's side, in
# the order left eye, right eye, nose, left and right mouth corner, as seen in the picture.
TEMPLATES: dict[str, np.ndarray] = {
    # README of qqwsad5/AG-FAS, for crops of 256. Eyes at 28 % of the height; it shows more chin than ArcFace's and is
    # taller than a face, so no fit is exact.
    "agfas": np.array([(0.3489, 0.2848), (0.6614, 0.2848), (0.4996, 0.4963), (0.3784, 0.7222), (0.6215, 0.7217)]),
    # insightface's face_align, for crops of 112.
    "arcface": np.array(
        [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
    )
    / 112,
}


@dataclass(frozen=True)
class Aligned:
    """An aligned crop.

    Attributes:
        picture: (size, size, 3) uint8 RGB.
        landmarks: (5, 2) float32, in pixels of the crop.
        matrix: (2, 3) float64; maps (x, y, 1) of the picture to pixels of the crop.
    """

    picture: np.ndarray
    landmarks: np.ndarray
    matrix: np.ndarray


def align(picture: np.ndarray, landmarks: np.ndarray, template: str = "agfas", size: int = 256) -> Aligned:
    """Crop a face so that its landmarks fit a template.

    The area outside the picture is black. A face smaller than the crop is interpolated bilinearly. A face n times
    larger is sampled n times as densely in both directions, and n x n samples are averaged: plain sampling would alias
    fine texture into patterns that look like those of an attack.

    Args:
        picture: (H, W, 3) uint8 RGB.
        landmarks: (5, 2) in pixels of the picture, in the order of `TEMPLATES`.
        template: name in `TEMPLATES`.
        size: side of the crop in pixels.

    Raises:
        AgfasError: unknown template, landmarks that do not form a face, or a crop outside the picture.
        ValueError: the picture is not (H, W, 3) uint8, or `size` is not positive.
    """
    check_pixels(picture)
    if size < 1:
        raise ValueError(f"the side of a crop must be at least 1 pixel, not {size}.")
    if template not in TEMPLATES:
        raise AgfasError(f"There is no template {template!r}: {nearest(template, TEMPLATES)}")
    matrix = similarity(landmarks, TEMPLATES[template] * size)
    moved = transform_points(matrix, landmarks).astype(np.float32)
    return Aligned(_warp(picture, matrix, size), moved, matrix)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift from `source` to `target` with the least sum of squared distances.

    Umeyama 1991 (equations 40 to 42) in the plane. With centred points as complex numbers w and z, the similarity is
    z = a w, and the minimum is at a = sum(conj(w) z) / sum(|w|^2): |a| is the scale, arg(a) the rotation. Reflections
    are not of this form, so they need not be excluded.

    Args:
        source, target: (N, 2), N at least 2. Points on one line are enough.

    Returns:
        (2, 3) float64.

    Raises:
        AgfasError: values that are not finite, coinciding points, or points in mirrored order.
    """
    source, target = check_landmarks(source), np.asarray(target, dtype=np.float64)
    w, z = source @ (1, 1j), target @ (1, 1j)
    w_mean, z_mean = w.mean(), z.mean()
    w, z = w - w_mean, z - z_mean
    power = float((np.abs(w) ** 2).sum())
    a = complex((w.conj() * z).sum() / power)
    if abs(a) * math.sqrt(power) < 0.05 * math.sqrt(float((np.abs(z) ** 2).sum())):
        raise AgfasError(
            f"The landmarks {_listed(source)} do not fit a face: they are mirrored or out of order. The order is left"
            " eye, right eye, nose, left and right mouth corner, as seen in the picture."
        )
    shift = complex(z_mean - a * w_mean)
    return np.array([[a.real, -a.imag, shift.real], [a.imag, a.real, shift.imag]])


def check_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks (N, 2) as float64.

    Raises:
        AgfasError: values that are not finite, or coinciding points.
        ValueError: another shape.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"landmarks must be (N, 2), not {points.shape}.")
    if not np.isfinite(points).all():
        raise AgfasError(
            f"The landmarks {_listed(points)} are not all finite, so the face cannot be aligned. Detect it again, or"
            " leave it out."
        )
    spread = math.sqrt(float(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))
    if spread < _SMALLEST_SPREAD:
        raise AgfasError(
            f"The landmarks {_listed(points)} coincide, so they do not form a face. Detect it again, or leave it out."
        )
    return points


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N, 2) mapped by a (2, 3) matrix, float64."""
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def invert_similarity(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a (2, 3) matrix."""
    inverse = np.linalg.inv(matrix[:, :2])
    return np.hstack([inverse, -(inverse @ matrix[:, 2])[:, None]])


def inside(matrix: np.ndarray, shape: tuple[int, int], size: int) -> np.ndarray | None:
    """Which pixels of a crop, with their eight neighbours, lie in the picture.

    Args:
        matrix: of `Aligned`.
        shape: (H, W) of the picture.
        size: side of the crop.

    Returns:
        (size, size) uint8 of 0 and 1; None if all do but those of the crop's own edge.
    """
    inverse = invert_similarity(matrix)
    reach = np.abs(inverse[:, :2]).sum(axis=1)  # of the neighbours, along x and y of the picture
    far = np.array(shape[::-1]) - 1

    def within(across: np.ndarray) -> np.ndarray:
        places = transform_points(inverse, np.stack(np.meshgrid(across, across), axis=-1).reshape(-1, 2))
        return np.asarray(((places >= reach) & (places <= far - reach)).all(axis=1))

    if within(np.array([1, size - 2])).all():  # what lies between the corners lies in the picture too
        return None
    return within(np.arange(size)).reshape(size, size).astype(np.uint8)


def _warp(picture: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Sample the crop from the picture as `align` describes."""
    import cv2

    picture, matrix = _cut_region(picture, matrix, size)
    pixels = 1 / float(np.hypot(matrix[0, 0], matrix[1, 0]))  # of the picture per pixel of the crop
    dense = min(math.ceil(pixels - 1e-6), max(1, _LARGEST_SAMPLED_SIDE // size))
    if dense <= 1:
        return cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR)
    # A pixel of the crop and its dense x dense samples have the same centre.
    fine = matrix * dense + np.array([[0, 0, (dense - 1) / 2]] * 2)
    sampled = cv2.warpAffine(picture, fine, (size * dense, size * dense), flags=cv2.INTER_LINEAR)
    return cv2.resize(sampled, (size, size), interpolation=cv2.INTER_AREA)


def _cut_region(picture: np.ndarray, matrix: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of the picture that the crop shows, and its matrix: OpenCV warps only sides up to 32,767."""
    height, width = picture.shape[:2]
    corners = np.array([[-1, -1], [size, -1], [-1, size], [size, size]])
    reached = transform_points(invert_similarity(matrix), corners)
    left, top = np.maximum(np.floor(reached.min(axis=0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(reached.max(axis=0)).astype(int) + 2, (width, height))
    if right <= left or bottom <= top:
        raise AgfasError(
            f"The face is outside the picture of {width} x {height} pixels: its crop would extend from"
            f" {_listed(reached[:1])} to {_listed(reached[3:])}. Check that the landmarks belong to this picture."
        )
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ (left, top)
    return picture[top:bottom, left:right], shifted


def _listed(points: np.ndarray) -> str:
    return ", ".join(f"({x:.1f}, {y:.1f})" for x, y in points)

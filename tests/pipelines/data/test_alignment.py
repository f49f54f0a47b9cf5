"""Alignment: the similarity against an independent minimiser, and what a crop shows."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import least_squares

from pipelines.data.alignment import TEMPLATES, align, inside, invert_similarity, similarity, transform_points
from pipelines.errors import AgfasError

REALDATA = os.environ.get("AGFAS_REALDATA")


def matrix_of(scale: float, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    cosine, sine = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]]])


def smooth_picture(height: int, width: int) -> np.ndarray:
    """Slow waves, so that interpolation hardly changes a value."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 23 + y / 31), np.cos(x / 37 - y / 19), np.sin(x / 29) * np.cos(y / 41)]
    return (127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


# --- the similarity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_similarity_is_the_least_squares_one(seed):
    rng = np.random.default_rng(seed)
    template = TEMPLATES["agfas"] * 256
    rest = matrix_of(rng.uniform(0.2, 4), rng.uniform(-180, 180), (40, -20))
    source = transform_points(rest, template) + rng.normal(0, 5, (5, 2))

    def distances(p):
        return (source @ np.array([[p[0], p[1]], [-p[1], p[0]]]) + p[2:] - template).ravel()

    found = least_squares(distances, [1, 0, 0, 0], xtol=1e-14, ftol=1e-14, gtol=1e-14).x
    expected = np.array([[found[0], -found[1], found[2]], [found[1], found[0], found[3]]])
    np.testing.assert_allclose(similarity(source, template), expected, atol=1e-5)


def test_similarity_worked_by_hand():
    # A unit square, enlarged twice and turned by a quarter (x, y) -> (-2 y + 5, 2 x + 1).
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    found = similarity(square, np.array([[5, 1], [5, 3], [3, 3], [3, 1]], float))
    np.testing.assert_allclose(found, [[0, -2, 5], [2, 0, 1]], atol=1e-12)


def test_similarity_has_no_reflection_and_no_shear():
    rng = np.random.default_rng(0)
    for _ in range(20):
        found = similarity(rng.normal(0, 30, (5, 2)), rng.normal(0, 30, (5, 2)))
        product = found[:, :2] @ found[:, :2].T
        np.testing.assert_allclose(product, np.eye(2) * product[0, 0], atol=1e-9)
        assert np.linalg.det(found[:, :2]) > 0


def test_inverse_undoes():
    matrix = matrix_of(1.7, 33, (5, -9))
    points = np.random.default_rng(0).normal(0, 50, (7, 2))
    np.testing.assert_allclose(transform_points(invert_similarity(matrix), transform_points(matrix, points)), points)


def test_points_on_one_line_are_enough():
    line = np.array([[0, 0], [10, 5], [20, 10], [30, 15], [40, 20]], float)
    np.testing.assert_allclose(transform_points(similarity(line, 2 * line + 3), line), 2 * line + 3, atol=1e-9)


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        (np.full((5, 2), 7.0), "coincide"),
        (np.full((5, 2), 7.0) + np.eye(5, 2) * 0.01, "coincide"),
        (np.where(np.eye(5, 2) > 0, np.nan, 9.0), "not all finite"),
        (np.where(np.eye(5, 2) > 0, np.inf, 9.0), "not all finite"),
    ],
)
def test_landmarks_that_make_no_face_are_refused(landmarks, message):
    with pytest.raises(AgfasError, match=message):
        align(np.zeros((50, 50, 3), np.uint8), landmarks)


def test_landmarks_in_mirrored_order_are_refused():
    points = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], float)
    with pytest.raises(AgfasError, match="mirrored or out of order"):
        similarity(points, points[::-1] * (1, -1) @ np.array([[0, 1], [1, 0]]))


# --- the crop ---------------------------------------------------------------------------------------------------------


def test_an_aligned_face_is_left_as_it_is():
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    aligned = align(picture, TEMPLATES["agfas"] * 256)
    assert np.array_equal(aligned.picture, picture)
    np.testing.assert_allclose(aligned.matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-9)
    np.testing.assert_allclose(aligned.landmarks, TEMPLATES["agfas"] * 256, atol=1e-4)
    assert (aligned.picture.dtype, aligned.landmarks.dtype) == (np.uint8, np.float32)


@pytest.mark.parametrize("degrees", [0, 30, -75, 90, 180])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5, 3.0])
def test_rotation_and_scale_are_undone(degrees, scale):
    import cv2

    face = smooth_picture(128, 128)
    centre = matrix_of(scale, degrees, (0, 0))[:, :2] @ (63.5, 63.5)
    moved = matrix_of(scale, degrees, (300 - centre[0], 300 - centre[1]))
    picture = cv2.warpAffine(face, moved, (600, 600), flags=cv2.INTER_CUBIC)
    landmarks = transform_points(moved, TEMPLATES["agfas"] * 128)
    aligned = align(picture, landmarks, size=128)
    difference = np.abs(aligned.picture.astype(int) - face)[6:-6, 6:-6]
    assert difference.max() <= (12 if scale < 1 else 6)
    assert difference.mean() < 1.5
    np.testing.assert_allclose(aligned.landmarks, TEMPLATES["agfas"] * 128, atol=1e-3)
    np.testing.assert_allclose(
        transform_points(invert_similarity(aligned.matrix), aligned.landmarks), landmarks, atol=1e-3
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_landmarks_lie_near_the_template(name):
    landmarks = np.array([[210, 240], [290, 236], [252, 285], [220, 330], [285, 326]], float)
    aligned = align(smooth_picture(480, 640), landmarks, name, 112)
    distance = np.linalg.norm(aligned.landmarks - TEMPLATES[name] * 112, axis=1)
    assert 0.5 < np.sqrt((distance**2).mean()) < 6
    assert distance.max() < 10


def test_what_lies_outside_is_black_and_the_inside_is_not_moved():
    picture = np.full((100, 100, 3), 200, np.uint8)
    landmarks = TEMPLATES["agfas"] * 100 - (50, 0)  # the left half of the crop lies outside
    aligned = align(picture, landmarks, size=100)
    assert aligned.picture[:, :49].max() == 0
    assert aligned.picture[:99, 51:].min() == 200


@pytest.mark.parametrize("factor", [2.0, 3.7, 8.0])
@pytest.mark.parametrize("degrees", [0, 20])
def test_a_large_face_does_not_alias(factor, degrees):
    size = 96
    height = int(size * factor * 1.6)
    y, x = np.mgrid[:height, :height]
    fine = np.where((x + y) % 2 == 0, 255, 0).astype(np.uint8)  # a halftone of single pixels
    picture = np.repeat(fine[:, :, None], 3, axis=2)
    centre = matrix_of(factor, degrees, (0, 0))[:, :2] @ (size / 2, size / 2)
    rest = matrix_of(factor, degrees, (height / 2 - centre[0], height / 2 - centre[1]))
    crop = align(picture, transform_points(rest, TEMPLATES["agfas"] * size), size=size).picture
    inside = crop[size // 4 : -size // 4, size // 4 : -size // 4].astype(float)
    assert abs(inside.mean() - 127.5) < 3
    assert inside.std() < (45 if factor < 3 else 20)


def test_averaging_does_not_move_the_face():
    picture = np.zeros((800, 800, 3), np.uint8)
    picture[400:, :] = 255  # an edge between rows 399 and 400
    landmarks = TEMPLATES["agfas"] * 800
    crop = align(picture, landmarks, size=100).picture[:, 5:-5]
    assert crop[48].max() == 0
    assert crop[51].min() == 255
    # Row r of the crop is row 8 r of the picture: the edge, at 399.5, is at 49.94.
    covered = crop[49:51].astype(float).mean(axis=(1, 2)) / 255
    assert 50.5 - covered.sum() == pytest.approx(49.94, abs=0.08)


def test_pictures_wider_than_opencv_warps():
    picture = np.zeros((60, 40_000, 3), np.uint8)
    picture[:, 39_900:] = 180
    landmarks = TEMPLATES["agfas"] * 50 + (39_930, 2)
    assert align(picture, landmarks, size=50).picture[5:45, 5:45].min() == 180


def test_a_face_outside_its_picture_is_refused():
    with pytest.raises(AgfasError, match="is outside the picture of 60 x 50"):
        align(np.zeros((50, 60, 3), np.uint8), TEMPLATES["agfas"] * 50 + 500)


def test_mistakes():
    landmarks = TEMPLATES["agfas"] * 50
    with pytest.raises(AgfasError, match="did you mean 'arcface'"):
        align(np.zeros((50, 50, 3), np.uint8), landmarks, "arcfase")
    for picture in (np.zeros((50, 50), np.uint8), np.zeros((50, 50, 3), np.float32)):
        with pytest.raises(ValueError, match="uint8"):
            align(picture, landmarks)
    with pytest.raises(ValueError, match="at least 1 pixel"):
        align(np.zeros((50, 50, 3), np.uint8), landmarks, size=0)


@pytest.mark.realdata
@pytest.mark.skipif(not REALDATA, reason="AGFAS_REALDATA is not set")
@pytest.mark.parametrize("pattern", ["live/utkface/*.jpg", "live/aaf/*", "nuaa/attack/*/*.jpg"])
def test_eyes_of_real_faces_lie_on_the_template(pattern):
    """Found again in the crop: the eyes must be where the template says, to within a tenth of the crop."""
    from pipelines.data.detection import load_detector
    from pipelines.data.images import read_picture

    detector = load_detector("yunet", Path(str(REALDATA)).parent / "weights" / "yunet.onnx")
    paths = sorted(Path(str(REALDATA)).glob(pattern))
    near = 0
    for path in paths[:: len(paths) // 12][:12]:
        picture = np.asarray(read_picture(path))
        crop = align(picture, detector(picture)[0].landmarks).picture
        again = detector(crop)
        near += bool(again) and np.abs(again[0].landmarks[:2] - TEMPLATES["agfas"][:2] * 256).max() < 25.6
    assert near >= 11


@pytest.mark.parametrize("angle", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
def test_a_pixel_is_inside_if_its_neighbours_see_the_picture_alone(angle, scale):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.hstack([turn, (np.array([12.0, 12.0]) - turn @ (3.0, 20.0))[:, None]])
    found = inside(matrix, (40, 60), 24)
    steps = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    for y in range(24):
        for x in range(24):
            seen = transform_points(invert_similarity(matrix), np.add(steps, (x, y)))
            assert found[y, x] == ((seen >= 0) & (seen <= (59, 39))).all()


def test_a_crop_within_its_picture_has_no_mask():
    shift = np.array([[1.0, 0.0, -3.0], [0.0, 1.0, -4.0]])
    assert inside(shift, (40, 60), 24) is None
    assert inside(shift, (28, 27), 24) is None
    assert inside(shift, (26, 27), 24) is not None

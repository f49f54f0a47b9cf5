"""Head pose: a synthetic head is turned, projected, and its angles are found again, with their signs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipelines.data.alignment import TEMPLATES
from pipelines.data.pose import HEAD, head_pose
from pipelines.errors import AgfasError

REALDATA = os.environ.get("AGFAS_REALDATA")


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Written out from the module's definition: Rz(roll) Ry(-yaw) Rx(-pitch)."""
    z, y, x = np.radians([roll, -yaw, -pitch])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    return about_z @ about_y @ about_x


def project(head: np.ndarray, place: tuple[float, float, float], size: tuple[int, int]) -> np.ndarray:
    """Landmarks in a picture of (height, width), the focal length being its longer side."""
    seen = head + place
    return seen[:, :2] / seen[:, 2:] * max(size) + ((size[1] - 1) / 2, (size[0] - 1) / 2)


@pytest.mark.parametrize("yaw", [-60, -20, 0, 35, 60])
@pytest.mark.parametrize("pitch", [-40, 0, 25])
@pytest.mark.parametrize("roll", [-170, -90, 0, 30, 135])
def test_a_known_pose_is_found_again(yaw, pitch, roll):
    for distance in (250, 800, 5000):
        landmarks = project(HEAD @ rotation(yaw, pitch, roll).T, (0, 0, distance), (480, 640))
        found = head_pose(landmarks, (480, 640))
        np.testing.assert_allclose([found.yaw, found.pitch, found.roll], [yaw, pitch, roll], atol=0.01)


def test_signs_as_they_look_in_the_picture():
    frontal = project(HEAD, (0, 0, 600), (480, 640))

    def moved(point: int, x: float, y: float) -> np.ndarray:
        landmarks = frontal.copy()
        landmarks[point] += (x, y)
        return landmarks

    assert head_pose(moved(2, 8, 0), (480, 640)).yaw > 10  # the nose points to the right of the picture
    assert head_pose(moved(2, -8, 0), (480, 640)).yaw < -10
    assert head_pose(moved(2, 0, -8), (480, 640)).pitch > 10  # the nose points up
    assert head_pose(moved(2, 0, 8), (480, 640)).pitch < -10
    tilted = frontal.copy()
    tilted[1] += (0, 20)  # the eye on the right is the lower one
    assert head_pose(tilted, (480, 640)).roll > 5


@pytest.mark.parametrize("place", [(0, 0, 700), (250, 0, 700), (-300, 150, 700), (0, -200, 700)])
def test_a_face_at_the_edge_that_looks_into_the_camera_is_frontal(place):
    sight = np.array(place) / np.linalg.norm(place)
    axis = np.cross((0, 0, 1), sight)
    sine = np.linalg.norm(axis)
    turn = np.eye(3)
    if sine:  # Rodrigues: the short way from the camera's axis to the line of sight
        cross = np.cross(axis / sine, np.eye(3)).T
        turn = np.eye(3) + sine * cross + (1 - sight[2]) * cross @ cross
        np.testing.assert_allclose(turn @ (0, 0, 1), sight, atol=1e-9)
    found = head_pose(project(HEAD @ turn.T, place, (480, 640)), (480, 640))
    np.testing.assert_allclose([found.yaw, found.pitch, found.roll], 0, atol=0.01)


def test_mirroring_a_picture_mirrors_yaw_and_roll():
    landmarks = project(HEAD @ rotation(25, 10, 15).T, (60, 20, 600), (480, 640))
    mirrored = ((639, 0) + landmarks * (-1, 1))[[1, 0, 2, 4, 3]]
    one, other = head_pose(landmarks, (480, 640)), head_pose(mirrored, (480, 640))
    np.testing.assert_allclose([-other.yaw, other.pitch, -other.roll], [one.yaw, one.pitch, one.roll], atol=0.01)


def test_size_of_the_picture_does_not_matter():
    landmarks = project(HEAD @ rotation(-30, 5, 0).T, (0, 0, 500), (300, 400))
    small, large = head_pose(landmarks, (300, 400)), head_pose(landmarks * 4 + 1.5, (1200, 1600))
    np.testing.assert_allclose([small.yaw, small.pitch], [large.yaw, large.pitch], atol=0.01)


def test_errors_of_a_pixel_do_not_turn_the_head_over():
    rng = np.random.default_rng(0)
    landmarks = project(HEAD @ rotation(20, 0, 0).T, (0, 0, 600), (480, 640))  # eyes 60 pixels apart
    yaws = [head_pose(landmarks + rng.normal(0, 1, (5, 2)), (480, 640)).yaw for _ in range(100)]
    assert np.abs(np.array(yaws) - 20).max() < 10


@pytest.mark.parametrize(("name", "angles"), [("agfas", (-2.151, 2.679, 0.347)), ("arcface", (0.023, 2.012, -0.317))])
def test_templates_are_about_frontal(name, angles):
    found = head_pose(TEMPLATES[name] * 256, (256, 256))
    assert max(abs(found.yaw), abs(found.pitch), abs(found.roll)) < 6
    np.testing.assert_allclose([found.yaw, found.pitch, found.roll], angles, atol=0.02)  # of this generic head


@pytest.mark.parametrize("landmarks", [np.full((5, 2), 30.0), np.full((5, 2), np.nan)])
def test_landmarks_that_make_no_face_are_refused(landmarks):
    with pytest.raises(AgfasError, match="landmarks"):
        head_pose(landmarks, (100, 100))


@pytest.mark.realdata
@pytest.mark.skipif(not REALDATA, reason="AGFAS_REALDATA is not set")
def test_real_portraits_are_frontal_on_average():
    from pipelines.data.detection import load_detector
    from pipelines.data.images import read_picture

    detector = load_detector("yunet", Path(str(REALDATA)).parent / "weights" / "yunet.onnx")
    paths = sorted((Path(str(REALDATA)) / "live" / "utkface").glob("*.jpg"))[::125]
    pictures = [np.asarray(read_picture(path)) for path in paths]
    poses = [head_pose(detector(picture)[0].landmarks, picture.shape[:2]) for picture in pictures]
    assert np.abs(np.median([(pose.yaw, pose.pitch, pose.roll) for pose in poses], axis=0)).max() < 5

"""Head pose from five landmarks, by fitting a generic head.

The axes are the camera's: x to the right of the picture, y down, z away from the camera. Signs of the angles:

- yaw: positive if the face is turned to the right of the picture (the viewer's right, the person's left);
- pitch: positive if it looks up;
- roll: positive if the head is tilted clockwise in the picture (its right eye is the lower one).

The rotation is Rz(roll) Ry(-yaw) Rx(-pitch). Angles are relative to the line of sight, so a face at the edge of a
picture that looks into the camera has yaw and pitch of zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipelines.data.alignment import check_landmarks
from pipelines.errors import AgfasError

# Millimetres from the tip of the nose, in the order of the landmarks. Widths and heights are medians of YuNet's
# landmarks on 297 frontal faces (a third each from UTKFace, All-Age-Faces and NUAA), scaled to the mean distance of
# adults' pupils, 63 mm. Depths are from the six-point head that is common with solvePnP, at this scale. With only five
# points, the shape of a face and the detector's position of the nose shift the pitch by up to ten degrees.
HEAD = np.array(
    [
        [-31.5, -35.3, 27.0],
        [31.5, -35.3, 27.0],
        [0.0, 0.0, 0.0],
        [-27.4, 28.5, 25.0],
        [27.4, 28.5, 25.0],
    ]
)


@dataclass(frozen=True)
class Pose:
    """Angles in degrees; see the module for their signs."""

    yaw: float
    pitch: float
    roll: float


def head_pose(landmarks: np.ndarray, size: tuple[int, int]) -> Pose:
    """Estimate the head pose from landmarks.

    The camera is unknown. Its axis is assumed to pass through the centre of the picture, and its focal length to equal
    the longer side in pixels (a field of view of 53 degrees).

    Args:
        landmarks: (5, 2) in pixels of the picture; left eye, right eye, nose, left and right mouth corner.
        size: height and width of that picture in pixels.

    Returns:
        yaw and roll within 180 degrees of zero, pitch within 90.

    Raises:
        AgfasError: landmarks that are not finite, coincide, or fit no head.
    """
    import cv2

    points = check_landmarks(landmarks)
    height, width = size
    focal = float(max(height, width))
    camera = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    turn, shift = _frontal_guess(points, camera)
    # Starting frontal, the solver finds the more frontal of two poses that fit almost equally well.
    solved, turn, shift = cv2.solvePnP(
        HEAD, points, camera, None, turn, shift, useExtrinsicGuess=True, flags=cv2.SOLVEPNP_ITERATIVE
    )
    if not solved or not (np.isfinite(turn).all() and np.isfinite(shift).all() and shift[2, 0] > 0):
        raise AgfasError(
            "No head fits these five landmarks, so the pose is unknown. Detect the face again, or leave it out."
        )
    return _angles(_from_line_of_sight(cv2.Rodrigues(turn)[0], shift.ravel()))


def _frontal_guess(points: np.ndarray, camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A head that faces the camera, with the roll of the eyes, at the distance that follows from its size."""
    eyes = points[1] - points[0]
    roll = math.atan2(eyes[1], eyes[0])
    centred, head = points - points.mean(axis=0), HEAD[:, :2] - HEAD[:, :2].mean(axis=0)
    distance = camera[0, 0] * math.sqrt((head**2).sum() / (centred**2).sum())
    place = (points.mean(axis=0) - camera[:2, 2]) * distance / camera[0, 0]
    return np.array([[0.0], [0.0], [roll]]), np.array([[place[0]], [place[1]], [distance]])


def _from_line_of_sight(rotation: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The rotation relative to the line from the camera to the head: that line is rotated to the camera's axis."""
    import cv2

    sight = shift / np.linalg.norm(shift)
    axis = np.cross(sight, (0.0, 0.0, 1.0))
    sine = float(np.linalg.norm(axis))
    if sine < 1e-9:
        return rotation
    return cv2.Rodrigues(axis / sine * math.atan2(sine, sight[2]))[0] @ rotation


def _angles(rotation: np.ndarray) -> Pose:
    """The angles of Rz(roll) Ry(-yaw) Rx(-pitch)."""
    flat = math.hypot(rotation[0, 0], rotation[1, 0])
    about_x = math.atan2(rotation[2, 1], rotation[2, 2])
    about_y = math.atan2(-rotation[2, 0], flat)
    about_z = math.atan2(rotation[1, 0], rotation[0, 0])
    return Pose(yaw=-math.degrees(about_y), pitch=-math.degrees(about_x), roll=math.degrees(about_z))

"""The scene of one frame: pose, expression, light and background, and the alignment of the crop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipelines.data.alignment import TEMPLATES
from pipelines.synthetic.identity import Colour, Identity

_TEMPLATE = TEMPLATES["agfas"]
# Depth before the axis of the head, in interpupillary units: turning the head moves nearer features further.
EYE_DEPTH, NOSE_DEPTH, MOUTH_DEPTH = 0.78, 1.18, 0.88


@dataclass(frozen=True)
class HeadPose:
    """Angles in radians, expression in [0, 1] (`smile` from -1), alignment errors in fractions of the crop."""

    yaw: float = 0.0
    pitch: float = 0.0
    mouth_open: float = 0.0
    smile: float = 0.0
    brow_raise: float = 0.0
    eye_close: float = 0.0
    gaze_u: float = 0.0
    gaze_v: float = 0.0
    tilt: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    zoom: float = 1.0

    def place(self, u: float, v: float, depth: float) -> tuple[float, float]:
        """Position of a point of the turned head (orthographic projection)."""
        return (
            u * float(np.cos(self.yaw)) + depth * float(np.sin(self.yaw)),
            v * float(np.cos(self.pitch)) + depth * float(np.sin(self.pitch)),
        )


@dataclass(frozen=True)
class Light:
    """A key light from `direction` (unit vector, z towards the viewer) and ambient light; linear RGB."""

    direction: tuple[float, float, float]
    key: Colour
    ambient: Colour


@dataclass(frozen=True)
class Backdrop:
    """Background and clothes, linear RGB; `shapes` are x, y, half width and half height in fractions of the crop."""

    base: Colour
    other: Colour
    angle: float
    shapes: tuple[tuple[float, float, float, float, Colour], ...]
    cloth: Colour


def head_landmarks(identity: Identity, pose: HeadPose) -> np.ndarray:
    """(5, 2) landmarks in head units: eyes, nose tip, mouth corners, turned by the pose."""
    eye = identity.eye_spacing / 2
    mouth = identity.mouth_half_width * (1.0 + 0.12 * pose.smile)
    corner = identity.mouth_v - 0.07 * pose.smile + 0.03 * pose.mouth_open
    points = (
        (-eye, 0.0, EYE_DEPTH),
        (eye, 0.0, EYE_DEPTH),
        (0.0, identity.nose_length, NOSE_DEPTH),
        (-mouth, corner, MOUTH_DEPTH),
        (mouth, corner, MOUTH_DEPTH),
    )
    return np.array([pose.place(*point) for point in points])


def crop_transform(landmarks: np.ndarray, pose: HeadPose, plane: np.ndarray) -> np.ndarray:
    """The (2, 3) affine map from head units to fractions of the aligned crop.

    Args:
        landmarks: (5, 2) in head units.
        pose: its `tilt`, `shift_x`, `shift_y` and `zoom` are the errors of the landmark detector.
        plane: (2, 2) distortion of the picture plane before alignment; the identity for a live face.
    """
    warped = landmarks @ plane.T
    source = warped[:, 0] + 1j * warped[:, 1]
    target = _TEMPLATE[:, 0] + 1j * _TEMPLATE[:, 1]
    centred = source - source.mean()
    # Least-squares similarity with points as complex numbers (Umeyama 1991); see `data.alignment.similarity`.
    turn = np.sum(np.conj(centred) * (target - target.mean())) / np.sum(np.abs(centred) ** 2)
    turn = turn * pose.zoom * np.exp(1j * pose.tilt)
    move = target.mean() - turn * source.mean() + pose.shift_x + 1j * pose.shift_y
    similar = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]]) @ plane
    return np.column_stack([similar, [move.real, move.imag]])


def draw_pose(rng: np.random.Generator, turn: float = 0.20) -> HeadPose:
    """Pose and expression of the first frame of a video; `turn` is the standard deviation of yaw in radians."""
    return HeadPose(
        yaw=float(np.clip(rng.normal(0.0, turn), -0.45, 0.45)),
        pitch=float(np.clip(rng.normal(0.0, 0.09), -0.22, 0.22)),
        mouth_open=float(max(0.0, rng.normal(-0.15, 0.35))),
        smile=float(np.clip(rng.normal(0.2, 0.45), -0.5, 1.0)),
        brow_raise=float(rng.uniform(-0.3, 0.6)),
        eye_close=float(np.clip(rng.normal(0.08, 0.15), 0.0, 0.6)),
        gaze_u=float(rng.normal(0.0, 0.3)),
        gaze_v=float(rng.normal(0.0, 0.15)),
        **_alignment(rng),
    )


def move(pose: HeadPose, rng: np.random.Generator) -> HeadPose:
    """The head in the next frame: small changes of pose and expression, another alignment error."""
    return replace(
        pose,
        yaw=pose.yaw + float(rng.normal(0.0, 0.035)),
        pitch=pose.pitch + float(rng.normal(0.0, 0.025)),
        mouth_open=max(0.0, pose.mouth_open + float(rng.normal(0.0, 0.12))),
        smile=float(np.clip(pose.smile + rng.normal(0.0, 0.12), -0.5, 1.0)),
        eye_close=1.0 if rng.random() < 0.04 else pose.eye_close,
        gaze_u=pose.gaze_u + float(rng.normal(0.0, 0.15)),
        **_alignment(rng),
    )


def realign(pose: HeadPose, rng: np.random.Generator) -> HeadPose:
    """The head of a photograph in the next frame: another alignment error only."""
    return replace(pose, **_alignment(rng))


def _alignment(rng: np.random.Generator) -> dict[str, float]:
    tilt, x, y = rng.normal(0.0, (0.018, 0.007, 0.007))
    return {
        "tilt": float(tilt),
        "shift_x": float(x),
        "shift_y": float(y),
        "zoom": float(1.0 + rng.normal(0.0, 0.012)),
    }


def draw_light(rng: np.random.Generator, side: float, key: tuple[float, float], warmth: tuple[float, float]) -> Light:
    """Draw a light.

    Args:
        rng: random stream.
        side: standard deviation of the horizontal direction; 0.3 is frontal, 1 often from the side.
        key: range of the share of the key light in all light, in [0, 1].
        warmth: range of log(red / blue) of the key light.
    """
    x, y = rng.normal(0.0, side), rng.normal(-0.45, 0.35)
    norm = float(np.sqrt(x * x + y * y + 1.0))
    share, warm = float(rng.uniform(*key)), float(rng.uniform(*warmth))
    ambient_warm = warm * 0.4 + float(rng.normal(0.0, 0.08))
    return Light(
        direction=(float(x) / norm, float(y) / norm, 1.0 / norm),
        key=_tinted(1.25 * share, warm),
        ambient=_tinted(1.0 - share, ambient_warm),
    )


def _tinted(level: float, warm: float) -> Colour:
    return level * float(np.exp(warm / 2)), level, level * float(np.exp(-warm / 2))


def draw_backdrop(rng: np.random.Generator, brightness: tuple[float, float], shapes: int) -> Backdrop:
    """A background with up to `shapes` shapes; `brightness` is the range of reflectances."""

    def colour(saturation: float) -> Colour:
        level = float(rng.uniform(*brightness))
        red, green, blue = (level * float(np.exp(saturation * x)) for x in rng.normal(0.0, 1.0, 3))
        return min(red, 0.9), min(green, 0.9), min(blue, 0.9)

    base = colour(0.15)
    other = base if rng.random() < 0.4 else colour(0.2)
    blobs = tuple(
        (
            float(rng.uniform(0, 1)),
            float(rng.uniform(0, 1)),
            float(rng.uniform(0.1, 0.4)),
            float(rng.uniform(0.1, 0.5)),
            colour(0.35),
        )
        for _ in range(int(rng.integers(0, shapes + 1)))
    )
    return Backdrop(base, other, float(rng.uniform(0, 6.283)), blobs, colour(0.6))

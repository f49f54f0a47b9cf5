"""One video of the benchmark: a subject before a camera, live or attacked, from named streams alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.data.records import NO_ATTACK
from pipelines.data.synthetic import attacks
from pipelines.data.synthetic.camera import Camera, capture, develop
from pipelines.data.synthetic.canvas import Canvas
from pipelines.data.synthetic.domains import CORPUS_DOMAIN, PAD_DOMAINS, SOURCE_CAMERA, Domain
from pipelines.data.synthetic.identity import Identity, draw_identity
from pipelines.data.synthetic.render import SKIN, Material, render
from pipelines.data.synthetic.scene import (
    Backdrop,
    Light,
    Pose,
    crop_transform,
    draw_backdrop,
    draw_light,
    draw_pose,
    head_landmarks,
    move,
    realign,
)
from pipelines.data.synthetic.settings import CORPUS
from pipelines.data.synthetic.streams import stream

# The internal grid is finer than the picture, so that dots and stripes alias as they do on a sensor.
OVERSAMPLING = 2
_NO_TILT = np.eye(2)


@dataclass(frozen=True)
class Video:
    """What names a video; everything in it follows from these and the seed.

    Attributes:
        domain, subject, name: as in the face records.
        attack_type: `none`, `print`, `replay` or `mask`.
        split: the subject's split.
        frames: number of frames.
    """

    domain: str
    subject: str
    name: str
    attack_type: str
    split: str
    frames: int


def shoot(video: Video, seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Make the frames of a video.

    Args:
        video: which.
        seed: the benchmark's seed.
        size: side of the crops in pixels.

    Returns:
        (frames, size, size, 3) uint8 RGB, and (frames, 5, 2) float32 landmarks in pixels.
    """
    where = CORPUS_DOMAIN if video.domain == CORPUS else PAD_DOMAINS[video.domain]
    who = draw_identity(stream(seed, video.domain, video.subject, "identity"))
    rng = stream(seed, video.domain, video.name, "video")
    makers = {NO_ATTACK: _live, "mask": _masked, "print": _printed, "replay": _replayed}
    pairs = list(makers[video.attack_type](video, where, who, rng, seed, size))
    pictures, landmarks = zip(*pairs, strict=True)
    return np.stack(pictures), np.stack(landmarks).astype(np.float32)


def _scene(where: Domain, rng: np.random.Generator) -> tuple[Pose, Light, Backdrop]:
    pose = draw_pose(rng, where.turn)
    return pose, draw_light(rng, where.side, where.key, where.warmth), draw_backdrop(rng, where.brightness, where.shapes)


def _noise(seed: int, video: Video, frame: int) -> np.random.Generator:
    return stream(seed, video.domain, video.name, frame)


def _live(video, where, who, rng, seed, size):
    yield from _before_camera(video, where, who, rng, seed, size, SKIN, alive=True)


def _masked(video, where, who, rng, seed, size):
    made_of = attacks.draw_mask(rng, where.masks, attacks.strength(rng))
    yield from _before_camera(video, where, who, rng, seed, size, made_of, alive=False)


def _before_camera(video: Video, where: Domain, who: Identity, rng, seed: int, size: int, made_of: Material, alive: bool):
    """A head, live or masked, straight before the domain's camera; a mask's expression does not move."""
    pose, light, backdrop = _scene(where, rng)
    if not alive:
        pose = Pose(yaw=pose.yaw, pitch=pose.pitch, gaze_u=pose.gaze_u)
    camera = where.camera.draw(rng)
    for frame in range(video.frames):
        noise = _noise(seed, video, frame)
        if frame > 0:
            moved = move(pose, noise)
            pose = moved if alive else Pose(yaw=moved.yaw, pitch=moved.pitch, gaze_u=moved.gaze_u, tilt=moved.tilt)
        landmarks = head_landmarks(who, pose)
        to_crop = crop_transform(landmarks, pose, _NO_TILT)
        scene = render(who, pose, light, backdrop, to_crop, OVERSAMPLING * size, made_of)
        yield capture(scene, camera, noise, size), _in_pixels(landmarks, to_crop, size)


def _printed(video: Video, where: Domain, who: Identity, rng, seed: int, size: int):
    """A photograph of the subject, printed and held before the domain's camera."""
    source = _Source(where, who, rng)
    how = attacks.draw_print(rng, where.prints, attacks.strength(rng))
    camera, tint = where.camera.draw(rng), _room_light(where, rng)
    for frame in range(video.frames):
        noise = _noise(seed, video, frame)
        if frame > 0:
            source.pose = realign(source.pose, noise)
        picture, a, b, landmarks = source.show(stream(seed, video.domain, video.name, "source"), size)
        yield capture(attacks.print_light(picture, how, a, b, tint), camera, noise, size), landmarks


def _replayed(video: Video, where: Domain, who: Identity, rng, seed: int, size: int):
    """A video of the subject on a screen before the domain's camera."""
    source = _Source(where, who, rng)
    how = attacks.draw_replay(rng, where.replays, attacks.strength(rng))
    camera = where.camera.draw(rng)
    for frame in range(video.frames):
        noise = _noise(seed, video, frame)
        if frame > 0:
            source.pose = move(source.pose, noise)
        picture, a, b, landmarks = source.show(stream(seed, video.domain, video.name, "source", frame), size)
        yield capture(attacks.replay_light(picture, how, a, b, frame), camera, noise, size), landmarks


class _Source:
    """The picture that an attacker holds up: taken by a decent camera, seen a little from the side."""

    def __init__(self, where: Domain, who: Identity, rng: np.random.Generator) -> None:
        self.who = who
        self.pose, self.light, self.backdrop = _scene(where, rng)
        self.camera: Camera = SOURCE_CAMERA.draw(rng)
        lean, shear = rng.normal(0.0, 0.035), rng.normal(0.0, 0.02)
        self.plane = np.array([[1.0 + lean, shear], [0.0, 1.0 - lean]])
        self.first = self._to_crop()

    def _to_crop(self) -> np.ndarray:
        return crop_transform(head_landmarks(self.who, self.pose), self.pose, self.plane)

    def show(self, noise: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The developed picture (3, S, S), its plane's coordinates (S, S) twice, and landmarks in pixels."""
        side, to_crop = OVERSAMPLING * size, self._to_crop()
        scene = render(self.who, self.pose, self.light, self.backdrop, to_crop, side)
        picture = develop(scene, self.camera, noise, side)
        to_head = Canvas(to_crop, side).to_head.astype(np.float64)
        a, b = attacks.plane_coordinates(self.first, to_head, side)
        return picture, a, b, _in_pixels(head_landmarks(self.who, self.pose), to_crop, size)


def _room_light(where: Domain, rng: np.random.Generator) -> np.ndarray:
    warm = rng.uniform(*where.warmth)
    return np.exp(np.array([warm / 2, 0.0, -warm / 2]))


def _in_pixels(landmarks: np.ndarray, to_crop: np.ndarray, size: int) -> np.ndarray:
    return (landmarks @ to_crop[:, :2].T + to_crop[:, 2]) * size

"""One video of the benchmark: a subject before a camera, live or attacked.

Every random draw comes from a stream named by domain, subject, video and frame, so a video does not depend on others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pipelines.data.protocol_settings import CORPUS
from pipelines.data.records import NO_ATTACK
from pipelines.streams import stream
from pipelines.synthetic import attacks
from pipelines.synthetic.camera import SimulatedCamera, capture, develop
from pipelines.synthetic.canvas import invert_affine
from pipelines.synthetic.domains import CORPUS_DOMAIN, PAD_DOMAINS, SOURCE_CAMERA, Domain
from pipelines.synthetic.identity import Identity, draw_identity
from pipelines.synthetic.render import SKIN, Material, render
from pipelines.synthetic.scene import (
    Backdrop,
    HeadPose,
    Light,
    crop_transform,
    draw_backdrop,
    draw_light,
    draw_pose,
    head_landmarks,
    move,
    realign,
)

# The internal grid is finer than the picture, so that dots and stripes alias as on a sensor.
OVERSAMPLING = 2
_NO_TILT = np.eye(2)


@dataclass(frozen=True)
class VideoPlan:
    """Identifies a video; with the seed it decides every pixel.

    Attributes:
        domain, subject, name: as in a face record.
        attack_type: `none`, `print`, `replay` or `mask`.
        split: of the subject.
        frames: number of frames.
    """

    domain: str
    subject: str
    name: str
    attack_type: str
    split: str
    frames: int


def shoot(video: VideoPlan, seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Render the frames of a video.

    Args:
        video: of `benchmark.plan_videos`.
        seed: of the benchmark.
        size: side of the crops in pixels.

    Returns:
        (frames, size, size, 3) uint8 RGB, and (frames, 5, 2) float32 landmarks in pixels.
    """
    where = CORPUS_DOMAIN if video.domain == CORPUS else PAD_DOMAINS[video.domain]
    who = draw_identity(stream(seed, video.domain, video.subject, "identity"))
    take = _Take(video, where, who, stream(seed, video.domain, video.name, "video"), seed, size)
    makers = {NO_ATTACK: _live, "mask": _masked, "print": _printed, "replay": _replayed}
    pictures, landmarks = zip(*makers[video.attack_type](take), strict=True)
    return np.stack(pictures), np.stack(landmarks).astype(np.float32)


# A frame: (size, size, 3) uint8 and its landmarks.
_Frames = Iterator[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class _Take:
    """A video being made; `rng` draws what is the same in all its frames."""

    video: VideoPlan
    where: Domain
    who: Identity
    rng: np.random.Generator
    seed: int
    size: int

    def stream(self, *name: str | int) -> np.random.Generator:
        """A random stream of this video."""
        return stream(self.seed, self.video.domain, self.video.name, *name)

    def scene(self) -> tuple[HeadPose, Light, Backdrop]:
        """Pose, light and background of the first frame."""
        where, rng = self.where, self.rng
        pose = draw_pose(rng, where.turn)
        light = draw_light(rng, where.side, where.key, where.warmth)
        return pose, light, draw_backdrop(rng, where.brightness, where.shapes)


def _live(take: _Take) -> _Frames:
    yield from _before_camera(take, SKIN, alive=True)


def _masked(take: _Take) -> _Frames:
    made_of = attacks.draw_mask(take.rng, take.where.masks, attacks.strength(take.rng))
    yield from _before_camera(take, made_of, alive=False)


def _before_camera(take: _Take, made_of: Material, alive: bool) -> _Frames:
    """A head, live or masked, directly before the camera of the domain; the face of a mask does not move."""
    pose, light, backdrop = take.scene()
    camera = take.where.camera.draw(take.rng)
    for frame in range(take.video.frames):
        noise = take.stream(frame)
        pose = move(pose, noise) if frame > 0 else pose
        shown = pose if alive else replace(pose, mouth_open=0.0, smile=0.0, brow_raise=0.0)
        landmarks = head_landmarks(take.who, shown)
        to_crop = crop_transform(landmarks, shown, _NO_TILT)
        scene = render(take.who, shown, light, backdrop, to_crop, OVERSAMPLING * take.size, made_of)
        yield capture(scene, camera, noise, take.size), _in_pixels(landmarks, to_crop, take.size)


def _printed(take: _Take) -> _Frames:
    """A photograph of the subject, printed and held before the camera of the domain."""
    source = _Source(take)
    how = attacks.draw_print(take.rng, take.where.prints, attacks.strength(take.rng))
    camera, tint = take.where.camera.draw(take.rng), _room_light(take)
    for frame in range(take.video.frames):
        noise = take.stream(frame)
        if frame > 0:
            source.pose = realign(source.pose, noise)
        picture, a, b, landmarks = source.show(take.stream("source"))
        yield capture(attacks.print_light(picture, how, a, b, tint), camera, noise, take.size), landmarks


def _replayed(take: _Take) -> _Frames:
    """A video of the subject, shown on a screen before the camera of the domain."""
    source = _Source(take)
    how = attacks.draw_replay(take.rng, take.where.replays, attacks.strength(take.rng))
    camera = take.where.camera.draw(take.rng)
    for frame in range(take.video.frames):
        noise = take.stream(frame)
        if frame > 0:
            source.pose = move(source.pose, noise)
        picture, a, b, landmarks = source.show(take.stream("source", frame))
        yield capture(attacks.replay_light(picture, how, a, b, frame), camera, noise, take.size), landmarks


class _Source:
    """The picture that an attacker holds up: taken by a good camera, seen slightly from the side."""

    def __init__(self, take: _Take) -> None:
        self.who, self.size = take.who, take.size
        self.pose, self.light, self.backdrop = take.scene()
        self.camera: SimulatedCamera = SOURCE_CAMERA.draw(take.rng)
        lean, shear = take.rng.normal(0.0, 0.035), take.rng.normal(0.0, 0.02)
        self.plane = np.array([[1.0 + lean, shear], [0.0, 1.0 - lean]])
        self.first = self._to_crop()

    def _to_crop(self) -> np.ndarray:
        return crop_transform(head_landmarks(self.who, self.pose), self.pose, self.plane)

    def show(self, noise: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The developed picture (3, S, S), its plane coordinates a and b (S, S), and landmarks in pixels."""
        side, to_crop = OVERSAMPLING * self.size, self._to_crop()
        scene = render(self.who, self.pose, self.light, self.backdrop, to_crop, side)
        picture = develop(scene, self.camera, noise, side)
        a, b = attacks.plane_coordinates(self.first, invert_affine(to_crop * side), side)
        return picture, a, b, _in_pixels(head_landmarks(self.who, self.pose), to_crop, self.size)


def _room_light(take: _Take) -> np.ndarray:
    warm = take.rng.uniform(*take.where.warmth)
    return np.exp(np.array([warm / 2, 0.0, -warm / 2]))


def _in_pixels(landmarks: np.ndarray, to_crop: np.ndarray, size: int) -> np.ndarray:
    return (landmarks @ to_crop[:, :2].T + to_crop[:, 2]) * size

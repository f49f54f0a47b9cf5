"""FAS-Aug (Cai et al., IJCV 2024): changes that make another live face, or an attack, of a face.

Eight operators of strength k = 0 to 9. Three are of the camera (colour space, trembling hand, low resolution) and keep
the label; five are of a recapture (print, reflection, halftone, screen) and make any face an attack. k = 0 changes
nothing, and the label neither. Ranges and flips are those of the public code; its textures are drawn by
`pipelines.synthetic`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image

from pipelines.streams import stream, uniform
from pipelines.synthetic.colour import PRESSES, RGB_SPACES, between_spaces, printed
from pipelines.synthetic.textures import NOISE_SIDE, SCENES, SCREENS, blue_noise, scene, screen
from pipelines.training.settings import FasAugSettings

Change = Callable[[np.ndarray], np.ndarray]
"""(S, S, 3) uint8 -> the same, for a face or its restoration."""

T = TypeVar("T")

LEVELS = 10

# Order in which the nine dots of a cell light up: row and column of each.
DOTS = ((0, 1), (2, 2), (0, 0), (2, 0), (0, 2), (1, 2), (2, 1), (1, 0), (1, 1))

# Side of the faces that the lengths of `hand_trembling` are for, and its directions: rows and columns of a step.
_REFERENCE_SIDE = 256
_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))

_SHRINKING = (cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_LANCZOS4, cv2.INTER_NEAREST)
_ENLARGING = (cv2.INTER_AREA, cv2.INTER_NEAREST)


@dataclass(frozen=True)
class Operator:
    """One kind of change.

    Attributes:
        draw: from a strength and a random stream to a change.
        low, high: strengths of k = 0 and k = 9.
        flips: whether it makes an attack of a live face.
    """

    draw: Callable[[float, np.random.Generator], Change]
    low: float
    high: float
    flips: bool

    def strength(self, level: int) -> float:
        """The strength of k = `level`, in 0 to 9."""
        return self.low + level / (LEVELS - 1) * (self.high - self.low)


def colour_diversity(strength: float, rng: np.random.Generator) -> Change:
    """The numbers of another colour space, as of another camera."""
    source, target = (_pick(tuple(RGB_SPACES), rng) for _ in range(2))
    return lambda face: between_spaces(face, source, target)


def colour_distortion(strength: float, rng: np.random.Generator) -> Change:
    """The colours of a print."""
    target, press = _pick(tuple(RGB_SPACES), rng), _pick(tuple(PRESSES), rng)
    return lambda face: printed(face, press, target)


def reflection(strength: float, rng: np.random.Generator) -> Change:
    """A scene reflected by paper or glass; at most twice as large as the face."""
    shown, across, down = scene(int(rng.integers(SCENES))), rng.random(), rng.random()

    def change(face: np.ndarray) -> np.ndarray:
        side = len(face)
        part = _window(_window(shown, 2 * side, across, 1), 2 * side, down, 0)
        return _blend(face, np.asarray(Image.fromarray(np.ascontiguousarray(part)).resize((side, side))), strength)

    return change


def blue_noise_halftone(strength: float, rng: np.random.Generator) -> Change:
    """The grain of a print by blue noise: a shifted and turned tile."""
    row, column, turns = (int(rng.integers(most)) for most in (NOISE_SIDE, NOISE_SIDE, 4))

    def change(face: np.ndarray) -> np.ndarray:
        side = len(face)
        tile = np.roll(np.rot90(blue_noise(), turns), (row, column), (0, 1))[:side, :side]
        if side > NOISE_SIDE:
            tile = np.asarray(Image.fromarray(tile).resize((side, side)))
        return _blend(face, tile, strength)

    return change


def moire(strength: float, rng: np.random.Generator) -> Change:
    """The grid of a screen, sampled by the camera."""
    layout = _pick(tuple(SCREENS), rng)
    pitch = float(np.exp(uniform(rng, (np.log(0.75), np.log(3.0)))))
    angle, phase = uniform(rng, (-0.35, 0.35)), (uniform(rng, (0, 1)), uniform(rng, (0, 1)))
    return lambda face: _blend(face, screen(layout, len(face), pitch, angle, phase), strength)


def curve_halftone(strength: float, rng: np.random.Generator) -> Change:
    """The black dots of a print along a space-filling curve, in cells of 3 x 3."""
    return lambda face: _blend(face, curve_dots(face), strength)


def hand_trembling(strength: float, rng: np.random.Generator) -> Change:
    """Motion blur along a row, a column or a diagonal; the strength is its length in pixels of a face of 256."""
    down, right = _DIRECTIONS[int(rng.integers(len(_DIRECTIONS)))]

    def change(face: np.ndarray) -> np.ndarray:
        side = len(face)
        length = max(1, int(strength * side / _REFERENCE_SIDE))
        reach = length // 2
        around = cv2.copyMakeBorder(face, *(reach,) * 4, cv2.BORDER_REFLECT_101)
        steps = range(-reach, length - reach)
        shifted = [np.s_[reach + step * down :, reach + step * right :] for step in steps]
        total = sum((around[part][:side, :side] for part in shifted), np.full(face.shape, length // 2, dtype=np.uint16))
        return (total // length).astype(np.uint8)  # rounded

    return change


def low_resolution(strength: float, rng: np.random.Generator) -> Change:
    """A face of fewer pixels, enlarged."""
    shrinking, enlarging = _pick(_SHRINKING, rng), _pick(_ENLARGING, rng)

    def change(face: np.ndarray) -> np.ndarray:
        side = len(face)
        small = max(1, int(side * (1 + (strength - 1e-4) * (1 / 6 - 1) / (1 - 1e-4))))
        return cv2.resize(
            cv2.resize(face, (small, small), interpolation=shrinking), (side, side), interpolation=enlarging
        )

    return change


OPERATORS: dict[str, Operator] = {
    "colour_diversity": Operator(colour_diversity, 0.1, 10.0, False),
    "colour_distortion": Operator(colour_distortion, 0.1, 10.0, True),
    "reflection": Operator(reflection, 0.01, 0.2, True),
    "blue_noise_halftone": Operator(blue_noise_halftone, 0.01, 0.4, True),
    "moire": Operator(moire, 0.01, 0.3, True),
    "curve_halftone": Operator(curve_halftone, 0.01, 0.2, True),
    "hand_trembling": Operator(hand_trembling, 1.0, 16.0, False),
    "low_resolution": Operator(low_resolution, 0.01, 0.9, False),
}
_ALL = tuple(OPERATORS.values())
_FLIPS = np.array([operator.flips for operator in _ALL])


@dataclass(frozen=True)
class FasAugPlan:
    """The operators of every face of a global batch of B, and their k, (B, n) int64 each; k = 0 changes nothing."""

    operators: np.ndarray
    levels: np.ndarray

    @property
    def flips(self) -> np.ndarray:
        """(B,) bool: faces that become attacks, or stay attacks."""
        return (_FLIPS[self.operators] & (self.levels > 0)).any(axis=1)


class FasAug:
    """Draws and applies the changes of every step.

    Args:
        settings: how many faces are changed, and how.
        seed: determines everything, together with the step and a face's position in the global batch.
    """

    def __init__(self, settings: FasAugSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        blue_noise()  # drawn before workers are forked, which share it
        # OpenCV's own threads gain nothing on a face, and do not survive in a forked worker.
        cv2.setNumThreads(0)

    def plan(self, step: int, domains: np.ndarray, passes: np.ndarray) -> FasAugPlan:
        """The changes of a step.

        Args:
            step: from 0.
            domains: (B,) int, of every face of the global batch.
            passes: (B,) int, how often the face's domain and label had been seen whole before.
        """
        draws, count = stream(self.seed, "fas-aug", step), len(domains)
        touched = draws.random(count) < self.settings.probability
        if self.settings.sub_policies:
            places = list(zip(domains.tolist(), passes.tolist(), strict=True))
            tables = {place: self._sub_policies(*place) for place in set(places)}
            chosen = draws.integers(self.settings.sub_policies, size=count)
            policies = np.stack([tables[place][number] for place, number in zip(places, chosen, strict=True)])
        else:
            policies = _draw_policies(draws, count, self.settings.operators)
        return FasAugPlan(policies[..., 0], policies[..., 1] * touched[:, None])

    def apply(self, plan: FasAugPlan, step: int, positions: np.ndarray, faces: np.ndarray) -> list[Change]:
        """Change the faces (B, S, S, 3) at these positions of the global batch in place.

        Returns:
            For each face, what is to be done to its restoration: what keeps the label, since one transform moves both.
            The trace of an attack is what a generator of live faces would take out again.
        """
        restoring = []
        for face, position in zip(faces, positions.tolist(), strict=True):
            of_face, of_both = self._changes(plan, step, position)
            if of_face:
                face[...] = _in_turn(of_face)(face)
            restoring.append(_in_turn(of_both))
        return restoring

    def _changes(self, plan: FasAugPlan, step: int, position: int) -> tuple[list[Change], list[Change]]:
        """The changes of a face, and those of them that keep the label."""
        rng = stream(self.seed, "fas-aug", step, position)
        of_face: list[Change] = []
        of_both: list[Change] = []
        for number, level in zip(plan.operators[position].tolist(), plan.levels[position].tolist(), strict=True):
            if level:
                operator = _ALL[number]
                change = operator.draw(operator.strength(level), rng)
                of_face.append(change)
                of_both += [] if operator.flips else [change]
        return of_face, of_both

    def _sub_policies(self, domain: int, number: int) -> np.ndarray:
        draws = stream(self.seed, "fas-aug-sub-policies", domain, number)
        return _draw_policies(draws, self.settings.sub_policies, self.settings.operators)


def curve_dots(face: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8 -> (S, S) uint8: a cell of 3 x 3 dots, black or white, for each 3 x 3 pixels, resized to S."""
    side = len(face)
    third = max(1, side // 3)
    grey = cv2.cvtColor(cv2.resize(face, (third, third)), cv2.COLOR_RGB2GRAY).astype(np.float64)
    span = grey.max() - grey.min()
    lit = ((grey - grey.min()) * (9 / span if span else 0.0)).astype(np.uint8)
    cells = (lit[..., None, None] > _ranks()).astype(np.uint8) * 255  # (h, w, 3, 3)
    dots = cells.transpose(0, 2, 1, 3).reshape(3 * third, 3 * third)
    return np.asarray(Image.fromarray(dots).resize((side, side)))


@lru_cache(maxsize=1)
def _ranks() -> np.ndarray:
    """(3, 3): the place of each dot in `DOTS`."""
    ranks = np.zeros((3, 3), dtype=np.uint8)
    for rank, dot in enumerate(DOTS):
        ranks[dot] = rank
    return ranks


def _blend(face: np.ndarray, texture: np.ndarray, strength: float) -> np.ndarray:
    """(1 - strength) face + strength texture; a texture (S, S) is grey."""
    colours = texture if texture.ndim == 3 else np.repeat(texture[..., None], 3, axis=2)
    return np.asarray(Image.blend(Image.fromarray(face), Image.fromarray(colours), strength))


def _window(picture: np.ndarray, length: int, place: float, axis: int) -> np.ndarray:
    """At most `length` rows (axis 0) or columns (axis 1) of a picture, from `place` in [0, 1) of those possible."""
    start = int(place * (max(0, picture.shape[axis] - length) + 1))
    return picture[start : start + length] if axis == 0 else picture[:, start : start + length]


def _draw_policies(draws: np.random.Generator, count: int, operators: int) -> np.ndarray:
    """(count, operators, 2) int64: the number of each operator and its k."""
    numbers = draws.integers(len(_ALL), size=(count, operators))
    return np.stack([numbers, draws.integers(LEVELS, size=(count, operators))], axis=2)


def _in_turn(changes: Sequence[Change]) -> Change:
    return lambda face: reduce(lambda changed, change: change(changed), changes, face)


def _pick(choices: Sequence[T], rng: np.random.Generator) -> T:
    return choices[int(rng.integers(len(choices)))]

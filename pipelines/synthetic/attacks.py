"""Presentation attacks: the light from a printed picture, a screen or a worn mask.

Prints and screens turn a developed picture (gamma-encoded, as in a file) into linear light. Its plane has coordinates
(a, b) in fractions of the crop. The traces of an attack are structure (dots, waves, grids, flat light): mean colour and
contrast change no more than cameras differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipelines.streams import uniform
from pipelines.synthetic.camera import REFERENCE_SIDE
from pipelines.synthetic.domains import MaskRange, PrintRange, ReplayRange
from pipelines.synthetic.render import Material

_TAU = float(2.0 * np.pi)
# Screen angles of cyan, magenta and yellow in degrees, as printers use them to avoid moiré between the inks.
_INK_ANGLES = (15.0, 75.0, 45.0)


@dataclass(frozen=True)
class Print:
    """A printed photograph; `pitch` is a fraction of the crop, strengths are in [0, 1]."""

    pitch: float
    angle: float
    dots: float
    fade: float
    desaturate: float
    bend: float
    bend_angle: float
    bend_phase: float
    sheen: float
    fibre_seed: int
    border: float
    border_angle: float


@dataclass(frozen=True)
class Replay:
    """A picture on a screen; periods are fractions of the crop, strengths are in [0, 1]."""

    moire_period: float
    moire_angle: float
    moire_chirp: float
    moire: float
    colour_lag: float
    grid_period: float
    grid: float
    grid_angle: float
    bands: float
    band_period: float
    phase: float
    gamma: float
    blue: float
    veil: float
    glare: tuple[float, float, float, float]
    border: float
    border_angle: float


def strength(rng: np.random.Generator) -> float:
    """How visible an attack is, in [0.35, 1.15]: most are plain to see, some are faint."""
    return 0.35 + 0.8 * float(rng.beta(1.8, 1.3))


def draw_print(rng: np.random.Generator, span: PrintRange, strong: float) -> Print:
    """A print by a printer of the domain."""
    return Print(
        pitch=uniform(rng, span.pitch) / REFERENCE_SIDE,
        angle=float(rng.uniform(0.0, 90.0)),
        dots=strong * uniform(rng, span.dots),
        fade=strong * uniform(rng, span.fade),
        desaturate=float(rng.uniform(0.0, 0.35)),
        bend=strong * uniform(rng, span.bend),
        bend_angle=float(rng.normal(0.0, 0.5)),
        bend_phase=float(rng.uniform(0.0, _TAU)),
        sheen=float(max(0.0, rng.normal(0.02, 0.05))),
        fibre_seed=int(rng.integers(2**62)),
        border=float(rng.uniform(0.05, 0.12)) if rng.random() < span.border else 0.0,
        border_angle=_edge_angle(rng),
    )


def draw_replay(rng: np.random.Generator, span: ReplayRange, strong: float) -> Replay:
    """A screen of the domain and how it is held."""
    return Replay(
        moire_period=uniform(rng, span.moire_period) / REFERENCE_SIDE,
        moire_angle=float(rng.uniform(0.0, np.pi)),
        moire_chirp=float(rng.normal(0.0, 0.35)),
        moire=strong * uniform(rng, span.moire),
        colour_lag=float(rng.uniform(0.0, 1.8)),
        grid_period=float(rng.uniform(1.15, 2.3)) / REFERENCE_SIDE,
        grid=strong * uniform(rng, span.grid),
        grid_angle=float(rng.normal(0.0, 0.08)),
        bands=strong * uniform(rng, span.bands),
        band_period=float(rng.uniform(0.3, 1.2)),
        phase=float(rng.uniform(0.0, _TAU)),
        gamma=float(rng.uniform(2.0, 2.5)),
        blue=float(rng.normal(0.06, 0.12)),
        veil=strong * uniform(rng, span.veil),
        glare=(
            float(rng.uniform(0, 1)),
            float(rng.uniform(0, 1)),
            float(rng.uniform(0.08, 0.3)),
            float(max(0.0, rng.normal(0.0, 0.10))),
        ),
        border=float(rng.uniform(0.05, 0.13)) if rng.random() < span.border else 0.0,
        border_angle=_edge_angle(rng),
    )


def draw_mask(rng: np.random.Generator, span: MaskRange, strong: float) -> Material:
    """The material of a mask: smooth, flat, glossy, cut at the eyes, slightly off the colour of the neck."""
    full = min(strong, 1.0)
    red, green, blue = np.exp(rng.normal(0.0, 0.07 * full, 3))
    return Material(
        texture=1.0 - full * (1.0 - uniform(rng, span.smooth)),
        relief=1.0 - full * (1.0 - uniform(rng, span.flat)),
        gloss=0.10 + full * uniform(rng, span.gloss),
        rim=full * uniform(rng, span.rim),
        edge=full * uniform(rng, span.edge),
        dye=(float(red), float(green), float(blue)),
    )


def _edge_angle(rng: np.random.Generator) -> float:
    """The side on which an edge of paper or screen enters the crop; nearly vertical or horizontal."""
    return float(rng.integers(0, 4)) * np.pi / 2 + float(rng.normal(0.0, 0.06))


def plane_coordinates(to_crop: np.ndarray, to_head: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """(S, S) coordinates on the shown picture: pixels of this frame, mapped through the head to the first crop.

    This keeps dots and waves on the paper while the alignment of the crop varies.
    """
    both = to_crop[:, :2] @ to_head[:, :2]
    offset = to_crop[:, :2] @ to_head[:, 2] + to_crop[:, 2]
    at = np.arange(side, dtype=np.float32) + 0.5
    (m, n), (p, q) = both.astype(np.float32)
    first, second = offset.astype(np.float32)
    return m * at[None, :] + (n * at + first)[:, None], p * at[None, :] + (q * at + second)[:, None]


def print_light(
    picture: np.ndarray,
    how: Print,
    a: np.ndarray,
    b: np.ndarray,
    light: np.ndarray,
    black: float = 0.02,
    grain: float = 1.0,
) -> np.ndarray:
    """Light from a printed picture.

    Args:
        picture: (3, S, S) gamma-encoded, [0, 1].
        how: the print.
        a, b: (S, S) coordinates on the paper, fractions of the crop.
        light: (3,) light of the room.
        black: reflectance of fresh black ink.
        grain: factor on the paper's grain.

    Returns:
        (3, S, S) linear light.
    """
    luma = picture.mean(axis=0)
    inked = picture + np.float32(how.desaturate) * (luma - picture)
    for channel, angle in enumerate(_INK_ANGLES):
        inked[channel] = _halftone(inked[channel], how, a, b, math.radians(angle + how.angle))
    reflectance = np.clip(inked, 0.0, 1.0) ** np.float32(2.2)
    black = black + 0.10 * how.fade
    reflectance = black + (0.88 - 0.15 * how.fade - black) * reflectance
    across = math.cos(how.bend_angle) * a + math.sin(how.bend_angle) * b
    shading = 1.0 + 0.45 * how.bend * np.cos(_TAU * 0.8 * across + how.bend_phase)
    lit = reflectance * (shading * _fibre(how, a, b, grain)) + np.float32(how.sheen) * np.maximum(shading - 0.7, 0.0)
    if how.border > 0.0:
        outside = _outside(how.border, how.border_angle, a, b)
        lit = lit + outside * (0.82 * shading - lit)
    return lit * light[:, None, None].astype(np.float32)


def _halftone(tone: np.ndarray, how: Print, a: np.ndarray, b: np.ndarray, angle: float) -> np.ndarray:
    """Blend a tone with its dots: a cosine cell as threshold; dot edges are soft, since ink spreads."""
    turn = np.float32(_TAU / how.pitch)
    c, s = np.float32(np.cos(angle)) * turn, np.float32(np.sin(angle)) * turn
    cell = np.cos(c * a + s * b) + np.cos(c * b - s * a)
    dots = np.clip(0.5 + 2.2 * (tone - 0.5 + 0.25 * cell), 0.0, 1.0)
    return tone + np.float32(min(how.dots, 1.0)) * (dots - tone)


def _fibre(how: Print, a: np.ndarray, b: np.ndarray, strong: float) -> np.ndarray:
    """Paper grain: four waves of random directions, cheap and fixed to the paper."""
    rng = np.random.Generator(np.random.PCG64(how.fibre_seed))
    grain = np.zeros_like(a)
    for _ in range(4):
        x, y, phase = rng.normal(0.0, 110.0), rng.normal(0.0, 110.0), rng.uniform(0.0, _TAU)
        grain += np.cos(np.float32(x) * a + np.float32(y) * b + np.float32(phase))
    return 1.0 + strong * (0.006 + 0.02 * how.dots) * grain


def replay_light(picture: np.ndarray, how: Replay, a: np.ndarray, b: np.ndarray, frame: int) -> np.ndarray:
    """Light from a screen that shows a picture.

    Args:
        picture: (3, S, S) gamma-encoded, [0, 1].
        how: the screen.
        a, b: (S, S) coordinates on the screen, fractions of the crop.
        frame: position in the video; it moves the brightness bands.

    Returns:
        (3, S, S) linear light.
    """
    emitted = picture ** np.float32(how.gamma)
    emitted *= np.exp(np.float32(how.blue) * np.array([-0.6, 0.0, 1.0], dtype=np.float32))[:, None, None]
    waves = _waves(how, a, b)
    rolling = 1.0 + how.bands * np.cos(_TAU * b / how.band_period + how.phase + 1.7 * frame)
    emitted *= waves * rolling
    at_a, at_b, radius, bright = how.glare
    spot = np.maximum(1.0 - ((a - at_a) / radius) ** 2 - ((b - at_b) / (0.6 * radius)) ** 2, 0.0)
    emitted += np.float32(0.25 * how.veil) + np.float32(bright) * spot
    if how.border > 0.0:
        emitted *= 1.0 - 0.93 * _outside(how.border, how.border_angle, a, b)
    return emitted


def _waves(how: Replay, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(3, S, S) factors: moiré with a phase per colour, and the pixel grid of the screen."""
    c, s = math.cos(how.moire_angle), math.sin(how.moire_angle)
    along, across = c * a + s * b, c * b - s * a
    wave = _TAU / how.moire_period * (along + 0.25 * how.moire_chirp * (along * along + across * across)) + how.phase
    c, s = math.cos(how.grid_angle), math.sin(how.grid_angle)
    column = _TAU / how.grid_period * (c * a + s * b)
    row = 1.0 + 0.5 * how.grid * np.cos(_TAU / how.grid_period * (c * b - s * a))
    out = np.empty((3, *a.shape), dtype=np.float32)
    # cos(x + lag) = cos x cos lag - sin x sin lag: two transcendental functions serve all three colours.
    wave_parts, column_parts = (np.cos(wave), np.sin(wave)), (np.cos(column), np.sin(column))
    for channel in range(3):
        moire = how.moire * _lagging(wave_parts, channel * how.colour_lag)
        stripe = how.grid * _lagging(column_parts, channel * _TAU / 3.0)
        out[channel] = (1.0 + moire) * (row + stripe)
    return np.maximum(out, 0.0)


def _lagging(parts: tuple[np.ndarray, np.ndarray], lag: float) -> np.ndarray:
    return math.cos(lag) * parts[0] - math.sin(lag) * parts[1]


def _outside(border: float, angle: float, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Coverage of the area beyond a straight edge, `border` inside the crop on the side of `angle`."""
    distance = math.cos(angle) * (a - 0.5) + math.sin(angle) * (b - 0.5) - (0.5 - border)
    return np.clip(0.5 + distance * REFERENCE_SIDE, 0.0, 1.0).astype(np.float32)

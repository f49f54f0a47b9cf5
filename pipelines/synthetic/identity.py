"""The identity of a face: the numbers that stay the same in all pictures of a person.

Lengths are in units of the mean distance between the pupils (about 63 mm). The origin is midway between the eyes, u
points to the right of the picture and v down. Ranges follow adult anthropometry, slightly widened.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipelines.streams import stream

BEARD_STYLES = ("none", "stubble", "full", "goatee", "moustache")
GLASSES_STYLES = ("none", "round", "square")
# The box that the skin texture covers, in head units.
TEXTURE_LEFT, TEXTURE_TOP, TEXTURE_WIDTH, TEXTURE_HEIGHT = -1.6, -1.7, 3.2, 4.0
# v of the top of the skull; hair rises above it.
HEAD_TOP = -1.75

Colour = tuple[float, float, float]

# Linear RGB reflectance from light to dark skin, and of hair and irises.
_SKIN = np.array([[0.80, 0.55, 0.44], [0.66, 0.41, 0.29], [0.46, 0.26, 0.16], [0.24, 0.13, 0.08], [0.10, 0.06, 0.045]])
_HAIR = np.array([[0.012, 0.010, 0.010], [0.06, 0.03, 0.016], [0.17, 0.08, 0.035], [0.45, 0.29, 0.11]])
_IRIS = np.array([[0.06, 0.03, 0.015], [0.20, 0.11, 0.04], [0.15, 0.20, 0.09], [0.16, 0.26, 0.38]])


@dataclass(frozen=True)
class Identity:
    """A person. Colours are linear RGB reflectances in [0, 1], lengths in interpupillary units, angles in radians."""

    texture_seed: int
    face_half_width: float
    chin: float
    jaw_taper: float
    jaw_power: float
    cheek: float
    skin: Colour
    eye_spacing: float
    eye_half_width: float
    eye_open: float
    eye_tilt: float
    iris: Colour
    iris_radius: float
    socket: float
    brow_height: float
    brow_thickness: float
    brow_arch: float
    brow_tilt: float
    brow_half_length: float
    brow_density: float
    nose_length: float
    nose_half_width: float
    nose_bridge: float
    mouth_v: float
    mouth_half_width: float
    upper_lip: float
    lower_lip: float
    lips: Colour
    hair_style: str
    hair: Colour
    hairline: float
    hair_volume: float
    hair_wave: float
    ear: float
    glasses: str
    glasses_colour: Colour
    glasses_size: float
    glasses_thickness: float
    beard: str
    beard_density: float
    age: float
    freckles: float
    moles: int


def _between(table: np.ndarray, position: float) -> np.ndarray:
    """Linear interpolation in a table of colours; `position` in [0, 1]."""
    at = position * (len(table) - 1)
    low = min(int(at), len(table) - 2)
    return table[low] + (at - low) * (table[low + 1] - table[low])


def _colour(values: np.ndarray) -> Colour:
    red, green, blue = (float(value) for value in np.clip(values, 0.004, 0.95))
    return red, green, blue


def draw_identity(rng: np.random.Generator) -> Identity:
    """A new person."""

    def spread(low: float, high: float) -> float:
        # Between a bell curve and a uniform draw: distinct persons, few caricatures.
        return float(low + (high - low) * np.clip(0.5 + 0.26 * rng.standard_normal(), 0.0, 1.0))

    tone = float(rng.uniform(0.0, 1.0))
    skin = _between(_SKIN, tone) * np.exp(rng.normal(0.0, [0.07, 0.06, 0.09]))
    age = float(rng.uniform(0.0, 1.0))
    # Fair hair goes with fair skin; hair turns grey with age.
    hair = _between(_HAIR, float(rng.uniform(0.0, 1.0)) ** 1.3 * (1.0 - 0.8 * tone))
    grey = max(0.0, age - 0.72) * 3.0 * float(rng.uniform(0.3, 1.0))
    hair = hair + grey * (np.array([0.42, 0.42, 0.43]) - hair)
    masculine = bool(rng.random() < 0.5)
    lips = skin * np.array([0.86, 0.52, 0.56]) * np.exp(rng.normal(0.0, [0.08, 0.2, 0.2]))
    styles = ("short", "short", "side_part", "curly", "receding", "bald", "fringe")
    others = ("long", "long", "fringe", "side_part", "curly", "long", "short")
    return Identity(
        texture_seed=int(rng.integers(2**62)),
        face_half_width=spread(0.98, 1.24),
        chin=spread(1.62, 2.02),
        jaw_taper=spread(0.02, 0.30),
        jaw_power=spread(2.0, 3.0),
        cheek=spread(0.0, 1.0),
        skin=_colour(skin),
        eye_spacing=spread(0.90, 1.10),
        eye_half_width=spread(0.185, 0.275),
        eye_open=spread(0.065, 0.135),
        eye_tilt=spread(-0.10, 0.16),
        iris=_colour(
            _between(_IRIS, float(rng.uniform()) ** 1.2 * (1.0 - 0.75 * tone)) * np.exp(rng.normal(0, 0.15, 3))
        ),
        iris_radius=spread(0.088, 0.112),
        socket=spread(0.1, 0.9),
        brow_height=spread(0.24, 0.42),
        brow_thickness=spread(0.022, 0.065) + 0.012 * masculine,
        brow_arch=spread(0.0, 0.11),
        brow_tilt=spread(-0.07, 0.07),
        brow_half_length=spread(0.24, 0.36),
        brow_density=spread(0.45, 0.95),
        nose_length=spread(0.58, 0.86),
        nose_half_width=spread(0.18, 0.33),
        nose_bridge=spread(0.3, 1.0),
        mouth_v=spread(1.04, 1.28),
        mouth_half_width=spread(0.31, 0.48),
        upper_lip=spread(0.035, 0.105),
        lower_lip=spread(0.055, 0.135),
        lips=_colour(lips),
        hair_style=str(rng.choice(styles if masculine else others)),
        hair=_colour(hair * np.exp(rng.normal(0.0, 0.12))),
        hairline=spread(-0.86, -0.56),
        hair_volume=spread(0.06, 0.34),
        hair_wave=spread(0.0, 1.0),
        ear=spread(0.6, 1.2),
        glasses=str(rng.choice(GLASSES_STYLES, p=[0.72, 0.13, 0.15])),
        glasses_colour=_colour(
            rng.choice(np.array([[0.01, 0.01, 0.01], [0.1, 0.05, 0.03], [0.3, 0.3, 0.32], [0.2, 0.02, 0.03]]))
        ),
        glasses_size=spread(0.32, 0.46),
        glasses_thickness=spread(0.018, 0.05),
        beard=str(rng.choice(BEARD_STYLES, p=[0.3, 0.28, 0.2, 0.12, 0.1])) if masculine else "none",
        beard_density=spread(0.55, 0.95),
        age=age,
        freckles=float(max(0.0, rng.normal(-0.2, 0.6))) * (1.0 - tone),
        moles=int(rng.integers(0, 5)),
    )


def _upsample(lattice: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Bilinear with a smoothstep ramp. Indexing only, no BLAS, so every machine computes the same bits."""

    def weights(length: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
        at = (np.arange(length, dtype=np.float32) + 0.5) * np.float32(cells / length)
        low = np.minimum(at.astype(np.int64), cells - 1)
        part = at - low
        return low, part * part * (3.0 - 2.0 * part)

    low, part = weights(rows, lattice.shape[0] - 1)
    lines = lattice[low] + part[:, None] * (lattice[low + 1] - lattice[low])
    low, part = weights(columns, lattice.shape[1] - 1)
    return lines[:, low] + part * (lines[:, low + 1] - lines[:, low])


def _noise(rng: np.random.Generator, cells_per_unit: float, rows: int, columns: int) -> np.ndarray:
    shape = (int(TEXTURE_HEIGHT * cells_per_unit) + 2, int(TEXTURE_WIDTH * cells_per_unit) + 2)
    return _upsample(rng.standard_normal(shape).astype(np.float32), rows, columns)


@lru_cache(maxsize=64)
def skin_texture(identity: Identity, density: int) -> tuple[np.ndarray, np.ndarray]:
    """Pigment (freckles, moles, pores) and redness (blotches) over the texture box.

    Args:
        identity: the person.
        density: texels per head unit.

    Returns:
        Two (rows, columns) float32 arrays around 0; about -0.3 to 0.8.
    """
    rng = stream(identity.texture_seed, "skin")
    rows, columns = int(TEXTURE_HEIGHT * density), int(TEXTURE_WIDTH * density)
    redness = 0.09 * _noise(rng, 1.8, rows, columns) + 0.05 * _noise(rng, 5.0, rows, columns)
    pigment = 0.05 * _noise(rng, 4.0, rows, columns)
    pigment += (0.035 + 0.03 * identity.age) * _noise(rng, 11.0, rows, columns)
    pigment += (0.045 + 0.03 * identity.age) * _noise(rng, 27.0, rows, columns)
    spots = _noise(rng, 15.0, rows, columns) * np.maximum(_noise(rng, 1.5, rows, columns) + 0.6, 0.0)
    pigment += np.float32(identity.freckles) * 0.5 * np.clip(spots - 0.6, 0.0, 1.0)
    pigment += _moles(rng, identity.moles, rows, columns)
    return pigment.astype(np.float32), redness.astype(np.float32)


def _moles(rng: np.random.Generator, count: int, rows: int, columns: int) -> np.ndarray:
    v, u = np.mgrid[:rows, :columns].astype(np.float32)
    u, v = TEXTURE_LEFT + (u + 0.5) * TEXTURE_WIDTH / columns, TEXTURE_TOP + (v + 0.5) * TEXTURE_HEIGHT / rows
    pigment = np.zeros((rows, columns), dtype=np.float32)
    for _ in range(count):
        at_u, at_v, radius = rng.uniform(-0.85, 0.85), rng.uniform(-0.4, 1.6), rng.uniform(0.022, 0.05)
        inside = np.clip(1.5 - np.hypot(u - at_u, v - at_v) / radius, 0.0, 1.0)
        pigment += (inside * rng.uniform(0.4, 0.75)).astype(np.float32)
    return pigment

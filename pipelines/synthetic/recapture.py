"""What a camera sees of a picture of a face: the face itself, its print, or a screen that shows it.

Live faces and attacks start from the same aligned crop and end before the same camera. The picture's own camera is
already in it, as in the picture that an attacker holds up, so only the medium tells the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from pipelines.data.alignment import similarity
from pipelines.data.crop import to_square
from pipelines.streams import uniform
from pipelines.synthetic.attacks import draw_print, draw_replay, plane_coordinates, print_light, replay_light, strength
from pipelines.synthetic.camera import REFERENCE_SIDE, CameraRange, blur
from pipelines.synthetic.canvas import invert_affine
from pipelines.synthetic.colour import PRESSES, printed
from pipelines.synthetic.domains import PrintRange, ReplayRange
from pipelines.synthetic.textures import SCENES, SCREENS, scene, screen

# The exponent that turns a file's numbers into light, for both classes.
GAMMA = np.float32(2.2)
# The crop already went through one camera, so a second one adds little blur and noise; it sharpens as webcams do.
# Exposure and white balance vary widely within each camera: a dark picture is no attack. Tone varies less: the haze of
# a print must stay visible.
CAMERAS = CameraRange(
    blur=(0.0, 0.3),
    exposure=(-0.6, 0.8),
    warmth=(-0.4, 0.4),
    green=(-0.08, 0.1),
    shot=(0.002, 0.012),
    read=(0.001, 0.005),
    gamma=(2.0, 2.4),
    contrast=(-0.1, 0.3),
    saturation=(0.7, 1.1),
    sharpen=(0.4, 1.6),
    quality=(60, 95),
)
# What is a camera's own, and how much of each of these ranges one camera has.
_OWN, _OF_A_CAMERA = ("blur", "shot", "read", "sharpen", "quality"), 0.35
# A photo printer has no dots that a camera could see; an office printer or a press has.
PHOTO = PrintRange(pitch=(0.9, 1.4), dots=(0.0, 0.02), fade=(0.0, 0.3), bend=(0.0, 0.4), border=0.08)
OFFICE = PrintRange(pitch=(1.2, 2.6), dots=(0.1, 0.5), fade=(0.0, 0.3), bend=(0.0, 0.5), border=0.08)
_PHOTO_SHARE = 0.9
# Sigma of what printer and paper blur, in pixels of a 64-pixel crop; how much of the picture has a press's colours, and
# is grey; the light of black ink; and the light on the paper, of which the hand that holds it takes a part.
_INK, _PRESS, _GREY, _BLACK, _LIT = (0.3, 1.0), (0.0, 0.15), (0.0, 0.25), (0.005, 0.05), (0.5, 1.0)
# Paper's grain, as a factor on the benchmark's: a detector of drawn grain knows no paper.
_GRAIN = (0.0, 0.4)
SCREEN = ReplayRange(
    moire_period=(3.0, 12.0), moire=(0.0, 0.15), grid=(0.0, 0.2), bands=(0.0, 0.08), veil=(0.0, 0.15), border=0.08
)
# The screen's subpixels: their pitch in pixels of a 64-pixel crop, and how much of their contrast is there; sigma of
# what the shown video lost; and how much the camera sees of waves and subpixels, where nothing is below 0.
_PITCH, _SUBPIXELS, _SHOWN, _SEEN = (0.4, 1.5), (0.1, 0.7), (0.3, 1.2), (-0.6, 1.0)
# A room that paper or glass reflects, as a share of its light.
_GLOSS, _GLASS = (0.0, 0.04), (0.0, 0.06)


@dataclass(frozen=True)
class View:
    """A face held before a camera.

    Attributes:
        picture: (3, G, G) float32, gamma-encoded, [0, 1].
        landmarks: (5, 2) float64, fractions of the crop; None if unknown.
        a, b: (G, G) coordinates on what is held up, fractions of its crop.
    """

    picture: np.ndarray
    landmarks: np.ndarray | None
    a: np.ndarray
    b: np.ndarray

    @property
    def side(self) -> int:
        """G."""
        return int(self.picture.shape[-1])

    @property
    def light(self) -> np.ndarray:
        """(3, G, G) linear light of the face itself."""
        return np.asarray(self.picture**GAMMA)


def held(crop: np.ndarray, landmarks: np.ndarray | None, side: int, lean: np.ndarray, rng: np.random.Generator) -> View:
    """A crop on the grid of `side`, turned and shifted by what a face detector errs.

    Args:
        crop: (H, W, 3) uint8 RGB.
        landmarks: (5, 2) in pixels of the crop; None if unknown.
        side: of the grid in pixels.
        lean: (2, 2) how a plane seen from the side distorts it; the identity for a face.
        rng: of the frame.
    """
    points = None if landmarks is None else in_fractions(landmarks, crop)
    centre = np.full(2, 0.5) if points is None else points.mean(axis=0)
    tilt, x, y = rng.normal(0.0, (0.018, 0.007, 0.007))
    c, s = np.cos(tilt), np.sin(tilt)
    turn = float(1.0 + rng.normal(0.0, 0.012)) * np.array([[c, -s], [s, c]]) @ lean
    to_crop = np.column_stack([turn, centre - turn @ centre + (x, y)])
    picture = warped(to_square(crop, side), to_crop)
    a, b = plane_coordinates(np.eye(2, 3), invert_affine(to_crop * side), side)
    return View(picture, None if points is None else points @ turn.T + to_crop[:, 2], a, b)


def in_fractions(landmarks: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """Landmarks (5, 2) in pixels of a crop (H, W, 3) as fractions of its sides."""
    return (landmarks + 0.5) / (crop.shape[1], crop.shape[0])


def warped(picture: np.ndarray, to_crop: np.ndarray) -> np.ndarray:
    """(G, G, 3) uint8 -> (3, G, G) float32 in [0, 1], moved by a (2, 3) map of fractions; edges are repeated."""
    side = len(picture)
    in_pixels = to_crop * (1, 1, side)
    in_pixels[:, 2] += to_crop[:, :2].sum(axis=1) / 2 - 0.5  # OpenCV counts from the middle of the first pixel
    moved = cv2.warpAffine(picture, in_pixels, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(moved.transpose(2, 0, 1), dtype=np.float32) / np.float32(255.0)


def moved_onto(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The similarity (2, 3) that lays points (5, 2) on others; both in any unit, such as fractions of a crop."""
    unit = 1000.0  # `similarity` takes pixels, and points within half a pixel for one
    matrix = similarity(points * unit, others * unit)
    return np.asarray(matrix / (1.0, 1.0, unit))


def draw_lean(rng: np.random.Generator) -> np.ndarray:
    """(2, 2): paper or a screen held a little aslant, as the benchmark's."""
    lean, shear = rng.normal(0.0, 0.035), rng.normal(0.0, 0.02)
    return np.array([[1.0 + lean, shear], [0.0, 1.0 - lean]])


def draw_camera(rng: np.random.Generator, share: float = _OF_A_CAMERA) -> CameraRange:
    """The ranges of one camera: a part of each range of lens, sensor and file, and all light and tone."""
    spans = {}
    for name in _OWN:
        low, high = getattr(CAMERAS, name)
        start = float(low + rng.random() * (1.0 - share) * (high - low))
        spans[name] = (start, start + share * (high - low))
    return replace(CAMERAS, **spans)


def printed_light(view: View, rng: np.random.Generator) -> np.ndarray:
    """(3, G, G) linear light from a print: colours of inks, their spread and dots, paper, gloss and bending."""
    span = PHOTO if rng.random() < _PHOTO_SHARE else OFFICE
    how = draw_print(rng, span, strength(rng))
    how, black = replace(how, desaturate=uniform(rng, _GREY)), uniform(rng, _BLACK)
    grain = uniform(rng, _GRAIN)
    press, share = list(PRESSES)[int(rng.integers(len(PRESSES)))], uniform(rng, _PRESS)
    sigma = uniform(rng, _INK) * view.side / REFERENCE_SIDE
    warm, level = float(rng.normal(0.0, 0.08)), uniform(rng, _LIT)
    inked = view.picture + np.float32(share) * (_pressed(view.picture, press) - view.picture)
    tint = level * np.exp(np.array([warm / 2, 0.0, -warm / 2]))
    light = print_light(blur(inked, sigma), how, view.a, view.b, tint, black, grain)
    return light + _reflected(view.side, rng, uniform(rng, _GLOSS))


def replayed_light(view: View, rng: np.random.Generator) -> np.ndarray:
    """(3, G, G) linear light from a screen: its tone and white, subpixels, waves, bands, and reflections."""
    how, seen = draw_replay(rng, SCREEN, strength(rng)), max(0.0, uniform(rng, _SEEN))
    layout, share = list(SCREENS)[int(rng.integers(len(SCREENS)))], seen * uniform(rng, _SUBPIXELS)
    pitch, sigma = (uniform(rng, span) * view.side / REFERENCE_SIDE for span in (_PITCH, _SHOWN))
    tile = screen(layout, view.side, pitch, float(rng.normal(0.0, 0.06)), (float(rng.random()), float(rng.random())))
    lit = tile.transpose(2, 0, 1).astype(np.float32)
    lit /= np.maximum(lit.mean(axis=(1, 2), keepdims=True), 1.0)
    how = replace(how, moire=seen * how.moire, grid=seen * how.grid)
    light = replay_light(blur(view.picture, sigma), how, view.a, view.b, 0)
    light *= 1.0 + np.float32(share) * (lit - 1.0)
    return light + _reflected(view.side, rng, uniform(rng, _GLASS))


def backdrop_light(side: int, rng: np.random.Generator) -> np.ndarray:
    """(3, side, side) linear light of a room."""
    shown = scene(int(rng.integers(SCENES)))
    start = int(rng.integers(shown.shape[1] - shown.shape[0] + 1))
    part = np.ascontiguousarray(shown[:, start : start + shown.shape[0]])
    small = cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA if side < len(part) else cv2.INTER_LINEAR)
    return (small.transpose(2, 0, 1).astype(np.float32) / np.float32(255.0)) ** GAMMA


def _reflected(side: int, rng: np.random.Generator, share: float) -> np.ndarray:
    return np.float32(share) * blur(backdrop_light(side, rng), side / 32)


def _pressed(picture: np.ndarray, press: str) -> np.ndarray:
    """A picture (3, G, G) in [0, 1] with the colours of a press."""
    pixels = np.ascontiguousarray((picture * 255.0 + 0.5).clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
    return printed(pixels, press, "srgb").transpose(2, 0, 1).astype(np.float32) / np.float32(255.0)

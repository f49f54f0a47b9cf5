"""What an attack adds to a face, drawn: the subpixels of screens, blue noise, and scenes that a surface reflects."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from pipelines.streams import stream, uniform

# Rows of subpixels from the top left of a tile, and the tile's height and width in pixels of the screen.
SCREENS: dict[str, tuple[tuple[str, ...], tuple[int, int]]] = {
    "rgb": (("RGB",), (1, 1)),
    "bgr": (("BGR",), (1, 1)),
    "rgb_lines": (("RGB", "RGB", "RGB", "KKK"), (1, 1)),
    "bgr_lines": (("BGR", "BGR", "BGR", "KKK"), (1, 1)),
    "rgb_mask": (("RKGKBK", "RKGKBK", "RKGKBK", "KKKKKK"), (1, 1)),
    "vertical_rgb": (("R", "G", "B"), (1, 1)),
    "vertical_bgr": (("B", "G", "R"), (1, 1)),
    "delta": (("RRGGBB", "GBBRRG"), (2, 1)),
    "mosaic": (("RGB", "GBR", "BRG"), (3, 1)),
    "quad_rggb": (("RG", "GB"), (1, 1)),
    "s_stripe": (("RRB", "GGB"), (1, 1)),
    "pentile_rgbg": (("RGBG", "BGRG"), (2, 2)),
    "vertical_pentile": (("RB", "GG", "BR", "GG"), (2, 2)),
    "diamond": (("RKBK", "KGKG", "BKRK", "KGKG"), (2, 2)),
    "rgbw": (("RGBW",), (1, 1)),
    "wrgb": (("RWBG",), (1, 1)),
    "quad_rgbw": (("RG", "BW"), (1, 1)),
    "pentile_rgbw": (("RGBW", "BWRG"), (2, 2)),
    "rgby": (("RGBY",), (1, 1)),
}
_LIGHT = {
    **{"R": (255, 0, 0), "G": (0, 255, 0), "B": (0, 0, 255)},
    **{"W": (255, 255, 255), "Y": (255, 255, 0), "K": (0, 0, 0)},
}
# Samples of a drawn tile for each pixel of the screen: a multiple of every number of subpixels.
_SAMPLES = 12

NOISE_SIDE = 256
_NOISE_ROUNDS, _NOISE_SIGMA, _NOISE_REACH = 12, 1.3, 4

SCENES = 90
"""Scenes that `scene` draws."""

_SCENE_HEIGHT, _SCENE_WIDTH = 288, 384
_GLOW = 9


@lru_cache(maxsize=len(SCREENS))
def screen_tile(layout: str) -> np.ndarray:
    """(12 h, 12 w, 3) uint8: the subpixels of h x w pixels of a screen, which it repeats."""
    rows, (height, width) = SCREENS[layout]
    cells = np.array([[_LIGHT[letter] for letter in row] for row in rows], dtype=np.uint8)
    tall, wide = height * _SAMPLES // cells.shape[0], width * _SAMPLES // cells.shape[1]
    return cells.repeat(tall, axis=0).repeat(wide, axis=1)


def screen(layout: str, side: int, pitch: float, angle: float, phase: tuple[float, float]) -> np.ndarray:
    """A lit screen as a camera without an optical low-pass filter sees it: one point of it for every pixel.

    Where the camera's pixels and the screen's nearly agree, this sampling makes the slow coloured waves of moiré.

    Args:
        layout: of `SCREENS`.
        side: of the picture in pixels.
        pitch: of the screen, in pixels of the picture.
        angle: of the screen in radians.
        phase: where the picture's corner lies on the screen, in pixels of the screen.

    Returns:
        (side, side, 3) uint8.
    """
    scale = _SAMPLES / pitch
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    across, down = (part * _SAMPLES - 0.5 for part in phase)  # OpenCV counts from the middle of the first sample
    to_tile = np.array([[cosine, -sine, across], [sine, cosine, down]])
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(screen_tile(layout), to_tile, (side, side), flags=flags, borderMode=cv2.BORDER_WRAP)


@lru_cache(maxsize=1)
def blue_noise() -> np.ndarray:
    """(256, 256) uint8, every level 256 times, with little energy in slow waves; a tile that repeats without seams.

    White noise from which its blurred copy is taken away, ranked, and so on: an equivalent of void and cluster
    (Ulichney 1993) for the spectrum. It is made of shifted sums and ranks, so every machine draws the same bits.
    """
    noise = stream(0, "blue-noise").random((NOISE_SIDE, NOISE_SIDE))
    weights = [math.exp(-0.5 * (at / _NOISE_SIGMA) ** 2) for at in range(-_NOISE_REACH, _NOISE_REACH + 1)]
    for _ in range(_NOISE_ROUNDS):
        ranked = np.empty(noise.size)
        ranked[noise.ravel().argsort(kind="stable")] = np.arange(noise.size)
        noise = ranked.reshape(noise.shape) / noise.size
        slow = noise
        for axis in (0, 1):
            shifted = [np.roll(slow, at, axis) * weight for at, weight in enumerate(weights, -_NOISE_REACH)]
            slow = sum(shifted[1:], shifted[0]) / sum(weights)
        noise = noise - slow
    levels = np.empty(noise.size, dtype=np.uint8)
    levels[noise.ravel().argsort(kind="stable")] = np.arange(noise.size) * 256 // noise.size
    return levels.reshape(noise.shape)


@lru_cache(maxsize=SCENES)
def scene(number: int) -> np.ndarray:
    """(288, 384, 3) uint8: a room of walls, windows, furniture, people and lamps; `number` below `SCENES`."""
    rng = stream(number, "scene")
    picture = _walls(rng)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 4))):
        _window(draw, rng)
    for _ in range(int(rng.integers(2, 7))):
        _furniture(draw, rng)
    soft = picture.filter(ImageFilter.GaussianBlur(uniform(rng, (0.5, 2.5))))
    # A glow is blurred in small, where it costs little.
    lights = Image.new("RGB", (_SCENE_WIDTH // _GLOW, _SCENE_HEIGHT // _GLOW))
    lamps = ImageDraw.Draw(lights)
    for _ in range(int(rng.integers(0, 4))):
        _lamp(lamps, rng)
    glow = lights.filter(ImageFilter.GaussianBlur(1)).resize(picture.size, Image.Resampling.BICUBIC)
    return np.asarray(ImageChops.add(soft, glow))


def _walls(rng: np.random.Generator) -> Image.Image:
    """A wall that darkens to one side, above a floor."""
    across = np.linspace(uniform(rng, (0.5, 1.1)), uniform(rng, (0.5, 1.1)), _SCENE_WIDTH)[:, None]
    rows = np.repeat((_colour(rng, 50, 190) * across)[None], _SCENE_HEIGHT, axis=0)
    rows[int(rng.integers(_SCENE_HEIGHT * 3 // 5, _SCENE_HEIGHT)) :] = _colour(rng, 25, 120) * across
    return Image.fromarray(np.clip(rows, 0, 255).astype(np.uint8))


def _colour(rng: np.random.Generator, darkest: float, brightest: float) -> np.ndarray:
    """(3,) int: a muted colour."""
    return np.clip(rng.uniform(darkest, brightest) + rng.normal(0, 16, 3), 0, 255).astype(int)


def _paint(rng: np.random.Generator, darkest: float, brightest: float) -> tuple[int, int, int]:
    red, green, blue = _colour(rng, darkest, brightest).tolist()
    return red, green, blue


def _box(rng: np.random.Generator, least: int, most: int) -> tuple[int, int, int, int]:
    width, height = (int(rng.integers(least, most)) for _ in range(2))
    left, top = int(rng.integers(-20, _SCENE_WIDTH - 20)), int(rng.integers(-20, _SCENE_HEIGHT - 60))
    return left, top, left + width, top + height


def _window(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """A bright window with its frame and bars."""
    left, top, right, bottom = _box(rng, 40, 150)
    frame = _paint(rng, 20, 230)
    draw.rectangle((left, top, right, bottom), fill=_paint(rng, 215, 255), outline=frame, width=4)
    for part in range(1, int(rng.integers(2, 4))):
        at = left + (right - left) * part // 3
        draw.line((at, top, at, bottom), fill=frame, width=3)
    draw.line((left, (top + bottom) // 2, right, (top + bottom) // 2), fill=frame, width=3)


def _furniture(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """A cupboard, a shelf of books or a person's outline."""
    left, top, right, bottom = _box(rng, 30, 120)
    body, kind = _paint(rng, 10, 190), int(rng.integers(3))
    if kind == 2:
        draw.ellipse((left, top, left + 36, top + 46), fill=body)
        draw.rounded_rectangle((left - 22, top + 48, left + 58, top + 60 + _SCENE_HEIGHT), 20, fill=body)
        return
    draw.rectangle((left, top, right, bottom), fill=body)
    for at in range(left + 4, right - 4, 9) if kind == 1 else ():
        draw.rectangle((at, top + int(rng.integers(3, 14)), at + 6, bottom - 3), fill=_paint(rng, 20, 240))


def _lamp(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """A ceiling light or a bulb, in units of `_GLOW` pixels."""
    left, top = int(rng.integers(0, _SCENE_WIDTH // _GLOW)), int(rng.integers(0, _SCENE_HEIGHT // _GLOW // 2))
    tall, wide = int(rng.integers(1, 4)), int(rng.integers(1, 9))
    draw.ellipse((left, top, left + wide, top + tall), fill=(255, 250, int(rng.integers(190, 256))))

"""Renders a face as linear light: layers of soft shapes, shaded from a height field.

Every face is rendered alone, on a grid that fits the cache of a core: neither batch nor order changes its bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipelines.synthetic import features
from pipelines.synthetic.canvas import Canvas
from pipelines.synthetic.identity import (
    HEAD_TOP,
    TEXTURE_LEFT,
    TEXTURE_TOP,
    Colour,
    Identity,
    skin_texture,
)
from pipelines.synthetic.scene import EYE_DEPTH, MOUTH_DEPTH, NOSE_DEPTH, Backdrop, HeadPose, Light

# v where the ellipse of the skull meets the superellipse of the jaw.
_CENTRE = 0.30


@dataclass(frozen=True)
class Material:
    """Material of the face: live skin by default, or a worn mask.

    Attributes:
        texture: remaining share of the skin texture, 0 to 1.
        relief: remaining share of the slopes of the relief, 0 to 1.
        gloss: strength of the highlight.
        rim: darkness of the cuts around the eyes, 0 to 1.
        edge: darkness of the seam along the outline of the face, 0 to 1.
        dye: colour of the face relative to the neck.
    """

    texture: float = 1.0
    relief: float = 1.0
    gloss: float = 0.10
    rim: float = 0.0
    edge: float = 0.0
    dye: Colour = (1.0, 1.0, 1.0)


SKIN = Material()


def render(
    who: Identity,
    pose: HeadPose,
    light: Light,
    backdrop: Backdrop,
    to_crop: np.ndarray,
    side: int,
    made_of: Material = SKIN,
) -> np.ndarray:
    """Render one face.

    Args:
        who: the person.
        pose: pose and expression.
        light: key and ambient light.
        backdrop: background and clothes.
        to_crop: (2, 3) map from head units to fractions of the crop.
        side: side of the picture in pixels.
        made_of: skin, or the material of a mask.

    Returns:
        (3, side, side) float32 linear light, 0 to about 2.
    """
    canvas = Canvas(to_crop, side)
    _paint_backdrop(canvas, backdrop)
    _paint_body(canvas, who, backdrop)
    face = face_cover(canvas, who)
    features.paint_back_hair(canvas, who)
    _paint_ears(canvas, who, pose)
    _paint_skin(canvas, who, pose, face, made_of)
    raise_relief(canvas, who, pose)
    for turn in (-1.0, 1.0):
        features.paint_eye(canvas, who, pose, turn)
        features.paint_brow(canvas, who, pose, turn)
    features.paint_nose(canvas, who, pose)
    features.paint_mouth(canvas, who, pose)
    if made_of.rim > 0.0 or made_of.edge > 0.0:
        paint_mask_cuts(canvas, who, pose, face, made_of)
    features.paint_front_hair(canvas, who, pose)
    features.paint_glasses(canvas, who, pose, face)
    return shade(canvas, light, face, made_of)


def _paint_backdrop(canvas: Canvas, backdrop: Backdrop) -> None:
    x = (np.arange(canvas.side, dtype=np.float32) + 0.5) / canvas.side
    ramp = math.cos(backdrop.angle) * (x - 0.5)[None, :] + math.sin(backdrop.angle) * (x - 0.5)[:, None] + 0.5
    base, other = np.array(backdrop.base, dtype=np.float32), np.array(backdrop.other, dtype=np.float32)
    canvas.albedo[:] = base[:, None, None] + (other - base)[:, None, None] * np.clip(ramp, 0.0, 1.0)
    for at_x, at_y, half_x, half_y, colour in backdrop.shapes:
        columns, across = _soft_interval(x, at_x, half_x)
        rows, down = _soft_interval(x, at_y, half_y)
        canvas.paint((rows, columns), down[:, None] * across[None, :], colour)


def _soft_interval(x: np.ndarray, middle: float, half: float) -> tuple[slice, np.ndarray]:
    """The pixels of an interval with soft ends, and its coverage of each."""
    low, high = np.searchsorted(x, [middle - half - 0.04, middle + half + 0.04])
    inside = slice(int(low), int(high))
    return inside, np.clip((half - np.abs(x[inside] - middle)) / 0.08 + 0.5, 0.0, 1.0)


def _paint_body(canvas: Canvas, who: Identity, backdrop: Backdrop) -> None:
    rows = canvas.window(0.0, 1.7, 3.0, 0.75)
    u, v = np.abs(canvas.u[rows]), canvas.v[rows]
    cloth = canvas.cover(1.95 + 0.30 * u - v, 0.05)
    neck = canvas.cover(np.maximum(u - 0.62 - 0.35 * np.maximum(v - 1.75, 0.0), 0.9 - v), 0.03)
    neck *= canvas.cover(v - 2.08 + 0.2 * u, 0.03)
    canvas.paint(rows, cloth, backdrop.cloth)
    shadow = np.clip(0.45 + (v - who.chin) * 0.9, 0.40, 0.85)
    canvas.paint(rows, neck, np.array(who.skin, dtype=np.float32)[:, None, None] * shadow)
    canvas.solid[rows] = np.maximum(np.maximum(cloth, neck), canvas.solid[rows])


def face_cover(canvas: Canvas, who: Identity) -> np.ndarray:
    """Coverage of the face: an ellipse above, a tapering superellipse for the jaw."""
    below = np.clip((canvas.v - _CENTRE) / (who.chin - _CENTRE), 0.0, None)
    half = who.face_half_width * (1.0 - who.jaw_taper * below * below)
    x = np.abs(canvas.u) / np.maximum(half, 0.2)
    above = np.clip((canvas.v - _CENTRE) / (HEAD_TOP - _CENTRE), 0.0, None)
    y = np.maximum(below, above)
    power = np.float32(who.jaw_power)
    square = (np.minimum(x, 3.0) ** power + np.minimum(y, 3.0) ** power) ** (1.0 / power)
    return canvas.cover((square - 1.0) * who.face_half_width, 0.015)


def _paint_ears(canvas: Canvas, who: Identity, pose: HeadPose) -> None:
    for turn in (-1.0, 1.0):
        cu, cv = pose.place(turn * (who.face_half_width + 0.04), 0.24, -0.1)
        window = canvas.window(cu, cv, 0.25, 0.5)
        u, v = (canvas.u[window] - cu) / 0.13, (canvas.v[window] - cv) / (0.36 * who.ear)
        radius = np.sqrt(u * u + v * v)
        mask = canvas.cover((radius - 1.0) * 0.13)
        tone = 0.72 + 0.25 * np.clip(radius, 0.0, 1.0)
        canvas.paint(window, mask, np.array(who.skin, dtype=np.float32)[:, None, None] * tone)
        canvas.solid[window] = np.maximum(canvas.solid[window], mask)


def _paint_skin(canvas: Canvas, who: Identity, pose: HeadPose, face: np.ndarray, made_of: Material) -> None:
    pigment, redness = _skin_maps(canvas, who, pose)
    pigment, redness = made_of.texture * pigment, made_of.texture * redness
    flush = 0.10 * np.maximum(1.0 - ((np.abs(canvas.u) - 0.6) / 0.35) ** 2 - ((canvas.v - 0.7) / 0.4) ** 2, 0.0)
    redness = redness + flush
    skin = np.array(who.skin, dtype=np.float32) * np.array(made_of.dye, dtype=np.float32)
    layers = np.empty_like(canvas.albedo)
    for channel, (brown, red) in enumerate(((0.7, 0.15), (1.0, 1.0), (1.15, 0.9))):
        layers[channel] = skin[channel] * np.maximum(1.0 - brown * pigment - red * redness, 0.05)
    canvas.paint(canvas.whole, face, layers)
    canvas.solid[:] = np.maximum(canvas.solid, face)
    features.paint_folds(canvas, who, pose)
    features.paint_beard(canvas, who, pose, face, pigment)


def _skin_maps(canvas: Canvas, who: Identity, pose: HeadPose) -> tuple[np.ndarray, np.ndarray]:
    """Skin texture shifted with the turned head (exact at the front of the head, to first order)."""
    density = 64 * max(1, round(canvas.side / 128))
    to_texture = canvas.to_head.astype(np.float64).copy()
    to_texture[0, 2] -= 0.8 * np.sin(pose.yaw) + TEXTURE_LEFT
    to_texture[1, 2] -= 0.8 * np.sin(pose.pitch) + TEXTURE_TOP
    coefficients = tuple((to_texture * density).reshape(-1).tolist())
    size = (canvas.side, canvas.side)
    pigment, redness = (
        np.asarray(
            Image.fromarray(texture).transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
        )
        for texture in skin_texture(who, density)
    )
    return pigment, redness


def raise_relief(canvas: Canvas, who: Identity, pose: HeadPose) -> None:
    """Heights of head, brow ridge, sockets, nose, cheeks, lips and chin."""
    x, y = canvas.u / (1.12 * who.face_half_width), (canvas.v - 0.2) / 1.95
    canvas.relief[:] = 0.95 * np.sqrt(np.maximum(1.0 - x * x - y * y, 0.04))
    for turn in (-1.0, 1.0):
        u, v = pose.place(turn * who.eye_spacing / 2, -0.02, EYE_DEPTH)
        canvas.raise_bump(u, v, 0.42, 0.30, -0.07 - 0.09 * who.socket)
        u, v = pose.place(turn * who.eye_spacing / 2, -0.30, EYE_DEPTH)
        canvas.raise_bump(u, v, 0.55, 0.22, 0.035)
        u, v = pose.place(turn * 0.66, 0.52, 0.62)
        canvas.raise_bump(u, v, 0.48, 0.42, 0.05 + 0.08 * who.cheek)
        u, v = pose.place(turn * 0.62 * who.nose_half_width, who.nose_length, NOSE_DEPTH - 0.15)
        canvas.raise_bump(u, v, 0.62 * who.nose_half_width, 0.17, 0.10)
    length = who.nose_length
    for part, height in ((0.25, 0.10), (0.5, 0.15), (0.75, 0.20), (0.98, 0.26)):
        u, v = pose.place(0.0, part * length, EYE_DEPTH + (NOSE_DEPTH - EYE_DEPTH) * part)
        wide = who.nose_half_width * (0.62 + 0.35 * part)
        canvas.raise_bump(u, v, wide, 0.34 * length, height * who.nose_bridge)
    u, v = pose.place(0.0, who.mouth_v + 0.01, MOUTH_DEPTH)
    canvas.raise_bump(u, v, who.mouth_half_width * 1.1, 0.26, 0.07)
    u, v = pose.place(0.0, who.chin - 0.22, 0.8)
    canvas.raise_bump(u, v, 0.36, 0.26, 0.07)


def paint_mask_cuts(canvas: Canvas, who: Identity, pose: HeadPose, face: np.ndarray, made_of: Material) -> None:
    """Dark gaps around the eyes of the wearer, and a seam along the border of the mask."""
    for turn in (-1.0, 1.0):
        u, v = pose.place(turn * who.eye_spacing / 2, 0.0, EYE_DEPTH)
        half_u, half_v = who.eye_half_width * 1.22, who.eye_open * 1.15 + 0.06
        window = canvas.window(u, v, half_u * 1.4, half_v * 1.6)
        radius = np.sqrt(((canvas.u[window] - u) / half_u) ** 2 + ((canvas.v[window] - v) / half_v) ** 2)
        ring = canvas.cover((np.abs(radius - 1.0) - 0.16) * half_v, 0.03)
        canvas.darken(window, ring, made_of.rim)
    seam = np.clip(1.0 - np.abs(face - 0.5) * 2.0, 0.0, 1.0)
    canvas.darken(canvas.whole, seam, made_of.edge)


def shade(canvas: Canvas, light: Light, face: np.ndarray, made_of: Material) -> np.ndarray:
    """Lambert shading with a soft terminator, ambient light that fades towards the outline, a broad highlight."""
    slope_u, slope_v = _slopes(canvas.relief, canvas.unit)
    slope_u, slope_v = made_of.relief * slope_u, made_of.relief * slope_v
    upright = 1.0 / np.sqrt(1.0 + slope_u * slope_u + slope_v * slope_v)
    lx, ly, lz = light.direction
    facing = (lz - lx * slope_u - ly * slope_v) * upright
    # Wrapped by 0.15: the light reaches a little beyond the terminator, as on skin.
    lambert = np.clip((facing + 0.15) / 1.15, 0.0, None)
    open_sky = 0.55 + 0.45 * upright
    # Blinn-Phong with exponents 16 and 32. Squaring is faster than `**` and gives the same bits on every machine.
    hx, hy, hz = lx, ly, lz + 1.0
    half = np.maximum((hz - hx * slope_u - hy * slope_v) * upright / math.sqrt(hx * hx + hy * hy + hz * hz), 0.0)
    shine = half * half
    shine = shine * shine
    shine = shine * shine
    narrow = shine * shine
    gloss = made_of.gloss * face * (narrow + 0.6 * narrow * narrow)
    out = np.empty_like(canvas.albedo)
    for channel in range(3):
        lit = light.ambient[channel] * open_sky + light.key[channel] * lambert
        out[channel] = canvas.albedo[channel] * (1.0 + canvas.solid * (lit - 1.0)) + gloss * light.key[channel]
    return out


def _slopes(relief: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    across, down = np.zeros_like(relief), np.zeros_like(relief)
    across[:, 1:-1] = (relief[:, 2:] - relief[:, :-2]) * np.float32(0.5 / unit)
    down[1:-1] = (relief[2:] - relief[:-2]) * np.float32(0.5 / unit)
    return np.clip(across, -2.5, 2.5), np.clip(down, -2.5, 2.5)

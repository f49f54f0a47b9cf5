"""Hair behind and before the face, painted on a canvas in head coordinates."""

from __future__ import annotations

import math

import numpy as np

from pipelines.synthetic.canvas import Canvas
from pipelines.synthetic.identity import HEAD_TOP, Identity
from pipelines.synthetic.scene import Pose


def paint_back_hair(canvas: Canvas, who: Identity) -> None:
    """Hair behind the face: an outline around the head, down to the shoulders if long."""
    if who.hair_style in ("bald", "receding"):
        return
    half = who.face_half_width + who.hair_volume * (1.3 if who.hair_style == "curly" else 1.0)
    low = {"long": 3.0, "curly": 0.75, "side_part": 0.35}.get(who.hair_style, 0.15)
    wave = 0.05 * (0.3 + who.hair_wave) * np.sin(9.0 * canvas.v + 2.0) if who.hair_style in ("long", "curly") else 0.0
    below = np.maximum(canvas.v - low, 0.0)
    above = np.minimum(canvas.v - 0.1, 0.0) / (HEAD_TOP - who.hair_volume - 0.1)
    distance = np.sqrt((canvas.u / half) ** 2 + above * above + (below / 0.35) ** 2) - 1.0
    mask = canvas.cover(distance * half + wave, 0.04)
    canvas.paint(canvas.whole, mask, 0.7 * _strands(canvas, who, 0.0))
    canvas.solid[:] = np.maximum(canvas.solid, mask)


def paint_front_hair(canvas: Canvas, who: Identity, pose: Pose) -> None:
    """Hair over the forehead, down to the style's hairline."""
    if who.hair_style == "bald":
        return
    x = canvas.u - 0.35 * float(np.sin(pose.yaw))
    line = who.hairline + 0.9 * np.minimum(np.abs(x) / who.face_half_width, 1.3) ** 4
    lean = 0.0
    if who.hair_style == "fringe":
        line = np.maximum(line, -0.50 + 0.05 * np.sin(14.0 * x + 1.0) + 0.04 * np.sin(31.0 * x))
    elif who.hair_style == "side_part":
        lean = 0.5 if who.texture_seed % 2 else -0.5
        line = line + 0.30 * math.copysign(1.0, lean) * np.clip(
            x + 0.4 * math.copysign(1.0, lean), -0.9, 0.9
        ) ** 2 * np.sign(x)
    elif who.hair_style == "curly":
        line = line + 0.06 * np.sin(11.0 * x + 0.6) + 0.04 * np.sin(23.0 * x)
    elif who.hair_style == "receding":
        line = line - 0.30 - 0.30 * np.maximum(1.0 - ((np.abs(x) - 0.62) / 0.35) ** 2, 0.0)
    elif who.hair_style == "long":
        line = line + 0.75 * np.clip(np.abs(x) - 0.62 * who.face_half_width, 0.0, 0.6)
    rough = 0.012 * np.sin(47.0 * canvas.u + 5.0 * canvas.v)
    mask = canvas.cover(canvas.v - pose.place(0.0, 0.0, 0.7)[1] * 0.5 - line + rough, 0.06) * canvas.solid
    canvas.paint(canvas.whole, mask, _strands(canvas, who, lean))
    canvas.relief += 0.05 * mask


def _strands(canvas: Canvas, who: Identity, lean: float) -> np.ndarray:
    """(3, S, S) hair colour with strands and a band of light."""
    u, v = canvas.u, canvas.v
    phase = np.float32(who.texture_seed % 628) / 100.0
    bend = (2.0 + 4.0 * who.hair_wave) * np.sin(2.4 * v + phase)
    strands = 1.0 + 0.22 * np.sin(31.0 * (u + lean * v) + bend) + 0.14 * np.sin(67.0 * (u - 0.3 * v) - bend)
    band = 0.35 * np.maximum(1.0 - ((v + 0.95) / 0.35) ** 2, 0.0)
    return np.array(who.hair, dtype=np.float32)[:, None, None] * (strands + band)

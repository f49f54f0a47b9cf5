"""The picture that `agfas detect` leaves: what the detector saw, side by side, under its verdict."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SIDE, _GAP, _HEAD, _CAPTION = 224, 16, 96, 28
_PAPER, _INK, _SOFT = (251, 250, 248), (34, 38, 43), (93, 102, 111)
_COLOURS = {"live": (29, 107, 69), "attack": (155, 58, 43)}
_LEAST_WIDTH = 2 * _SIDE + 3 * _GAP


def draw_overlay(panels: dict[str, np.ndarray], answer: dict[str, Any]) -> Image.Image:
    """Panels side by side with their names, and above them verdict, score and the threshold's origin.

    Args:
        panels: pictures (H, W, 3) uint8 by name.
        answer: `verdict`, `score`, `threshold`, `threshold_origin`.
    """
    width = max(_LEAST_WIDTH, _GAP + len(panels) * (_SIDE + _GAP))
    canvas = Image.new("RGB", (width, _HEAD + _SIDE + _CAPTION + _GAP), _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, 10), answer["verdict"], _COLOURS[answer["verdict"]], ImageFont.load_default(26))
    numbers = f"score {answer['score']:.4f}, threshold {answer['threshold']:.4f}"
    draw.text((_GAP + 110, 19), numbers, _INK, ImageFont.load_default(16))
    origin = textwrap.wrap(f"threshold: {answer['threshold_origin']}", width // 7)[:2]
    draw.multiline_text((_GAP, 50), "\n".join(origin), _SOFT, ImageFont.load_default(13))
    for place, (name, picture) in enumerate(panels.items()):
        left = _GAP + place * (_SIDE + _GAP)
        scaled = Image.fromarray(picture).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        canvas.paste(scaled, (left, _HEAD))
        draw.text((left, _HEAD + _SIDE + 6), name, _SOFT, ImageFont.load_default(14))
    return canvas

"""What the detector saw, in pictures: the panels of one face, and the overlay that `agfas detect --save` writes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipelines.verdict.answers import ATTACK, LIVE, FaceVerdict, FrameVerdict, Verdict

if TYPE_CHECKING:
    import torch

_CUE_RANGE = 3.0  # standard deviations of a cue between grey and white
_HEAT_SHARE = 0.55  # opacity of the attention map over the grey face

# Lengths in pixels: side of a panel, space between parts, heights of a panel's name and of a line of text.
_SIDE, _GAP, _CAPTION, _LINE = 192, 16, 24, 20
_PHOTO_WIDTH, _PHOTO_HEIGHT = 640, 600
_PAPER, _INK, _SOFT = (251, 250, 248), (34, 38, 43), (93, 102, 111)
_COLOURS = {LIVE: (29, 107, 69), ATTACK: (155, 58, 43)}
_LEAST_WIDTH = 720
_LETTER = 7  # approximate width of a letter of the small text, to wrap lines
_MOST_ROWS = 6  # a crowd would make an overlay that no viewer shows at a readable size
_LONGEST = 2  # aspect ratio above which a photo is cropped around its first face


def draw_panels(
    face: np.ndarray,
    restored: np.ndarray | None,
    cue: np.ndarray | None,
    attention: Sequence[torch.Tensor] | None,
) -> dict[str, np.ndarray]:
    """The available ones of `face`, `restoration`, `cue` and `attention`, each (H, W, 3) uint8.

    Args:
        face: (H, W, 3 n) uint8, n crops one behind another; the first is `face`, the others `face, crop 2` and so on.
        restored: (H, W, 3) uint8.
        cue: (C, H, W) float; see `draw_cue`.
        attention: see `draw_attention`.
    """
    face, *others = np.split(face, face.shape[2] // 3, axis=2)
    panels = {"face": face, **{f"face, crop {number}": crop for number, crop in enumerate(others, start=2)}}
    if restored is not None:
        panels["restoration"] = restored
    if cue is not None:
        panels |= draw_cue(cue)
    seen = draw_attention(attention, face)
    return panels if seen is None else {**panels, "attention": seen}


def draw_cue(cue: np.ndarray) -> dict[str, np.ndarray]:
    """A cue (C, H, W), C a multiple of 3, as C / 3 pictures (H, W, 3) uint8.

    Grey (128) is 0; black and white are -3 and 3 standard deviations of the part.
    """
    parts = np.split(cue, len(cue) // 3)
    names = ["cue"] if len(parts) == 1 else [f"cue, part {number + 1}" for number in range(len(parts))]
    return {name: _signed(part) for name, part in zip(names, parts, strict=True)}


def draw_attention(attention: Sequence[torch.Tensor] | None, face: np.ndarray) -> np.ndarray | None:
    """Where the image's tokens look in the cue: the mean over blocks, heads and tokens, laid on the face.

    Args:
        attention: maps (1, heads, T, N) of every block, N the cue's tokens.
        face: (H, W, 3) uint8.

    Returns:
        (H, W, 3) uint8; None without maps, or if N is not a square number.
    """
    if not attention:
        return None
    weights = np.mean([block.float().cpu().numpy()[0].mean(axis=(0, 1)) for block in attention], axis=0)  # (N,)
    side = math.isqrt(len(weights))
    if side * side != len(weights):
        return None
    spread = float(np.ptp(weights))
    level = (weights - weights.min()) / spread if spread > 0 else np.zeros_like(weights)
    small = Image.fromarray((255 * level.reshape(side, side)).astype(np.uint8))
    heat = _heat(np.asarray(small.resize(face.shape[1::-1], Image.Resampling.BICUBIC)))
    grey = np.repeat(face.mean(axis=2, keepdims=True), 3, axis=2)
    return np.round(_HEAT_SHARE * heat + (1 - _HEAT_SHARE) * grey).astype(np.uint8)


def _signed(part: np.ndarray) -> np.ndarray:
    scale = _CUE_RANGE * float(part.std()) or 1.0
    shares = np.clip(part.transpose(1, 2, 0) / scale, -1, 1)
    return np.round((shares + 1) * 127.5).astype(np.uint8)


def _heat(level: np.ndarray) -> np.ndarray:
    """uint8 (H, W) as colours (H, W, 3) in [0, 255], dark to bright."""
    from matplotlib import colormaps

    return np.asarray(colormaps["inferno"](level)[..., :3]) * 255


@dataclass(frozen=True)
class _Row:
    """The panels of one face, under a one-line title in the colour of its verdict."""

    title: str
    verdict: str
    panels: dict[str, np.ndarray]


def draw_overlay(verdict: Verdict) -> Image.Image:
    """The photo with boxes and verdicts, beside the panels of every judged face.

    For a video: the frame with the median score, and the panels of its lowest, median and highest score. Photos are
    scaled to fit 640 x 600 pixels, so that marks and text are readable at any size.

    Args:
        verdict: made with `panels=True`.
    """
    rows, photo, faces = _contents(verdict)
    marked = None if photo is None else _marked(photo, faces)
    return _assembled(_head(verdict), verdict.verdict, marked, _grid(rows))


def _contents(verdict: Verdict) -> tuple[list[_Row], np.ndarray | None, tuple[FaceVerdict, ...]]:
    """Rows of panels, the photo to show, and the faces to mark in the photo."""
    if not verdict.frames:
        rows = [_row(f"face {place}", face) for place, face in enumerate(verdict.faces, start=1)]
        return rows, _worth_showing(verdict.photo, verdict.faces), verdict.faces
    judged = sorted((frame for frame in verdict.frames if frame.faces), key=_frame_score)
    if not judged:
        return [], verdict.frames[0].photo, ()
    middle = judged[len(judged) // 2]
    chosen = {frame.index: frame for frame in (judged[0], middle, judged[-1])}
    rows = [_row(f"frame {index}", frame.faces[0]) for index, frame in chosen.items()]
    return rows, _worth_showing(middle.photo, middle.faces), middle.faces


def _row(name: str, face: FaceVerdict) -> _Row:
    return _Row(f"{name}: {face.verdict}, score {face.score:.4f}", face.verdict, face.panels)


def _frame_score(frame: FrameVerdict) -> float:
    return frame.score or 0.0


def _worth_showing(photo: np.ndarray | None, faces: Sequence[FaceVerdict]) -> np.ndarray | None:
    """The photo, except for a crop, which is shown as the face panel."""
    return None if any(face.box is None for face in faces) else photo


def _head(verdict: Verdict) -> list[str]:
    return [verdict.reason, f"threshold: {verdict.threshold_origin}", *(f"note: {note}" for note in verdict.notes)]


def _marked(photo: np.ndarray, faces: Sequence[FaceVerdict]) -> Image.Image:
    """The scaled photo, each face in a box with its number and verdict."""
    photo, left, top = _window(photo, faces)
    height, width = photo.shape[:2]
    scale = min(_PHOTO_WIDTH / width, _PHOTO_HEIGHT / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    for place, face in reversed(list(enumerate(faces, start=1))):
        _mark(draw, picture.size, face, str(place) if len(faces) > 1 else "", scale, (left, top))
    return picture


def _window(photo: np.ndarray, faces: Sequence[FaceVerdict]) -> tuple[np.ndarray, int, int]:
    """The part of the photo around the first face, at most twice as long as wide, and its left and top."""
    height, width = photo.shape[:2]
    size = min(width, _LONGEST * height), min(height, _LONGEST * width)
    x, y, wide, high = faces[0].box if faces and faces[0].box else (0.0, 0.0, float(width), float(height))
    left = round(min(max(x + wide / 2 - size[0] / 2, 0), width - size[0]))
    top = round(min(max(y + high / 2 - size[1] / 2, 0), height - size[1]))
    return photo[top : top + size[1], left : left + size[0]], left, top


def _mark(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    face: FaceVerdict,
    number: str,
    scale: float,
    origin: tuple[int, int],
) -> None:
    assert face.box is not None
    assert face.landmarks is not None
    left, top = (face.box[0] - origin[0]) * scale, (face.box[1] - origin[1]) * scale
    width, height = face.box[2] * scale, face.box[3] * scale
    colour = _COLOURS[face.verdict]
    draw.rectangle((left, top, left + width, top + height), outline=colour, width=3)
    for x, y in face.landmarks:
        # Landmarks are pixel indices; the centre of pixel 0 is at 0.5.
        across, down = (x + 0.5 - origin[0]) * scale, (y + 0.5 - origin[1]) * scale
        draw.ellipse((across - 3, down - 3, across + 3, down + 3), fill=(255, 255, 255), outline=colour)
    text = f"{number} {face.verdict} {face.score:.2f}".strip()
    font = ImageFont.load_default(16)
    text_width, text_height = font.getbbox(text)[2] + 8, 22
    # Above the box, or inside it at the top of the picture.
    x = min(max(0.0, left), max(0.0, size[0] - text_width))
    y = top - text_height if top >= text_height else max(0.0, top)
    draw.rectangle((x, y, x + text_width, y + text_height), fill=colour)
    draw.text((x + 4, y + 2), text, (255, 255, 255), font)


def _grid(rows: Sequence[_Row]) -> Image.Image | None:
    """The rows as one picture, each with its title and the panels' names."""
    if not rows:
        return None
    shown, more = rows[:_MOST_ROWS], len(rows) - _MOST_ROWS
    columns = max(len(row.panels) for row in shown)
    row_height = _LINE + 4 + _SIDE + _CAPTION + _GAP
    canvas = Image.new("RGB", (columns * (_SIDE + _GAP), len(shown) * row_height + (_LINE if more > 0 else 0)), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, row in enumerate(shown):
        top = number * row_height
        draw.text((0, top), row.title, _COLOURS[row.verdict], ImageFont.load_default(16))
        for place, (name, picture) in enumerate(row.panels.items()):
            scaled = Image.fromarray(picture).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
            left, below = place * (_SIDE + _GAP), top + _LINE + 4
            canvas.paste(scaled, (left, below))
            draw.text((left, below + _SIDE + 4), name, _SOFT, ImageFont.load_default(14))
    if more > 0:
        draw.text((0, len(shown) * row_height), f"and {more} more", _SOFT, ImageFont.load_default(14))
    return canvas


def _assembled(head: Sequence[str], word: str, photo: Image.Image | None, grid: Image.Image | None) -> Image.Image:
    """The overlay: verdict and text at the top, photo at the left, panels at the right."""
    parts = [part for part in (photo, grid) if part is not None]
    width = max(_LEAST_WIDTH, _GAP + sum(part.width + _GAP for part in parts))
    lines = [line for text in head for line in textwrap.wrap(text, (width - 2 * _GAP) // _LETTER)]
    below = 52 + _LINE * len(lines) + 8
    canvas = Image.new("RGB", (width, below + max((part.height for part in parts), default=0) + _GAP), _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, 12), word, _COLOURS.get(word, _INK), ImageFont.load_default(28))
    for place, line in enumerate(lines):
        draw.text((_GAP, 52 + _LINE * place), line, _INK if place == 0 else _SOFT, ImageFont.load_default(14))
    left = _GAP
    for part in parts:
        canvas.paste(part, (left, below))
        left += part.width + _GAP
    return canvas

"""Photos for the tests of the page, and its panels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from verdict_run import paint

PANELS = ["face", "restoration", "cue, part 1", "cue, part 2", "attention"]


def save(path: Path, photo: np.ndarray) -> Path:
    Image.fromarray(photo).save(path)
    return path


def with_face(face: np.ndarray, seed: int = 0) -> np.ndarray:
    """A photo of 320 x 240 that shows a face, in the frame by which `PaintedFaces` finds it."""
    photo = paint(320, 240, [], seed)
    photo[60:156, 100:196] = face
    framed = paint(320, 240, [(100, 60, 96)])
    red = (framed == (255, 0, 0)).all(axis=2)
    photo[red] = (255, 0, 0)
    return photo


def blocks(picture: np.ndarray) -> np.ndarray:
    """Means over 8 x 8 pixels."""
    height, width = picture.shape[:2]
    return picture.reshape(height // 8, 8, width // 8, 8, 3).mean(axis=(1, 3))

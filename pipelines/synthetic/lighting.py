"""The light of the scene in which a face was seen: uneven, and in part with a bright window behind the head.

Published photographs are well lit; faces before a webcam often are not. Both classes are lit by one law, before any
medium: a face in its room, and the photograph that is printed or shown of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pipelines.streams import uniform

if TYPE_CHECKING:
    from pipelines.synthetic.recapture import View

_GAMMA = np.float32(2.2)
# Shares of the scenes with a lamp at the side and with a window behind, which are independent.
_SIDE_SHARE, _WINDOW_SHARE = 0.6, 0.5
# Log of the light from the side over that from the front; brightness of the window over a scene of middle light; how
# much of the background it covers; and its light that the lens spreads over the face, as a share.
_SIDE, _BRIGHT, _COVERED, _FLARE = (0.0, 0.9), (0.3, 2.0), (0.3, 1.0), (0.0, 0.05)
_SCENE_LEVEL = 0.3
# Half axes of the head and the height of its centre in half crops, and the softness of its outline.
_WIDE, _HIGH, _CENTRE, _SOFT = (0.62, 0.8), (0.85, 1.0), 0.08, 0.06
# A file holds no light beyond white: what this share of the scene stays below becomes white.
_WHITE = 0.97


def lit(view: View, rng: np.random.Generator) -> View:
    """The view in another light; a part of the scenes keeps its own.

    Args:
        view: of a crop whose face fills it.
        rng: of the video; the numbers drawn do not depend on what is held up.
    """
    light, side = view.light, view.side
    at = np.linspace(-1.0, 1.0, side, dtype=np.float32)
    if rng.random() < _SIDE_SHARE:
        angle, strong = rng.uniform(0.0, 2.0 * np.pi), uniform(rng, _SIDE)
        across = np.float32(strong * np.cos(angle)) * at[None, :] + np.float32(strong * np.sin(angle)) * at[:, None]
        light = light * np.exp(across)
    if rng.random() < _WINDOW_SHARE:
        light = _before_a_window(light, at, rng)
    white = max(1.0, float(np.quantile(light, _WHITE)))
    return replace(view, picture=np.clip(light / np.float32(white), 0.0, 1.0) ** (1 / _GAMMA))


def _before_a_window(light: np.ndarray, at: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light (3, G, G) whose background is bright; `at` are the G places in [-1, 1]."""
    wide, high = np.float32(uniform(rng, _WIDE)), np.float32(uniform(rng, _HIGH))
    out = np.sqrt((at[None, :] / wide) ** 2 + ((at[:, None] - np.float32(_CENTRE)) / high) ** 2) - 1
    behind = 1.0 / (1.0 + np.exp(-out / np.float32(_SOFT)))
    bright = np.float32(uniform(rng, _BRIGHT) * float(light.mean()) / _SCENE_LEVEL)
    covered = behind * np.float32(uniform(rng, _COVERED))
    seen = light + covered * (bright * (0.5 * light + 0.5) - light)
    return np.asarray(seen + np.float32(uniform(rng, _FLARE)) * bright * behind.mean())

"""A picture in head coordinates: soft masks, windows around a feature, painting."""

from __future__ import annotations

import numpy as np

Window = tuple[slice, slice]


def invert_affine(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a (2, 3) affine map, (2, 3)."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


class Canvas:
    """Albedo and relief of a scene on a pixel grid.

    Attributes:
        u, v: (S, S) head coordinates of the pixel centres.
        unit: head units per pixel; edges are softened over one pixel.
        albedo: (3, S, S) linear reflectance.
        relief: (S, S) height towards the viewer, head units.
        solid: (S, S) coverage by the person; only the person is shaded, the background is not.
    """

    def __init__(self, to_crop: np.ndarray, side: int) -> None:
        """`to_crop` is the (2, 3) map from head units to fractions of the crop, `side` its side in pixels."""
        self.side = side
        self.to_pixels = to_crop * side
        self.to_head = invert_affine(self.to_pixels).astype(np.float32)
        at = np.arange(side, dtype=np.float32) + 0.5
        (a, b, c), (d, e, f) = self.to_head
        self.u = a * at[None, :] + (b * at + c)[:, None]
        self.v = d * at[None, :] + (e * at + f)[:, None]
        self.unit = float(np.sqrt(abs(np.linalg.det(self.to_head[:, :2].astype(np.float64)))))
        self.albedo = np.zeros((3, side, side), dtype=np.float32)
        self.relief = np.zeros((side, side), dtype=np.float32)
        self.solid = np.zeros((side, side), dtype=np.float32)

    @property
    def whole(self) -> Window:
        """The window of every pixel."""
        return slice(0, self.side), slice(0, self.side)

    def window(self, u: float, v: float, half_u: float, half_v: float) -> Window:
        """The pixels of a box around (u, v), clipped to the picture; may be empty."""
        m = self.to_pixels
        x, y = m[0, 0] * u + m[0, 1] * v + m[0, 2], m[1, 0] * u + m[1, 1] * v + m[1, 2]
        reach_x = abs(m[0, 0]) * half_u + abs(m[0, 1]) * half_v + 1.5
        reach_y = abs(m[1, 0]) * half_u + abs(m[1, 1]) * half_v + 1.5
        return self._cut(y, reach_y), self._cut(x, reach_x)

    def _cut(self, middle: float, reach: float) -> slice:
        low = min(max(int(middle - reach), 0), self.side)
        return slice(low, max(low, min(int(middle + reach) + 1, self.side)))

    def cover(self, distance: np.ndarray, softness: float = 0.0) -> np.ndarray:
        """Coverage in [0, 1] of a shape from its signed distance (head units, negative inside)."""
        return np.clip(0.5 - distance / max(self.unit, softness), 0.0, 1.0)

    def paint(self, window: Window, mask: np.ndarray, colour: np.ndarray | tuple[float, float, float]) -> None:
        """Blend a colour over the albedo; `mask` is coverage, `colour` three numbers or (3, h, w)."""
        target = self.albedo[:, window[0], window[1]]
        paint = np.asarray(colour, dtype=np.float32)
        target += mask * ((paint if paint.ndim == 3 else paint[:, None, None]) - target)

    def darken(self, window: Window, mask: np.ndarray, amount: float) -> None:
        """Multiply the albedo by 1 - amount * mask."""
        self.albedo[:, window[0], window[1]] *= 1.0 - np.float32(amount) * mask

    def raise_bump(self, u: float, v: float, half_u: float, half_v: float, height: float) -> None:
        """Add a smooth bump of compact support to the relief."""
        window = self.window(u, v, half_u, half_v)
        x, y = (self.u[window] - u) / half_u, (self.v[window] - v) / half_v
        bump = np.maximum(1.0 - x * x - y * y, 0.0)
        self.relief[window] += np.float32(height) * bump * bump

"""Digital blends: the face of one person in the picture of another, by landmarks (SBI and SPSC do alike)."""

from __future__ import annotations

import cv2
import numpy as np

from pipelines.streams import uniform
from pipelines.synthetic.camera import blur
from pipelines.synthetic.recapture import View, moved_onto, warped
from pipelines.synthetic.worn import fitted_head

# How far the inner face reaches beyond the landmarks, and the softness of its edge in fractions of the crop.
_GROWN, _SOFT = (1.15, 1.6), (0.01, 0.05)
# How much of the other face is seen, as SPSC draws it.
_RATIOS = (0.5, 0.75, 1.0, 1.0)


def on_face(view: View, other: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Another crop laid on a view by its landmarks: (3, G, G) float32, gamma-encoded.

    Args:
        view: with landmarks.
        other: (G, G, 3) uint8.
        landmarks: (5, 2) of it, fractions of the crop.
    """
    assert view.landmarks is not None
    return warped(other, moved_onto(landmarks, view.landmarks))


def blended_light(view: View, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(3, G, G) linear light of a blend.

    Args:
        view: the face whose picture it is; with landmarks.
        other: (3, G, G) gamma-encoded face laid on it (`on_face`).
        rng: of the video.
    """
    mask = _region(view, rng)
    toned = _toned(other, view.picture, mask)
    mask *= np.float32(_RATIOS[int(rng.integers(len(_RATIOS)))])
    picture = view.picture + mask * (toned - view.picture)
    return np.asarray(np.clip(picture, 0.0, 1.0) ** np.float32(2.2))


def _region(view: View, rng: np.random.Generator) -> np.ndarray:
    """(G, G) float32: the whole face, or the hull of the grown landmarks, with a soft edge."""
    if rng.random() < 0.5:
        mask = fitted_head(view, rng).face().astype(np.float32)
    else:
        assert view.landmarks is not None
        centre, grown = view.landmarks.mean(axis=0), uniform(rng, _GROWN)
        hull = cv2.convexHull((((view.landmarks - centre) * grown + centre) * view.side).astype(np.float32))
        mask = np.zeros((view.side, view.side), dtype=np.float32)
        cv2.fillConvexPoly(mask, np.round(hull).astype(np.int32), 1.0)
    return blur(mask[None], uniform(rng, _SOFT) * view.side)[0]


def _toned(other: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`other` with the mean and deviation that `target` has under the mask, in each channel."""
    weight = mask / max(float(mask.sum()), 1e-6)

    def moments(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = (picture * weight).sum(axis=(1, 2), keepdims=True)
        spread = ((picture - mean) ** 2 * weight).sum(axis=(1, 2), keepdims=True)
        return mean, np.sqrt(np.maximum(spread, 1e-6))

    (mean, spread), (wanted, width) = moments(other), moments(target)
    return np.asarray((other - mean) * np.clip(width / spread, 0.5, 2.0) + wanted)

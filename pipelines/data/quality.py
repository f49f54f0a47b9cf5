"""Image quality as four measures and one score, by the text and by the code of Kuznetsov et al. (Deep Learning Models
for Robust Facial Liveness Detection, section 3.3).

`paper`: the paper gives the measures, their weights, and the score above which it keeps a picture. It does not give the
value at which each measure is 1; these are the constants below, for grey levels of 0 to 255.
`released`: the public code's other sharpness and blur, its lower limit, and its limits of single measures.

Measures of sharpness depend on the size of the picture, so compare crops of one size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WEIGHTS = {"sharpness": 0.35, "contrast": 0.25, "brightness": 0.20, "blur": 0.20}
# Variance of the Laplacian: the public code's divisor and a usual limit of blur detectors.
_SHARP = 100.0
# Standard deviation (RMS contrast): the public code's divisor.
_CONTRAST = 50.0
# Mean grey levels beyond which brightness is 0 (the paper's), and at which it is 1 (the public code's).
_DARK, _BRIGHT, _MIDDLE = 40.0, 220.0, 128.0
# Tenengrad (mean squared Sobel gradient), a root mean square of 50.
_EDGES = 2500.0
# Weight of the Laplacian against Tenengrad in the blur term: the public code's.
_LAPLACIAN_SHARE = 0.6

# The paper keeps scores above the first, the public code scores of at least the second.
_PAPER_LIMIT, _RELEASED_LIMIT = 0.65, 0.6
# The public code's weight of the Laplacian against the mean Sobel gradient in sharpness.
_RELEASED_SHARE = 0.7
# Its blur term is a variance of squared gradients over 1000, 1 from 100 on and refused up to 80; nearly every real face
# exceeds both.
_RELEASED_EDGES, _RELEASED_BLUR, _RELEASED_BLURRED = 1000.0, 100.0, 80.0
# It refuses a contrast up to this.
_RELEASED_FLAT = 15.0


@dataclass(frozen=True)
class Quality:
    """Measures in [0, 1]; 1 is best. What `released` measures differently is in brackets.

    Attributes:
        sharpness: variance of the Laplacian [0.7 of it and 0.3 of the mean gradient] over 100, at most 1.
        contrast: RMS contrast over 50, at most 1.
        brightness: closeness of the mean to the middle; 0 outside 40 to 220 [not there].
        blur: absence of blur, by the Laplacian and the mean [the variance] of the squared gradient.
        score: sum weighted by `WEIGHTS`.
        refused: why the rule does not keep the picture; empty if it does.
    """

    sharpness: float
    contrast: float
    brightness: float
    blur: float
    score: float
    refused: str


def measure_quality(picture: np.ndarray, rule: str = "paper", inside: np.ndarray | None = None) -> Quality:
    """Measure the quality of a picture (H, W, 3) uint8 RGB on its grey levels (ITU-R 601).

    Args:
        picture: to measure.
        rule: `paper` or `released`.
        inside: (H, W) uint8, 0 where nothing is measured: the edge of what fills a crop beyond its picture is sharper
            than any face. None, or zeros alone, for all of it.
    """
    import cv2

    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    mask = inside if inside is not None and inside.any() else None
    mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(grey, mask=mask))
    laplacian = float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_32F), mask=mask)[1][0, 0]) ** 2
    along_x, along_y = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    steepness = np.square(along_x) + np.square(along_y)  # squared gradients, whole numbers below 2^24
    steepness = steepness if mask is None else steepness[mask > 0]
    measured = _as_released if rule == "released" else _as_in_the_paper
    return measured(mean, deviation, laplacian, steepness)


def _as_in_the_paper(mean: float, deviation: float, laplacian: float, steepness: np.ndarray) -> Quality:
    sharpness = min(laplacian / _SHARP, 1.0)
    tenengrad = float(steepness.mean(dtype=np.float64))
    parts = {
        "sharpness": sharpness,
        "contrast": min(deviation / _CONTRAST, 1.0),
        "brightness": _closeness(mean) if _DARK <= mean <= _BRIGHT else 0.0,
        "blur": _LAPLACIAN_SHARE * sharpness + (1 - _LAPLACIAN_SHARE) * min(tenengrad / _EDGES, 1.0),
    }
    score = _weighted(parts)
    kept = score > _PAPER_LIMIT
    return Quality(**parts, score=score, refused="" if kept else f"score is {score:.3f}, not above {_PAPER_LIMIT}")


def _as_released(mean: float, deviation: float, laplacian: float, steepness: np.ndarray) -> Quality:
    gradient = float(np.sqrt(steepness, dtype=np.float64).mean())
    sharpness = _RELEASED_SHARE * laplacian + (1 - _RELEASED_SHARE) * gradient
    spread = float(steepness.var(dtype=np.float64))
    blur = (_LAPLACIAN_SHARE * laplacian + (1 - _LAPLACIAN_SHARE) * spread) / _RELEASED_EDGES
    parts = {
        "sharpness": min(sharpness / _SHARP, 1.0),
        "contrast": min(deviation / _CONTRAST, 1.0),
        "brightness": _closeness(mean),
        "blur": min(blur / _RELEASED_BLUR, 1.0),
    }
    score = _weighted(parts)
    limits = {
        f"score is {score:.3f}, below {_RELEASED_LIMIT}": score >= _RELEASED_LIMIT,
        f"mean grey level is {mean:.1f}, outside {_DARK:g} to {_BRIGHT:g}": _DARK <= mean <= _BRIGHT,
        f"measure of blur is {blur:.1f}, not above {_RELEASED_BLURRED:g}": blur > _RELEASED_BLURRED,
        f"contrast is {deviation:.1f}, not above {_RELEASED_FLAT:g}": deviation > _RELEASED_FLAT,
    }
    return Quality(**parts, score=score, refused=next((why for why, kept in limits.items() if not kept), ""))


def _closeness(mean: float) -> float:
    """1 at the middle grey level, 0 at the one that is 128 away."""
    return max(0.0, 1 - abs(mean - _MIDDLE) / 128)


def _weighted(parts: dict[str, float]) -> float:
    return sum(WEIGHTS[name] * value for name, value in parts.items())

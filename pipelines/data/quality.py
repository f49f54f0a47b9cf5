"""A picture's quality in four numbers and one score (Kuznetsov et al., Deep Learning Models for Robust Facial
Liveness Detection, section 3.3).

The paper gives the four measures, their weights and the threshold. What it does not give, the value at which each
measure counts as full, is `QualityScale`: measures of sharpness depend on the picture's size, so compare crops of one
size, as those of `align` are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Pictures with a score above this are kept.
KEEP_ABOVE = 0.65
WEIGHTS = {"sharpness": 0.35, "contrast": 0.25, "brightness": 0.20, "blur": 0.20}


@dataclass(frozen=True)
class QualityScale:
    """Where each measure is full. In grey levels of 0 to 255; only the range of brightness is the paper's.

    Attributes:
        sharp: variance of the Laplacian that counts as fully sharp. 100 is the public code's divisor and the usual
            limit of blur detectors.
        contrast: standard deviation (RMS contrast) that counts as full; the public code's divisor.
        dark, bright: mean outside which a picture's brightness counts nothing.
        middle: mean that counts fully, as in the public code; brightness falls linearly by its distance over 128.
        edges: Tenengrad (mean squared Sobel gradient) that counts as free of blur: a root mean square of 50. The public
            code takes the variance of the squared gradient instead, over a divisor that more than 19 in 20 real faces
            exceed, so that its blur term is 1 for nearly all.
        laplacian_share: of the Laplacian in the blur term, the rest being Tenengrad's; the public code's.
    """

    sharp: float = 100.0
    contrast: float = 50.0
    dark: float = 40.0
    bright: float = 220.0
    middle: float = 128.0
    edges: float = 2500.0
    laplacian_share: float = 0.6


@dataclass(frozen=True)
class Quality:
    """All in [0, 1], 1 being the best.

    Attributes:
        sharpness: variance of the Laplacian over `QualityScale.sharp`, at most 1.
        contrast: RMS contrast over `QualityScale.contrast`, at most 1.
        brightness: nearness of the mean to the middle; 0 outside 40 to 220.
        blur: freedom from blur, of the Laplacian and Tenengrad together.
        score: their sum by `WEIGHTS`.
    """

    sharpness: float
    contrast: float
    brightness: float
    blur: float
    score: float

    @property
    def good(self) -> bool:
        """Whether the paper keeps such a picture."""
        return self.score > KEEP_ABOVE


def measure_quality(picture: np.ndarray, scale: QualityScale | None = None) -> Quality:
    """The quality of a picture (H, W, 3) uint8 RGB, on its grey values (ITU-R 601)."""
    import cv2

    scale = scale or QualityScale()
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(grey))
    sharpness = min(_laplacian_variance(grey) / scale.sharp, 1.0)
    edges = min(_tenengrad(grey) / scale.edges, 1.0)
    parts = {
        "sharpness": sharpness,
        "contrast": min(deviation / scale.contrast, 1.0),
        "brightness": _brightness(mean, scale),
        "blur": scale.laplacian_share * sharpness + (1 - scale.laplacian_share) * edges,
    }
    return Quality(**parts, score=sum(WEIGHTS[name] * value for name, value in parts.items()))


def _brightness(mean: float, scale: QualityScale) -> float:
    if not scale.dark <= mean <= scale.bright:
        return 0.0
    return max(0.0, 1 - abs(mean - scale.middle) / 128)


def _laplacian_variance(grey: np.ndarray) -> float:
    import cv2

    return float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_32F))[1][0, 0]) ** 2


def _tenengrad(grey: np.ndarray) -> float:
    """Mean of the squared gradient, by Sobel's 3 x 3 filters."""
    import cv2

    along_x, along_y = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return float((np.square(along_x) + np.square(along_y)).mean(dtype=np.float64))

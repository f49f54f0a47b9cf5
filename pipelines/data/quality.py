"""Image quality as four measures and one score (Kuznetsov et al., Deep Learning Models for Robust Facial Liveness
Detection, section 3.3).

The paper gives the measures, their weights, and the score above which it keeps a picture, 0.65. It does not give the
value at which each measure is 1; these are the constants below, for grey levels of 0 to 255. Measures of sharpness
depend on the size of the picture, so compare crops of one size.
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
# Tenengrad (mean squared Sobel gradient), a root mean square of 50. The public code uses the variance of the squared
# gradient instead, with a divisor that more than 19 in 20 real faces exceed, so that its blur term is nearly always 1.
_EDGES = 2500.0
# Weight of the Laplacian against Tenengrad in the blur term: the public code's.
_LAPLACIAN_SHARE = 0.6


@dataclass(frozen=True)
class Quality:
    """Measures in [0, 1]; 1 is best.

    Attributes:
        sharpness: variance of the Laplacian over 100, at most 1.
        contrast: RMS contrast over 50, at most 1.
        brightness: closeness of the mean to the middle; 0 outside 40 to 220.
        blur: absence of blur, by the Laplacian and Tenengrad.
        score: sum weighted by `WEIGHTS`.
    """

    sharpness: float
    contrast: float
    brightness: float
    blur: float
    score: float


def measure_quality(picture: np.ndarray) -> Quality:
    """Measure the quality of a picture (H, W, 3) uint8 RGB on its grey levels (ITU-R 601)."""
    import cv2

    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(grey))
    laplacian = float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_32F))[1][0, 0]) ** 2
    along_x, along_y = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    tenengrad = float((np.square(along_x) + np.square(along_y)).mean(dtype=np.float64))
    sharpness = min(laplacian / _SHARP, 1.0)
    parts = {
        "sharpness": sharpness,
        "contrast": min(deviation / _CONTRAST, 1.0),
        "brightness": max(0.0, 1 - abs(mean - _MIDDLE) / 128) if _DARK <= mean <= _BRIGHT else 0.0,
        "blur": _LAPLACIAN_SHARE * sharpness + (1 - _LAPLACIAN_SHARE) * min(tenengrad / _EDGES, 1.0),
    }
    return Quality(**parts, score=sum(WEIGHTS[name] * value for name, value in parts.items()))

"""The enhancement chain of Kuznetsov et al. (Deep Learning Models for Robust Facial Liveness Detection, section 3.3):
denoise, equalise, sharpen, gamma, contrast.

It changes the very texture by which attacks are told from live faces; the paper does it to both, and so must whoever
uses it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipelines.errors import AgfasError


@dataclass(frozen=True)
class Enhancement:
    """The chain's settings; the defaults are the paper's, and what the paper leaves open is the public code's.

    Attributes:
        bilateral_diameter: of the bilateral filter's neighbourhood in pixels (public code); 0 leaves the filter out.
        bilateral_color, bilateral_space: its two deviations, in grey levels and in pixels.
        clahe_limit: contrast limit of the adaptive equalisation of L in LAB; 0 leaves it out.
        clahe_tiles: tiles in each direction.
        unsharp_sigma: deviation of the Gaussian in pixels.
        unsharp_amount: share of (picture - blurred) that is added; 0 adds nothing. The paper says 1.5; its public code
            weighs the picture 1.5 and the blurred one -0.5, which is an amount of 0.5.
        gamma: grey levels in [0, 1] become v^(1 / gamma); above 1 brightens, as in the public code.
        alpha, beta: at last v becomes alpha v + beta, in grey levels of 0 to 255, cut to that range.
    """

    bilateral_diameter: int = 9
    bilateral_color: float = 75.0
    bilateral_space: float = 75.0
    clahe_limit: float = 3.0
    clahe_tiles: int = 8
    unsharp_sigma: float = 2.0
    unsharp_amount: float = 1.5
    gamma: float = 1.2
    alpha: float = 1.1
    beta: float = 5.0

    def __post_init__(self) -> None:
        for name in ("bilateral_color", "bilateral_space", "unsharp_sigma", "gamma", "clahe_tiles"):
            if not getattr(self, name) > 0:
                raise AgfasError(f"{name} of the enhancement is above 0; got {getattr(self, name)}.")
        for name in ("bilateral_diameter", "clahe_limit", "unsharp_amount"):
            if not getattr(self, name) >= 0:
                raise AgfasError(f"{name} of the enhancement is not below 0; got {getattr(self, name)}.")

    def fingerprint(self) -> dict[str, Any]:
        """Every setting, in JSON's types."""
        return asdict(self)


def enhance(picture: np.ndarray, settings: Enhancement | None = None) -> np.ndarray:
    """Run the chain over a picture (H, W, 3) uint8 RGB; the result has the same shape and type."""
    settings = settings or Enhancement()
    for step in (_denoise, _equalise, _sharpen):
        picture = step(picture, settings)
    # Gamma and contrast map each level on its own, so both are one table.
    return _levels(settings)[picture]


def _denoise(picture: np.ndarray, settings: Enhancement) -> np.ndarray:
    import cv2

    if settings.bilateral_diameter == 0:
        return picture
    return cv2.bilateralFilter(picture, settings.bilateral_diameter, settings.bilateral_color, settings.bilateral_space)


def _equalise(picture: np.ndarray, settings: Enhancement) -> np.ndarray:
    import cv2

    if settings.clahe_limit == 0:
        return picture
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    clahe = cv2.createCLAHE(settings.clahe_limit, (settings.clahe_tiles, settings.clahe_tiles))
    lab[:, :, 0] = clahe.apply(lab[:, :, 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def _sharpen(picture: np.ndarray, settings: Enhancement) -> np.ndarray:
    import cv2

    if settings.unsharp_amount == 0:
        return picture
    blurred = cv2.GaussianBlur(picture, (0, 0), settings.unsharp_sigma)
    return cv2.addWeighted(picture, 1 + settings.unsharp_amount, blurred, -settings.unsharp_amount, 0)


def _levels(settings: Enhancement) -> np.ndarray:
    """The new grey level of each of the 256."""
    bright = 255 * np.power(np.arange(256) / 255, 1 / settings.gamma)
    return np.clip(np.rint(settings.alpha * bright + settings.beta), 0, 255).astype(np.uint8)

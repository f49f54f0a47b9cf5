"""The enhancement chain of Kuznetsov et al. (Deep Learning Models for Robust Facial Liveness Detection, section 3.3):
denoise, equalise, sharpen, gamma, contrast; with the numbers of the paper, or as the public code computes it.

It changes the texture that separates attacks from live faces, so training and testing must use the same settings.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from pipelines.errors import AgfasError, nearest

_POSITIVE = ("bilateral_color", "bilateral_space", "unsharp_sigma", "gamma", "clahe_tiles")
_NOT_NEGATIVE = ("bilateral_diameter", "clahe_limit", "unsharp_amount")

CHAINS: dict[str, dict[str, Any]] = {"paper": {}, "released": {"unsharp_amount": 0.5, "whole_levels": True}}
"""Names of a recipe's `enhance`, as arguments of `Enhancement`."""


@dataclass(frozen=True)
class Enhancement:
    """Settings of the chain. Defaults: the paper's; where the paper gives none, those of its public code.

    Attributes:
        bilateral_diameter: neighbourhood of the bilateral filter in pixels (public code); 0 turns the filter off.
        bilateral_color, bilateral_space: its standard deviations in grey levels and in pixels.
        clahe_limit: contrast limit of the adaptive equalisation of L in LAB; 0 turns it off.
        clahe_tiles: tiles in each direction.
        unsharp_sigma: standard deviation of the Gaussian in pixels.
        unsharp_amount: share of (picture - blurred) that is added; 0 turns sharpening off. The paper says 1.5; its
            public code weighs the picture 1.5 and the blurred one -0.5, which is an amount of 0.5.
        gamma: v in [0, 1] becomes v^(1 / gamma); above 1 brightens, as in the public code.
        alpha, beta: finally v in [0, 255] becomes alpha v + beta, clipped to that range.
        whole_levels: cut the result of gamma down to whole grey levels first, as the public code does.
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
    whole_levels: bool = False

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise AgfasError(f"{name} of the enhancement must be above 0; got {getattr(self, name)}.")
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise AgfasError(f"{name} of the enhancement must be at least 0; got {getattr(self, name)}.")

    @classmethod
    def of(cls, given: bool | str | dict[str, Any] | None) -> Enhancement | None:
        """The settings of a recipe's `enhance`; None: off.

        Args:
            given: a name in `CHAINS`; True for `paper`; a mapping for other values than the paper's; False or None.

        Raises:
            AgfasError: an unknown name, or a value that is not allowed.
        """
        if given is None or given is False:
            return None
        if isinstance(given, str):
            if given not in CHAINS:
                raise AgfasError(f"there is no enhancement '{given}'; {nearest(given, CHAINS)}")
            return cls(**CHAINS[given])
        values = given if isinstance(given, dict) else {}
        allowed = [field.name for field in fields(cls)]
        for name in values:
            if name not in allowed:
                raise AgfasError(f"the enhancement has no setting '{name}'; {nearest(name, allowed)}")
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise AgfasError(f"the enhancement has a setting of the wrong type: {error}.") from None

    def fingerprint(self) -> dict[str, Any]:
        """Every setting, in JSON's types."""
        return asdict(self)


def enhance(picture: np.ndarray, settings: Enhancement | None = None) -> np.ndarray:
    """Apply the chain to a picture (H, W, 3) uint8 RGB; the result has the same shape and type."""
    import cv2

    chosen = settings or Enhancement()
    if chosen.bilateral_diameter:
        picture = cv2.bilateralFilter(
            picture, chosen.bilateral_diameter, chosen.bilateral_color, chosen.bilateral_space
        )
    if chosen.clahe_limit:
        lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
        lab[:, :, 0] = cv2.createCLAHE(chosen.clahe_limit, (chosen.clahe_tiles,) * 2).apply(lab[:, :, 0])
        picture = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    if chosen.unsharp_amount:
        blurred = cv2.GaussianBlur(picture, (0, 0), chosen.unsharp_sigma)
        picture = cv2.addWeighted(picture, 1 + chosen.unsharp_amount, blurred, -chosen.unsharp_amount, 0)
    return _levels(chosen)[picture]


def _levels(chosen: Enhancement) -> np.ndarray:
    """(256,) uint8: what gamma and contrast, which map each grey level independently, make of it."""
    if chosen.whole_levels:  # in the public code's precision, which decides at halves
        import cv2

        whole = (np.power(np.arange(256, dtype=np.float32) / 255, 1 / chosen.gamma) * 255).astype(np.uint8)
        return cv2.convertScaleAbs(whole, alpha=chosen.alpha, beta=chosen.beta).reshape(256)
    bright = 255 * np.power(np.arange(256) / 255, 1 / chosen.gamma)
    return np.clip(np.rint(chosen.alpha * bright + chosen.beta), 0, 255).astype(np.uint8)

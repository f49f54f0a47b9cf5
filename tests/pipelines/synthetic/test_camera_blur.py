"""Blur and aperture of the drawn cameras against SciPy's sums."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import correlate1d

from pipelines.synthetic.camera import _expose, blur


def blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """By weights up to 2.3 sigma; edges are repeated."""
    radius = int(np.ceil(2.3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    for axis in (1, 2):
        picture = correlate1d(picture.astype(np.float64), weights / weights.sum(), axis=axis, mode="nearest")
    return picture


def pooled(picture: np.ndarray, factor: int) -> np.ndarray:
    channels, height, width = picture.shape
    return picture.reshape(channels, height // factor, factor, width // factor, factor).mean(axis=(2, 4))


@pytest.fixture
def light() -> np.ndarray:
    return np.random.default_rng(0).random((3, 24, 24), dtype=np.float32)


@pytest.mark.parametrize("sigma", [0.25, 0.4, 0.9, 1.7, 3.0])
def test_blur_is_a_gaussian_of_repeated_edges(light, sigma):
    np.testing.assert_allclose(blur(light, sigma), blurred(light, sigma), atol=2e-6)


def test_the_least_blur_is_none(light):
    assert blur(light, 0.2499) is light
    assert blur(light, 0.0) is light


@pytest.mark.parametrize(("sigma", "factor"), [(0.64, 1), (0.66, 1), (1.29, 2), (1.31, 2), (1.94, 3), (1.96, 3)])
def test_a_wide_blur_comes_after_the_aperture(light, sigma, factor):
    """From 0.65 pixels of the picture on."""
    after = blurred(pooled(light.astype(np.float64), factor), sigma / factor)
    before = pooled(blurred(light, sigma), factor)
    expected, other = (after, before) if sigma > 0.65 * factor else (before, after)
    found = _expose(light, sigma, factor)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert factor == 1 or np.abs(found - other).max() > 1e-3


def test_light_is_not_changed_by_a_camera(light):
    before = light.copy()
    found = _expose(light, 0.0, 1)
    found *= 2
    assert np.array_equal(light, before)

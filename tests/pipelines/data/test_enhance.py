"""The enhancement chain: each step by itself against its definition, and all together in their order."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipelines.data.enhance import Enhancement, enhance
from pipelines.errors import AgfasError

OFF = {"bilateral_diameter": 0, "clahe_limit": 0.0, "unsharp_amount": 0.0, "gamma": 1.0, "alpha": 1.0, "beta": 0.0}


def only(**settings) -> Enhancement:
    """The chain with every step left out but the given one."""
    return Enhancement(**{**OFF, **settings})


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.uniform(0, 255, (12, 16, 3)), (80, 60), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def test_defaults_are_the_papers():
    settings = Enhancement()
    assert (settings.bilateral_color, settings.bilateral_space) == (75, 75)
    assert (settings.clahe_limit, settings.clahe_tiles) == (3.0, 8)
    assert (settings.unsharp_sigma, settings.unsharp_amount) == (2.0, 1.5)
    assert (settings.gamma, settings.alpha, settings.beta) == (1.2, 1.1, 5)


def test_without_any_step_nothing_changes(picture):
    assert np.array_equal(enhance(picture, only()), picture)


def test_shape_type_and_input_are_kept(picture):
    before = picture.copy()
    result = enhance(picture)
    assert (result.shape, result.dtype) == (picture.shape, np.uint8)
    assert np.array_equal(picture, before)
    assert not np.array_equal(result, picture)


def test_the_chain_is_its_steps_in_their_order(picture):
    step_by_step = picture
    for settings in (
        {"bilateral_diameter": 9},
        {"clahe_limit": 3.0},
        {"unsharp_amount": 1.5},
        {"gamma": 1.2, "alpha": 1.1, "beta": 5.0},
    ):
        step_by_step = enhance(step_by_step, only(**settings))
    assert np.array_equal(enhance(picture), step_by_step)


def test_denoising_keeps_edges():
    rng = np.random.default_rng(0)
    noisy = np.repeat(np.where(np.arange(64) < 32, 40, 215)[None], 64, axis=0)[:, :, None] + rng.normal(
        0, 8, (64, 64, 3)
    )
    result = enhance(noisy.clip(0, 255).astype(np.uint8), only(bilateral_diameter=9)).astype(float)
    assert result[:, 4:26].std() < 0.6 * 8
    assert result[:, 33:36].mean() - result[:, 28:31].mean() > 160


def test_equalising_spreads_the_lightness_and_keeps_the_colour():
    narrow = np.random.default_rng(0).integers(110, 131, (64, 64, 1), np.uint8)
    result = enhance(np.concatenate([narrow, narrow, narrow], axis=2), only(clahe_limit=3.0))
    assert result.std() > 2 * narrow.std()
    assert np.abs(result.astype(int) - result.mean(axis=2, keepdims=True)).max() <= 3  # grey remains grey


@pytest.mark.parametrize("amount", [0.5, 1.5])
def test_unsharp_masking_adds_the_difference_from_the_blurred(picture, amount):
    result = enhance(picture, only(unsharp_amount=amount)).astype(float)
    blurred = cv2.GaussianBlur(picture.astype(np.float64), (0, 0), 2.0)
    expected = np.clip(picture + amount * (picture - blurred), 0, 255)
    assert np.abs(result - expected).max() <= 1 + amount / 2


def test_gamma_brightens_and_then_contrast_is_scaled():
    levels = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    result = enhance(levels, only(gamma=1.2, alpha=1.1, beta=5.0))[0, :, 0].astype(int)
    for level in (0, 1, 64, 128, 200, 255):
        assert result[level] == min(255, round(1.1 * 255 * (level / 255) ** (1 / 1.2) + 5))
    assert (np.diff(result) >= 0).all()
    assert enhance(levels, only(gamma=1.2))[0, 128, 0] > 128


def test_fingerprint_tells_every_setting():
    first = Enhancement().fingerprint()
    assert first == Enhancement().fingerprint()
    for name, value in first.items():
        assert Enhancement(**{name: value + 1}).fingerprint() != first


@pytest.mark.parametrize(
    ("name", "value"),
    [("gamma", 0), ("unsharp_sigma", -1), ("clahe_tiles", 0), ("clahe_limit", -1), ("bilateral_diameter", -3)],
)
def test_settings_that_make_no_sense_are_refused(name, value):
    with pytest.raises(AgfasError, match=f"{name} of the enhancement"):
        Enhancement(**{name: value})

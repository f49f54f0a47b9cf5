"""The enhancement chain: each step by itself against its definition, and all together in their order."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipelines.data.enhance import CHAINS, Enhancement, enhance
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


def test_the_two_names_and_what_true_means():
    assert Enhancement.of("paper") == Enhancement.of(True) == Enhancement()
    released = Enhancement.of("released")
    assert released == Enhancement(unsharp_amount=0.5, whole_levels=True)
    assert Enhancement.of(released.fingerprint()) == released
    assert set(CHAINS) == {"paper", "released"}
    with pytest.raises(AgfasError, match="no enhancement 'relesed'; did you mean 'released'"):
        Enhancement.of("relesed")


def test_released_levels_are_cut_before_contrast():
    levels = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    result = enhance(levels, only(gamma=1.2, alpha=1.1, beta=5.0, whole_levels=True))[0, :, 0].astype(int)
    for level in range(256):
        whole = int((level / 255) ** (1 / 1.2) * 255 + 1e-9)
        assert abs(result[level] - min(255, 1.1 * whole + 5)) <= 0.5 + 1e-6
    paper = enhance(levels, only(gamma=1.2, alpha=1.1, beta=5.0))[0, :, 0].astype(int)
    assert (paper != result).any()
    assert (paper - result).min() >= 0
    assert (paper - result).max() <= 2


def slow_blur(values: np.ndarray, sigma: float = 2.0, radius: int = 6) -> np.ndarray:
    """A Gaussian over 13 x 13 pixels, rows and columns one after the other; mirrored borders."""
    kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(values, [(radius, radius) if a == axis else (0, 0) for a in range(3)], mode="reflect")
        values = sum(kernel[k] * padded.take(range(k, k + values.shape[axis]), axis) for k in range(2 * radius + 1))
    return values


def slow_equalized(lightness: np.ndarray, limit: float, tiles: int) -> np.ndarray:
    """Contrast-limited adaptive equalisation of (H, W) uint8, whose sides are multiples of the number of tiles."""
    height, width = lightness.shape[0] // tiles, lightness.shape[1] // tiles
    area = height * width
    clip = max(int(limit * area / 256), 1)
    tables = np.empty((tiles, tiles, 256))
    for i in range(tiles):
        for j in range(tiles):
            tile = lightness[i * height : (i + 1) * height, j * width : (j + 1) * width]
            counts = np.bincount(tile.ravel(), minlength=256)
            excess = int(np.maximum(counts - clip, 0).sum())
            counts = np.minimum(counts, clip) + excess // 256
            if rest := excess % 256:  # one each, at equal distances
                counts[: rest * max(256 // rest, 1) : max(256 // rest, 1)] += 1
            tables[i, j] = np.rint(counts.cumsum() * (255 / area))
    out = np.empty(lightness.shape)
    for row in range(lightness.shape[0]):
        for column in range(lightness.shape[1]):
            down, right = (row / height - 0.5, column / width - 0.5)
            i, j = int(np.floor(down)), int(np.floor(right))
            weight, level = (down - i, right - j), lightness[row, column]
            corners = [
                (weight[0] if a else 1 - weight[0])
                * (weight[1] if b else 1 - weight[1])
                * tables[np.clip(i + a, 0, tiles - 1), np.clip(j + b, 0, tiles - 1), level]
                for a in (0, 1)
                for b in (0, 1)
            ]
            out[row, column] = sum(corners)
    return np.rint(out)


def slow_bilateral(picture: np.ndarray, diameter: int, colour: float, space: float) -> np.ndarray:
    """Weights of distance and of the sum of the channels' differences, in a circle."""
    radius = diameter // 2
    padded = np.pad(picture.astype(float), [(radius, radius), (radius, radius), (0, 0)], mode="reflect")
    total, weights = np.zeros(picture.shape), np.zeros(picture.shape[:2])
    for i in range(-radius, radius + 1):
        for j in range(-radius, radius + 1):
            if i * i + j * j > radius * radius:
                continue
            near = padded[radius + i :, radius + j :][: picture.shape[0], : picture.shape[1]]
            apart = np.abs(near - picture).sum(axis=2)
            weight = np.exp(-(i * i + j * j) / (2 * space**2) - apart**2 / (2 * colour**2))
            total, weights = total + weight[:, :, None] * near, weights + weight
    return np.rint(total / weights[:, :, None])


@pytest.mark.parametrize(("name", "amount"), [("paper", 1.5), ("released", 0.5)])
def test_both_chains_equal_the_slow_computation(name, amount):
    rng = np.random.default_rng(1)
    coarse = cv2.resize(rng.uniform(40, 210, (6, 8, 3)), (64, 48), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(coarse + rng.normal(0, 5, coarse.shape), 0, 255).astype(np.uint8)
    smooth = slow_bilateral(picture, 9, 75, 75).astype(np.uint8)
    lab = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB)
    lab[:, :, 0] = slow_equalized(lab[:, :, 0], 3.0, 8)
    equal = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).astype(float)
    sharp = np.clip(np.rint(equal + amount * (equal - np.rint(slow_blur(equal)))), 0, 255)
    bright = (sharp / 255) ** (1 / 1.2) * 255
    if name == "released":
        bright = np.floor(bright + 1e-9)
    expected = np.clip(np.rint(1.1 * bright + 5), 0, 255)
    found = enhance(picture, Enhancement.of(name)).astype(float)
    apart = np.abs(found - expected)
    # A grey level of difference in the first step grows by equalisation and sharpening.
    assert np.median(apart) == 0
    assert apart.mean() < 0.5
    other = enhance(picture, Enhancement.of("released" if name == "paper" else "paper")).astype(float)
    assert np.abs(other - expected).mean() > 2

"""Quality: each measure against numbers worked out by hand, and the order that a viewer would give."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipelines.data.quality import WEIGHTS, measure_quality

KEEP_ABOVE = 0.65  # the paper's


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(values, np.uint8)[:, :, None], 3, axis=2)


def photograph(seed: int = 0) -> np.ndarray:
    """Something with edges of several sizes and a mean in the middle."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.uniform(-1, 1, (s, s, 3)), (256, 256), interpolation=cv2.INTER_CUBIC) for s in (8, 32, 128)
    ]
    return np.clip(128 + 55 * sum(layers), 0, 255).astype(np.uint8)


def test_weights_are_the_papers():
    assert WEIGHTS == {"sharpness": 0.35, "contrast": 0.25, "brightness": 0.20, "blur": 0.20}
    assert sum(WEIGHTS.values()) == pytest.approx(1)


def test_a_flat_picture_has_brightness_alone():
    found = measure_quality(grey(np.full((64, 64), 128)))
    assert (found.sharpness, found.contrast, found.blur, found.brightness) == (0, 0, 0, 1)
    assert found.score == pytest.approx(0.20)
    assert found.score <= KEEP_ABOVE


def test_stripes_worked_out_by_hand():
    # Columns of 100, 100, 120, 120: the Laplacian is +20, -20 in turn, the gradient of Sobel 4 * 20 = 80 everywhere.
    columns = np.tile([100, 100, 120, 120], 16)
    found = measure_quality(grey(np.tile(columns, (64, 1))))
    inner_share = 62 / 64  # OpenCV mirrors the border without repeating it, which changes the outer columns
    assert found.contrast == pytest.approx(10 / 50)
    assert found.brightness == pytest.approx(1 - 18 / 128)
    assert found.sharpness == 1  # a variance of about 400 over 100
    assert found.blur == pytest.approx(0.6 + 0.4 * min(1, 80**2 * inner_share / 2500))
    soft = measure_quality(grey(np.tile(columns // 20 + 95, (64, 1))))  # 100 and 101: 1 level instead of 20
    assert soft.sharpness == pytest.approx(1 / 100, rel=0.1)
    assert soft.blur == pytest.approx(0.6 * soft.sharpness + 0.4 * 16 * inner_share / 2500, rel=0.05)


@pytest.mark.parametrize(
    ("level", "expected"), [(0, 0), (39, 0), (40, 1 - 88 / 128), (128, 1), (220, 1 - 92 / 128), (221, 0), (255, 0)]
)
def test_brightness_counts_between_40_and_220(level, expected):
    assert measure_quality(grey(np.full((8, 8), level))).brightness == pytest.approx(expected)


def test_the_score_is_the_weighted_sum():
    found = measure_quality(photograph())
    parts = 0.35 * found.sharpness + 0.25 * found.contrast + 0.20 * found.brightness + 0.20 * found.blur
    assert found.score == pytest.approx(parts)


def test_blur_darkness_and_haze_lower_the_score():
    picture = photograph()
    blurred = cv2.GaussianBlur(picture, (0, 0), 6)
    dark = (picture * 0.2).astype(np.uint8)
    hazy = (128 + (picture.astype(float) - 128) * 0.2).astype(np.uint8)
    good = measure_quality(picture)
    assert good.score > KEEP_ABOVE
    for worse in (blurred, dark, hazy):
        assert measure_quality(worse).score < good.score - 0.2
    assert measure_quality(blurred).blur < good.blur / 2
    assert measure_quality(blurred).score <= KEEP_ABOVE
    levels = [measure_quality(cv2.GaussianBlur(picture, (0, 0), s)).score for s in (1, 2, 4, 8)]
    assert levels == sorted(levels, reverse=True)


def test_all_values_are_shares():
    rng = np.random.default_rng(0)
    for picture in (rng.integers(0, 256, (32, 32, 3), np.uint8), np.zeros((1, 1, 3), np.uint8), grey(np.eye(9) * 255)):
        found = measure_quality(picture)
        assert all(0 <= getattr(found, name) <= 1 for name in (*WEIGHTS, "score"))

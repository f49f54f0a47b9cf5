"""Quality by both rules: each measure against numbers worked out by hand or by loops, and the order that a viewer
would give.
"""

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


def slow_moments(picture: np.ndarray) -> tuple[float, float, float, np.ndarray]:
    """Mean, deviation, variance of the Laplacian and squared Sobel gradients of a grey picture, pixel by pixel."""
    values = picture[:, :, 0].astype(int)
    height, width = values.shape
    laplacians, squares = [], []
    for row in range(height):
        for column in range(width):

            def at(down: int, right: int, row: int = row, column: int = column) -> int:
                """A neighbour; the border is mirrored without being repeated."""
                i, j = abs(row + down), abs(column + right)
                return int(values[min(i, 2 * height - 2 - i), min(j, 2 * width - 2 - j)])

            laplacians.append(at(-1, 0) + at(1, 0) + at(0, -1) + at(0, 1) - 4 * at(0, 0))
            along_x = sum(weight * (at(i, 1) - at(i, -1)) for i, weight in ((-1, 1), (0, 2), (1, 1)))
            along_y = sum(weight * (at(1, j) - at(-1, j)) for j, weight in ((-1, 1), (0, 2), (1, 1)))
            squares.append(along_x**2 + along_y**2)
    return float(values.mean()), float(values.std()), float(np.var(laplacians)), np.array(squares, dtype=float)


@pytest.mark.parametrize(("low", "high"), [(0, 256), (90, 110), (120, 123), (0, 90)])
def test_both_rules_equal_the_slow_loops(low, high):
    picture = grey(cv2.blur(np.random.default_rng(low).integers(low, high, (20, 17), np.uint8), (2, 2)))
    mean, deviation, laplacian, squares = slow_moments(picture)
    paper, released = measure_quality(picture), measure_quality(picture, "released")
    assert paper.sharpness == pytest.approx(min(laplacian / 100, 1), rel=1e-5)
    assert paper.blur == pytest.approx(0.6 * min(laplacian / 100, 1) + 0.4 * min(squares.mean() / 2500, 1), rel=1e-5)
    sharpness = 0.7 * laplacian + 0.3 * np.sqrt(squares).mean()
    blur = (0.6 * laplacian + 0.4 * squares.var()) / 1000
    assert released.sharpness == pytest.approx(min(sharpness / 100, 1), rel=1e-5)
    assert released.blur == pytest.approx(min(blur / 100, 1), rel=1e-5)
    for found in (paper, released):
        assert found.contrast == pytest.approx(min(deviation / 50, 1), rel=1e-5)
        assert found.brightness == pytest.approx(1 - abs(mean - 128) / 128 if 40 <= mean <= 220 else 0.0, rel=1e-5)
        parts = 0.35 * found.sharpness + 0.25 * found.contrast + 0.20 * found.brightness + 0.20 * found.blur
        assert found.score == pytest.approx(parts)


def test_released_stripes_worked_out_by_hand():
    # Columns of 100, 100, 110, 110: gradients of 40 everywhere but in the outer columns, a Laplacian of +-10.
    picture = grey(np.tile(np.tile([100, 100, 110, 110], 100), (8, 1)))
    found = measure_quality(picture, "released")
    edge = 2 / 400  # share of the outer columns, where both are 0
    assert found.sharpness == pytest.approx((0.7 * 100 + 0.3 * 40) * (1 - edge) / 100, rel=1e-4)
    spread = 1600**2 * edge * (1 - edge)
    assert found.blur == pytest.approx((0.6 * 100 + 0.4 * spread) / 1000 / 100, rel=1e-3)
    assert found.contrast == pytest.approx(5 / 50)
    assert found.brightness == pytest.approx(1 - 23 / 128)


def stripes(low: int, high: int) -> np.ndarray:
    """Two columns of one grey level, two of the other, over the left half; the right half is their mean."""
    columns = np.full(256, (low + high) // 2)
    columns[:128] = np.tile([low, low, high, high], 32)
    return grey(np.tile(columns, (64, 1)))


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (stripes(60, 200), ""),
        (grey(np.full((64, 64), 128)), "score is 0.200, below 0.6"),
        (stripes(0, 70), "mean grey level is 35.0, outside 40 to 220"),
        (stripes(190, 255), "mean grey level is 222.2, outside 40 to 220"),
        (stripes(108, 148), "contrast is 14.1, not above 15"),
        (stripes(126, 130), "score is"),
    ],
)
def test_the_released_rule_has_its_limits(picture, words):
    assert measure_quality(picture, "released").refused.startswith(words)
    assert bool(measure_quality(picture, "released").refused) == bool(words)


def test_the_released_rule_refuses_blur_of_a_high_score():
    # Gradients of 160 everywhere but in two of 20,000 columns have hardly any variance; the Laplacian's is 1600.
    found = measure_quality(grey(np.tile(np.tile([108, 108, 148, 148], 5000), (2, 1))), "released")
    blur = (0.6 * 1600 + 0.4 * 25600**2 * 1e-4) / 1000
    assert found.blur == pytest.approx(blur / 100, rel=1e-3)
    assert found.score == pytest.approx(0.35 + 0.25 * 20 / 50 + 0.2 + 0.2 * blur / 100, rel=1e-3)
    assert found.refused == f"measure of blur is {blur:.1f}, not above 80"


def test_the_papers_rule_keeps_what_is_above_its_limit():
    assert measure_quality(photograph()).refused == ""
    assert measure_quality(grey(np.full((8, 8), 128))).refused == "score is 0.200, not above 0.65"
    scores = [measure_quality(cv2.GaussianBlur(photograph(), (0, 0), s)) for s in np.linspace(1, 6, 20)]
    assert {bool(found.refused) for found in scores} == {True, False}
    assert all(bool(found.refused) == (found.score <= KEEP_ABOVE) for found in scores)


@pytest.mark.parametrize("rule", ["paper", "released"])
def test_a_part_is_measured_as_if_it_were_alone(rule):
    whole = photograph()
    part = np.zeros(whole.shape[:2], np.uint8)
    part[40:200, 60:220] = 1
    black = np.where(part[:, :, None] > 0, whole, 0)
    found, alone = measure_quality(whole, rule, part), measure_quality(whole[40:200, 60:220], rule)
    assert (found.contrast, found.brightness) == (alone.contrast, alone.brightness)
    assert found.score == pytest.approx(alone.score, abs=0.01)
    shrunk = cv2.erode(part, np.ones((3, 3), np.uint8))
    assert measure_quality(black, rule, shrunk) == measure_quality(whole, rule, shrunk)
    assert measure_quality(whole, rule, np.zeros_like(part)) == measure_quality(whole, rule)

"""The realism check: statistics that mean what they say, shifts and areas worked by hand, and a discriminant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scripts.realism import STATISTICS, Measured, area, compared, measured, shift, transfer

NAMES = list(STATISTICS)


def stats(picture: np.ndarray) -> dict[str, float]:
    return dict(zip(NAMES, measured([picture])[0], strict=True))


def textured(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 190, (32, 32, 3), dtype=np.uint8)


def soft(picture: np.ndarray) -> np.ndarray:
    padded = np.pad(picture.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    return (sum(padded[y : y + 32, x : x + 32] for y in range(3) for x in range(3)) / 9).astype(np.uint8)


def test_a_flat_picture():
    found = stats(np.full((32, 32, 3), (204, 102, 51), dtype=np.uint8))
    assert found["brightness"] == pytest.approx(0.2126 * 0 + 0.299 * 0.8 + 0.587 * 0.4 + 0.114 * 0.2)
    assert found["contrast"] == pytest.approx(0.0, abs=1e-9)
    assert found["saturation"] == pytest.approx(0.75)
    assert found["warmth"] == pytest.approx(np.log(0.801 / 0.201))
    assert found["colours"] == pytest.approx(np.log(1))
    assert (found["shadows"], found["highlights"], found["shading"]) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)


def test_statistics_go_where_their_names_say():
    sharp, blurred = stats(textured()), stats(soft(textured()))
    for name in ("fine_detail", "noise", "contrast", "colours"):
        assert blurred[name] < sharp[name]
    assert blurred["blur"] > sharp["blur"]
    assert blurred["coarse_detail"] > sharp["coarse_detail"]  # over the contrast, of which more is left
    stripes = textured()
    stripes[::2] //= 2
    assert stats(stripes)["regularity"] > sharp["regularity"] + 0.2
    assert stats(stripes)["peak"] > sharp["peak"] + 0.5
    lit = textured()
    lit[:16] //= 3
    assert stats(lit)["shading"] > sharp["shading"] + 0.2
    assert stats(lit // 3)["shadows"] > 0.4
    assert stats(np.full_like(lit, 240))["highlights"] == 1.0
    grey = np.repeat(textured()[..., :1], 3, axis=2)
    assert stats(grey)["colour_detail"] < sharp["colour_detail"] - 1


def test_shift_and_area_by_hand():
    live, attack = np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]])
    assert shift(live, attack) == pytest.approx([3.0])
    assert shift(attack, live) == pytest.approx([-3.0])
    assert area(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert area(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0.5


def faces(offset: float, seed: int, owners: int = 2) -> Measured:
    """Forty faces an owner; attacks are shifted in the first statistic, against the second."""
    rng = np.random.default_rng(seed)
    labels = np.tile([1, 0], 20 * owners)
    values = rng.standard_normal((len(labels), len(NAMES)))
    values[labels == 0, :2] += (offset, -offset)
    kinds = np.where(labels == 1, "none", np.where(np.arange(len(labels)) % 4 == 1, "print", "replay"))
    return Measured(values, labels, kinds, np.repeat([f"p{n}" for n in range(owners)], 40))


def test_a_simulation_is_compared_with_persons():
    rows = compared(faces(2.0, 0), faces(1.5, 1))
    assert [row["statistic"] for row in rows] == NAMES
    assert [(row["sign"], row["real"] > 0) for row in rows[:2]] == [("same", True), ("same", False)]
    assert rows[0]["AUC alone"] > 0.85
    assert compared(faces(-2.0, 0), faces(1.5, 1))[0]["sign"] == "other"
    one = compared(faces(1.5, 1), faces(1.5, 1, 1), "print")
    assert all("to" in row["persons"] for row in one)
    nobody = replace(faces(1.5, 1), owners=np.arange(80).astype(str))
    assert {row["among persons"] for row in compared(faces(1.5, 1), nobody)} == {"–"}


def test_a_discriminant_tells_attacks_that_are_alike_and_no_others():
    assert transfer(faces(2.0, 0), faces(2.0, 1)) > 0.95
    assert transfer(faces(2.0, 0), faces(-2.0, 1)) < 0.05
    assert transfer(faces(2.0, 0), faces(2.0, 1), "print") > 0.95

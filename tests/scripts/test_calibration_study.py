"""The study of calibration on made-up faces: who is in the fit, who is judged, and what stands in the tables."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.calibrating.own import _calibrate, _Group, _one_person, _unseen
from scripts.calibrating.seen import Seen
from scripts.calibrating.trials import Means

PERSONS, LIVE, ATTACKS = 6, 30, 12


def made_up(attack_features: float, attack_odds: float) -> Seen:
    """Live faces around the origin; attacks moved by so many deviations in features, or in the score."""
    random, each = np.random.default_rng(3), LIVE + ATTACKS
    live = np.tile(np.arange(each) < LIVE, PERSONS)
    features = random.normal(size=(PERSONS * each, 4)) + np.where(live, 0, attack_features)[:, None]
    odds = random.normal(size=PERSONS * each) - np.where(live, 0, attack_odds)
    persons = np.repeat([f"p{number}" for number in range(PERSONS)], each)
    return Seen(odds, 1 / (1 + np.exp(-odds)), features, persons, np.full(len(live), "1"), live)


def row_of(faces: Seen) -> tuple[dict, dict]:
    group = _Group()
    _calibrate(group, faces, 0.5)
    _calibrate(group, faces, 0.5)  # another seed
    groups = {("run", "oanet", "cue"): group}
    (unseen,), (one,) = _unseen(groups).rows, _one_person(groups).rows  # type: ignore[dict-item]
    return unseen, one


def number(cell: str) -> float:
    return float(cell.split()[0])


def test_a_distance_that_tells_attacks_adds_to_a_score_that_does_not():
    unseen, one = row_of(made_up(attack_features=3.0, attack_odds=0.0))
    assert (unseen["run"], unseen["detector"], unseen["seeds"], unseen["features"]) == ("run", "oanet", 2, "cue")
    assert number(unseen["AUC score"]) < 60 < 95 < number(unseen["AUC distance"])
    gain = number(unseen["AUC both"]) - number(unseen["AUC score"])
    assert number(unseen["both - score"]) == pytest.approx(gain, abs=0.11)
    assert gain > 25
    assert number(unseen["APCER: head"]) < number(unseen["APCER: threshold alone"])
    assert number(one["AUC distance"]) > 90


def test_a_distance_that_tells_nothing_does_harm_and_is_said():
    unseen, one = row_of(made_up(attack_features=0.0, attack_odds=3.0))
    assert number(unseen["AUC score"]) > 95
    assert number(unseen["both - score"]) < 0
    assert 30 < number(one["AUC distance"]) < 70


def test_persons_not_calibrations_are_drawn():
    means = Means({"a": {"x": [0.0, 0.2]}, "b": {"x": [0.5]}}, {})
    mean, (low, high) = means.mean("x")
    assert mean == pytest.approx(0.3)
    assert (low, high) == pytest.approx((0.1, 0.5))

"""Exact intervals: against published values, their coverage by enumeration, and where they replace the bootstrap."""

from __future__ import annotations

from itertools import product
from math import comb, prod

import numpy as np
import pytest
from score_tables import make_table

from pipelines.evaluation.bootstrap import BOOTSTRAP_METRICS, intervals
from pipelines.evaluation.exact import Tallies, Tally, difference_ends, few_videos, mean_ends, mean_tallies, tally
from pipelines.evaluation.scores import ScoreTable


def few(live: int, attacks: int, wrong_live: int = 0, wrong_attacks: int = 0) -> ScoreTable:
    """Videos at scores 0.9 (accepted) and 0.1 (rejected)."""
    right = live - wrong_live, attacks - wrong_attacks
    scores = np.repeat([0.1, 0.9, 0.9, 0.1], [wrong_live, right[0], wrong_attacks, right[1]])
    kinds = ["none"] * live + ["print"] * attacks
    return make_table(np.repeat([1, 0], [live, attacks]), scores, attack_type=kinds)


@pytest.mark.parametrize(
    ("errors", "count", "low", "high"),
    [(0, 1, 0, 0.975), (1, 1, 0.025, 1), (0, 10, 0, 0.3085), (1, 10, 0.0025, 0.4450), (10, 20, 0.2720, 0.7280)],
)
def test_clopper_and_pearsons_interval(errors, count, low, high):
    assert Tally(errors, count).ends() == pytest.approx((low, high), abs=5e-5)


def chance(errors: int, count: int, rate: float) -> float:
    return comb(count, errors) * rate**errors * (1 - rate) ** (count - errors)


def of(live: Tally, attacks: Tally) -> Tallies:
    return Tallies(live, attacks, {"print": attacks}, 0.5)


@pytest.mark.parametrize("counts", [(1, 1), (1, 12), (3, 40), (5, 5), (12, 12), (29, 29)])
def test_half_total_error_rate_is_covered_at_least_as_often_as_it_says(counts):
    """Every outcome of live and attack videos, weighed by its probability: no draws."""
    outcomes = list(product(*(range(count + 1) for count in counts)))
    ends = {errors: of(*map(Tally, errors, counts)).ends("hter") for errors in outcomes}
    for rates in ((0.0, 0.0), (0.01, 0.3), (0.1, 0.1), (0.3, 0.5), (0.5, 0.02), (0.9, 0.4)):
        covered = sum(
            prod(map(chance, errors, counts, rates))
            for errors, (low, high) in ends.items()
            if low - 1e-12 <= sum(rates) / 2 <= high + 1e-12
        )
        assert covered >= 0.95, rates


@pytest.mark.parametrize("count", [5, 12])
def test_mean_over_four_targets_is_covered_as_often_as_it_says(count):
    generator, rates = np.random.default_rng(0), (0.1, 0.05)
    outcomes = list(product(range(count + 1), repeat=2))
    known = {errors: of(*(Tally(each, count) for each in errors)) for errors in outcomes}
    parts = {errors: (found.value("hter"), found.ends("hter")) for errors, found in known.items()}
    drawn = generator.binomial(count, rates, (600, 4, 2)).tolist()
    ends = [mean_ends([parts[tuple(target)] for target in targets]) for targets in drawn]
    assert np.mean([low <= sum(rates) / 2 <= high for low, high in ends]) >= 0.95


def test_one_live_video_is_no_certainty():
    ends = intervals(few(live=1, attacks=40), 0.5, BOOTSTRAP_METRICS, 50)
    assert ends["bpcer"] == pytest.approx((0, 0.975))
    root = 0.95**0.5
    assert ends["hter"] == pytest.approx((0, (Tally(0, 1).ends(root)[1] + Tally(0, 40).ends(root)[1]) / 2))
    assert ends["auc"] == pytest.approx((0.025, 1))
    for name, (low, high) in ends.items():
        assert high - low > 0.05, name


def test_no_rate_without_an_error_has_no_width():
    ends = intervals(few(live=200, attacks=300), 0.5, BOOTSTRAP_METRICS, 50)
    assert ends["bpcer"] == pytest.approx((0, 1 - 0.025 ** (1 / 200)))
    assert ends["far"] == pytest.approx((0, 1 - 0.025 ** (1 / 300)))
    assert all(high > low for low, high in ends.values())


def test_bootstrap_stays_where_there_are_enough_videos_and_errors():
    generator = np.random.default_rng(0)
    table = make_table(np.repeat([0, 1], 80), generator.normal(size=160) + np.repeat([0, 1.2], 80))
    found = tally(table.by_video(), 0.6)
    assert not found.few("hter")
    assert intervals(table, 0.6, ["hter"], 200)["hter"] != pytest.approx(found.ends("hter"), abs=1e-4)


def test_the_worst_of_several_attacks_is_covered_by_the_highest_ends():
    kinds = ["none"] * 40 + ["print"] * 20 + ["mask"] * 4
    scores = np.array([0.9] * 40 + [0.9] * 2 + [0.1] * 18 + [0.1] * 4)
    found = tally(make_table(np.repeat([1, 0], [40, 24]), scores, attack_type=kinds).by_video(), 0.5)
    assert found.value("apcer") == pytest.approx(0.1)
    low, high = found.ends("apcer")
    assert low < Tally(2, 20).ends()[0] < 0.1
    assert high == pytest.approx(Tally(0, 4).ends()[1])  # of masks hardly anything is known


def test_videos_of_one_subject_count_once_by_subject():
    table = few(live=12, attacks=12, wrong_live=6)
    columns = {name: getattr(table, name) for name in ("key", "video", "domain", "attack_type", "label", "score")}
    people = ScoreTable(**columns, subject=np.array([f"s{place // 6}" for place in range(24)]))
    found = tally(people.by_video(), 0.5, "subject")
    assert (found.live, found.attacks) == (Tally(1, 2), Tally(0, 2))


ENOUGH = Tally(5, 30)
"""The fewest videos and errors whose bootstrap says something."""


@pytest.mark.parametrize(
    ("found", "few"),
    [
        (Tallies(ENOUGH, ENOUGH, {"print": ENOUGH}, 0.8), ""),
        (Tallies(Tally(25, 30), Tally(25, 30), {"print": Tally(25, 30)}, 0.8), ""),
        (Tallies(Tally(5, 29), ENOUGH, {"print": ENOUGH}, 0.8), "bpcer hter eer acer auc"),
        (Tallies(Tally(4.9, 30), ENOUGH, {"print": ENOUGH}, 0.8), "bpcer hter eer acer"),
        (Tallies(Tally(26, 30), ENOUGH, {"print": ENOUGH}, 0.8), "bpcer hter eer acer"),
        (Tallies(ENOUGH, Tally(5, 29), {"print": ENOUGH}, 0.8), "far hter eer auc"),
        (Tallies(ENOUGH, ENOUGH, {"print": ENOUGH, "mask": Tally(4, 30)}, 0.8), "apcer acer"),
    ],
)
def test_an_interval_is_exact_where_what_it_is_made_of_is_few(found, few):
    assert {name for name in BOOTSTRAP_METRICS if found.few(name)} == set(few.split())


def test_every_metric_and_its_ends_by_hand():
    live, attacks, kinds = Tally(1, 10), Tally(4, 20), {"mask": Tally(3, 10), "print": Tally(1, 10)}
    found = Tallies(live, attacks, kinds, 0.75)
    values = {"bpcer": 0.1, "far": 0.2, "apcer": 0.3, "auc": 0.75, "hter": 0.15, "eer": 0.15, "acer": 0.2}
    assert {name: found.value(name) for name in values} == pytest.approx(values)
    root = 0.9**0.5
    worst = {level: (Tally(3, 10).ends(1 - (1 - level) / 2)[0], Tally(3, 10).ends(level)[1]) for level in (0.9, root)}
    halves = [live.ends(root), attacks.ends(root), worst[root]]
    expected = {
        "bpcer": live.ends(0.9),
        "far": attacks.ends(0.9),
        "apcer": worst[0.9],
        "auc": Tally(7.5, 10).ends(0.9),
        "hter": tuple((a + b) / 2 for a, b in zip(halves[0], halves[1], strict=True)),
        "acer": tuple((a + b) / 2 for a, b in zip(halves[0], halves[2], strict=True)),
    }
    expected["eer"] = expected["hter"]
    for name, ends in expected.items():
        assert found.ends(name, 0.9) == pytest.approx(ends), name
    assert found.ends("far") == attacks.ends(0.95) != attacks.ends(0.9)


def test_what_is_tallied_of_a_table_by_hand():
    kinds = ["none"] * 4 + ["print"] * 4 + ["mask"] * 2
    scores = [0.1, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.9, 0.1]
    table = make_table([1] * 4 + [0] * 6, scores, attack_type=kinds)
    # Of 24 pairs the live video wins 12 and ties in 6 + 4.
    expected = Tallies(Tally(1, 4), Tally(2, 6), {"mask": Tally(1, 2), "print": Tally(1, 4)}, 17 / 24)
    assert tally(table.by_video(), 0.5) == expected
    assert tally(table.by_video(), 0.9) == expected  # a score at the threshold is accepted
    people = make_table(
        [1, 1, 0, 0], [0.9, 0.1, 0.9, 0.1], domain=["x", "y", "x", "x"], subject=["s"] * 4, video=list("abcd")
    )
    found = tally(people.by_video(), 0.5, "subject")
    assert (found.live, found.attacks) == (Tally(1, 2), Tally(0.5, 1))  # `s` of x is another person than `s` of y


def test_means_over_seeds_and_targets_by_hand():
    one = Tallies(Tally(1, 10), Tally(4, 20), {"mask": Tally(3, 10), "print": Tally(1, 10)}, 0.7)
    other = Tallies(Tally(2, 10), Tally(2, 20), {"mask": Tally(0, 10), "print": Tally(2, 10)}, 0.8)
    assert mean_tallies([one, other]) == Tallies(
        Tally(1.5, 10), Tally(3, 20), {"mask": Tally(1.5, 10), "print": Tally(1.5, 10)}, 0.75
    )
    low, high = mean_ends([(0.1, (0.05, 0.2)), (0.3, (0.2, 0.5))])
    assert (low, high) == pytest.approx((0.2 - 0.0125**0.5 / 2, 0.2 + 0.05**0.5 / 2))
    assert mean_ends([(0.1, (-1.0, 2.0)), (0.9, (0.9, 0.9))]) == (0.0, 1.0)


def test_seeds_share_their_videos():
    found = [tally(few(10, 10, wrong).by_video(), 0.5) for wrong in (0, 1)]
    assert mean_tallies(found).live == Tally(0.5, 10)
    low, high = mean_tallies(found).live.ends()
    assert 0 < low < Tally(1, 10).ends()[0]
    assert Tally(0, 10).ends()[1] < high < Tally(1, 10).ends()[1]


def test_differences_and_warnings():
    assert difference_ends((0.5, (0.4, 0.6)), (0.2, (0.1, 0.3))) == pytest.approx((0.3 - 0.02**0.5, 0.3 + 0.02**0.5))
    assert few_videos({"phone": (30, 30)}) == ""
    words = few_videos({"phone": (1, 30), "kiosk": (40, 29), "": (30, 99)})
    assert words.startswith("Few test videos: phone 1 live, kiosk 29 attack. Below 30 of a class")

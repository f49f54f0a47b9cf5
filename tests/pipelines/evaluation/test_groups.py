"""Error rates by demographic group: planted differences are found, chance and small groups are not taken for them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from score_tables import make_table

from pipelines.errors import AgfasError
from pipelines.evaluation.groups import age_group, differentials, wilson


def planted(rates: dict[str, float], subjects: int = 60, videos: int = 2, label: int = 1, seed: int = 0):
    """A table in which a share of every group's persons is decided wrongly, and the group of each row."""
    generator = np.random.default_rng(seed)
    names, scores, groups = [], [], []
    for group, rate in rates.items():
        wrong = generator.permutation(subjects) < rate * subjects
        for person in range(subjects):
            for _ in range(videos):
                names.append(f"{group}{person}")
                scores.append(0.2 if wrong[person] == (label == 1) else 0.8)
                groups.append(group)
    return make_table([label] * len(scores), scores, subject=names), np.array(groups)


def test_a_planted_difference_is_found_with_its_size():
    table, groups = planted({"female": 0.05, "male": 0.30})
    (found,) = differentials(table, 0.5, groups)
    assert (found.measure, found.unknown) == ("BPCER", 0)
    assert all(rate.enough for rate in found.rates)
    female, male = found.rates
    assert (female.rate, male.rate, male.subjects, male.videos) == (0.05, pytest.approx(0.3), 60, 120)
    gap = found.gap
    assert (gap.best, gap.worst, gap.gap) == ("female", "male", pytest.approx(0.25))
    assert gap.ratio == pytest.approx(6)
    # Newcombe's interval: the distances of both rates from their nearer and farther ends, squared and added.
    assert gap.low == pytest.approx(0.25 - np.hypot(male.rate - male.low, female.high - female.rate))
    assert gap.high == pytest.approx(0.25 + np.hypot(male.high - male.rate, female.rate - female.low))
    assert gap.p == 1 / 1001  # none of 1000 permutations, and the one that was observed


def test_equal_groups_have_a_gap_that_chance_explains():
    by_chance = []
    for seed in range(8):
        generator = np.random.default_rng(seed)
        table = make_table([1] * 150, generator.random(150))
        (found,) = differentials(table, 0.2, np.repeat(["a", "b", "c"], 50), seed=seed)
        by_chance.append(found.gap.p)
    assert np.mean(np.array(by_chance) < 0.05) <= 0.25
    assert np.median(by_chance) > 0.2


def test_videos_of_one_person_do_not_narrow_the_interval():
    one, groups_one = planted({"a": 0.2, "b": 0.2}, videos=1)
    many, groups_many = planted({"a": 0.2, "b": 0.2}, videos=9)
    first, second = (differentials(t, 0.5, g)[0].rates[0] for t, g in ((one, groups_one), (many, groups_many)))
    assert (first.low, first.high) == pytest.approx((second.low, second.high))
    assert second.videos == 9 * first.videos


def test_small_groups_are_named_and_not_compared():
    big, groups = planted({"a": 0.1, "b": 0.2})
    small, few = planted({"c": 1.0}, subjects=5)
    columns = {name: [*getattr(big, name), *getattr(small, name)] for name in ("subject", "score", "label")}
    table = make_table(columns["label"], columns["score"], subject=columns["subject"])
    (found,) = differentials(table, 0.5, [*groups, *few])
    assert [rate.group for rate in found.rates if not rate.enough] == ["c"]
    assert (found.gap.best, found.gap.worst) == ("a", "b")
    assert found.rates[2].low < 0.6
    (alone,) = differentials(small, 0.5, few)
    assert alone.gap is None


def test_thirty_subjects_are_enough_and_no_interval_leaves_its_range():
    names = [f"a{place}" for place in range(30)] + [f"b{place}" for place in range(30)]
    table = make_table([1] * 60, [0.8] * 30 + [0.2] * 30, subject=names)
    groups = ["a"] * 30 + ["b"] * 30
    (found,) = differentials(table, 0.5, groups)
    assert [rate.enough for rate in found.rates] == [True, True]
    assert [(rate.errors, rate.low, rate.high) for rate in found.rates] == [(0, *wilson(0, 30)), (30, *wilson(30, 30))]
    assert (found.gap.gap, found.gap.high, found.gap.ratio) == (1.0, 1.0, None)
    few = table.where(np.arange(60) != 59)
    assert [rate.enough for rate in differentials(few, 0.5, groups[:59])[0].rates] == [True, False]
    (equal,) = differentials(make_table([1] * 60, [0.2] * 60, subject=names), 0.2001, groups)
    assert (equal.gap.gap, equal.gap.low, equal.gap.p) == (0.0, 0.0, 1.0)


def test_the_draws_are_those_of_seed_0():
    generator = np.random.default_rng(5)
    table, groups = make_table([1] * 90, generator.random(90)), np.repeat(["a", "b", "c"], 30)
    usual, same, other = (differentials(table, 0.3, groups, **seed) for seed in ({}, {"seed": 0}, {"seed": 1}))
    assert usual == same != other
    assert 0.002 < usual[0].gap.p < 0.998


def test_attacks_are_told_apart_from_live_faces_and_unknown_persons_are_counted():
    attacks, groups = planted({"a": 0.1, "b": 0.5}, label=0)
    groups[:2] = ""
    (found,) = differentials(attacks, 0.5, groups)
    assert (found.measure, found.unknown) == ("APCER", 2)
    assert found.gap.worst == "b"
    assert differentials(attacks, 0.5, np.full(len(attacks), "")) == ()


@pytest.mark.parametrize(("errors", "count"), [(0, 10), (3, 40), (40, 40), (17, 200)])
def test_wilson_equals_scipy(errors, count):
    witness = binomtest(errors, count).proportion_ci(method="wilson")
    assert wilson(errors, count) == pytest.approx((witness.low, witness.high), abs=1e-12)


def test_ages_fall_into_bands():
    assert [age_group(age) for age in (-1, 0, 17, 18, 29, 30, 44, 45, 59, 60, 150, 151)] == [
        "", "0-17", "0-17", "18-29", "18-29", "30-44", "30-44", "45-59", "45-59", "60+", "60+", "",
    ]  # fmt: skip


def test_mistakes():
    table = make_table([1, 1], [0.1, 0.2], subject=["ann", "ann"])
    with pytest.raises(AgfasError, match="'d/ann' is in the groups 'f' and 'm'"):
        differentials(table, 0.5, ["f", "m"])
    with pytest.raises(AgfasError, match="a group each"):
        differentials(table, 0.5, ["f"])

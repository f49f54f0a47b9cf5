"""Statistics over seeds and targets: worked examples, slow witnesses, and cases that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipelines.errors import AgfasError
from pipelines.evaluation.statistics import (
    Pair,
    holm,
    in_words,
    one_way_anova,
    pairwise_tests,
    runs_of_equals,
    summarise,
)


def keyed(*values):
    return dict(enumerate(values))


def test_anova_equals_sums_of_squares():
    groups = {"a": [1.0, 2.0, 3.0], "b": [2.0, 4.0], "c": [5.0, 6.0, 9.0, 8.0]}
    everything = np.concatenate(list(groups.values()))
    between = sum(len(g) * (np.mean(g) - everything.mean()) ** 2 for g in groups.values()) / 2
    within = sum(np.sum((np.array(g) - np.mean(g)) ** 2) for g in groups.values()) / 6
    found = one_way_anova(groups)
    assert found.f == pytest.approx(between / within)
    assert found.p == pytest.approx(stats.f.sf(between / within, 2, 6))
    assert (found.between, found.within) == (2, 6)


@pytest.mark.parametrize(
    "groups", [{}, {"a": [1.0, 2.0]}, {"a": [1.0], "b": [2.0]}, {"a": [1.0, 1.0], "b": [2.0, 2.0]}]
)
def test_anova_that_is_not_defined_is_none(groups):
    assert one_way_anova(groups) is None


def test_a_paired_test_uses_what_both_have():
    one = {0: 0.10, 1: 0.30, 2: 0.52, 7: 0.9}
    other = {0: 0.08, 1: 0.26, 2: 0.49, 9: 0.1}
    (pair,) = pairwise_tests({"one": one, "other": other})
    differences = np.array([0.02, 0.04, 0.03])
    t = differences.mean() / (differences.std(ddof=1) / np.sqrt(3))
    assert (pair.count, pair.difference, pair.t) == (3, pytest.approx(0.03), pytest.approx(t))
    assert pair.p == pytest.approx(2 * stats.t.sf(t, 2))
    assert pair.p_holm == pair.p


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_keeps_the_chance_of_any_false_alarm_at_five_per_cent():
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(80):
        groups = {name: dict(enumerate(generator.normal(size=8))) for name in "abcd"}
        alarms += any(pair.differs for pair in pairwise_tests(groups))
    assert alarms / 80 < 0.11


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [(keyed(0.1), keyed(0.2), None), (keyed(0.1, 0.2), keyed(0.1, 0.2), 1.0), (keyed(0.3, 0.4), keyed(0.1, 0.2), None)],
)
def test_pairs_without_spread_say_nothing_or_are_equal(first, second, p):
    (pair,) = pairwise_tests({"a": first, "b": second})
    assert pair.p == p
    assert not pair.differs


def test_five_per_cent_is_the_level_and_a_billionth_of_a_point_is_a_difference():
    assert [Pair("a", "b", 9, 0.1, 2.0, 0.01, p).differs for p in (0.0499, 0.05, 0.06)] == [True, False, False]
    (pair,) = pairwise_tests({"a": keyed(0.0, 1.2e-12), "b": keyed(0.0, 0.0)})
    assert pair.p == pytest.approx(0.5)
    (single,) = pairwise_tests({"a": keyed(0.1), "b": keyed(0.1)})
    assert (single.count, single.difference, single.t, single.p) == (1, 0.0, None, None)


def test_runs_are_the_bars_of_a_critical_difference_diagram():
    apart = [("a", "c"), ("a", "d"), ("b", "d")]
    pairs = [Pair(one, other, 9, -0.1, -3.0, 0.001, 0.01) for one, other in apart]
    assert runs_of_equals(["a", "b", "c", "d"], pairs) == [("a", "b"), ("b", "c"), ("c", "d")]
    assert runs_of_equals(["a", "b", "c", "d"], []) == [("a", "b", "c", "d")]


def test_words_say_who_is_better_and_whose_order_may_be_chance():
    noise = np.array([0.0, 0.01, -0.01, 0.005, -0.005, 0.002])
    base = np.linspace(0.1, 0.4, 6)
    groups = {
        "good": dict(enumerate(base)),
        "same": dict(enumerate(base + noise)),
        "bad": dict(enumerate(base + 0.2 + noise[::-1])),
    }
    means = {name: float(np.mean(list(values.values()))) for name, values in groups.items()}
    words = in_words(means, pairwise_tests(groups))
    assert words[0].startswith("good and bad differ by 20.0 points in favour of good (6 paired results")
    assert words[-1] == "No significant difference, so their order may be chance: good (25.0 %), same (25.0 %)"
    # By their means, whatever order they come in; of equal means by name.
    shuffled = {name: means[name] for name in ("same", "bad", "good")}
    assert in_words(shuffled, pairwise_tests(groups)) == words
    (run,) = in_words({"c": 0.2, "b": 0.3, "a": 0.2}, [])
    assert run.endswith("chance: a (20.0 %), c (20.0 %), b (30.0 %)")
    assert (
        "More seeds would allow it"
        in in_words({"a": 0.1, "b": 0.2}, pairwise_tests({"a": {0: 0.1}, "b": {0: 0.2}}))[-1]
    )


def test_summaries():
    assert summarise([0.1, 0.3]).deviation == pytest.approx(np.sqrt(0.02))
    assert summarise([0.1]).deviation == 0
    with pytest.raises(AgfasError, match="no value"):
        summarise([])

"""Are detectors told apart? Analysis of variance and paired t-tests over seeds and targets, in words as well.

An observation is one error rate: of one detector, one seed and one target. The bootstrap over videos (`bootstrap`)
says how far a number moves with other captures; these tests say how far with other seeds and targets.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from pipelines.errors import AgfasError

LEVEL = 0.05
_SAME = 1e-12
Observations = Mapping[Any, float]


@dataclass(frozen=True)
class Summary:
    """Mean of observations; deviation is that of a sample (n - 1), 0 for a single one."""

    count: int
    mean: float
    deviation: float


@dataclass(frozen=True)
class Anova:
    """One-way analysis of variance.

    Attributes:
        f: the ratio of the variance between groups to that within them.
        p: chance of so large an F where all groups have the same mean.
        between, within: degrees of freedom.
    """

    f: float
    p: float
    between: int
    within: int


@dataclass(frozen=True)
class Pair:
    """A paired t-test of two groups on the keys that both have.

    Attributes:
        first, second: names.
        count: shared keys.
        difference: mean of first minus second.
        t, p: None where the test says nothing: fewer than two shared keys, or differences that are all the same.
        p_holm: p after Holm's correction over all pairs that were tested.
    """

    first: str
    second: str
    count: int
    difference: float
    t: float | None
    p: float | None
    p_holm: float | None = None

    @property
    def differs(self) -> bool:
        """Whether the two are told apart at 5 % over all pairs together."""
        return self.p_holm is not None and self.p_holm < LEVEL


def summarise(values: Sequence[float]) -> Summary:
    """Mean and deviation.

    Raises:
        AgfasError: there is no value.
    """
    if not len(values):
        raise AgfasError("There is no value to average. Run `agfas evaluate` first.")
    return Summary(len(values), float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)


def one_way_anova(groups: Mapping[str, Sequence[float]]) -> Anova | None:
    """Do the groups' means differ more than their spread explains?

    It takes observations for independent, which those of one target are not: a large p therefore proves little where
    targets differ much, and the paired tests are the sharper ones.

    Returns:
        None where it is not defined: fewer than two groups, no group of two observations, or no spread within groups.
    """
    values = [np.asarray(group, dtype=np.float64) for group in groups.values() if len(group)]
    total = sum(map(len, values))
    if len(values) < 2 or total <= len(values) or all(np.ptp(group) <= _SAME for group in values):
        return None
    f, p = stats.f_oneway(*values)
    return Anova(float(f), float(p), len(values) - 1, total - len(values))


def pairwise_tests(groups: Mapping[str, Observations]) -> list[Pair]:
    """A paired t-test for every two groups, on the keys that both have, with Holm's correction over all of them.

    Args:
        groups: by name, observations by key, such as (seed, target). What a key's target has of its own, hard videos
            for example, cancels.
    """
    pairs = [_paired(one, other, groups[one], groups[other]) for one, other in itertools.combinations(groups, 2)]
    tested = [place for place, pair in enumerate(pairs) if pair.p is not None]
    corrected = dict(zip(tested, holm([pair.p for pair in pairs if pair.p is not None]), strict=True))
    return [
        Pair(pair.first, pair.second, pair.count, pair.difference, pair.t, pair.p, corrected.get(place))
        for place, pair in enumerate(pairs)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): the smallest times n, the next times n - 1, ..., never falling, at most 1."""
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable").tolist()):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def runs_of_equals(order: Sequence[str], pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    """The longest stretches of `order` in which no two are told apart: the bars of a critical-difference diagram.

    Args:
        order: names by rising mean.
        pairs: of `pairwise_tests`.
    """
    differ = {frozenset((pair.first, pair.second)) for pair in pairs if pair.differs}
    runs: list[tuple[str, ...]] = []
    for start in range(len(order)):
        end = start + 1
        while end < len(order) and not any(frozenset((name, order[end])) in differ for name in order[start:end]):
            end += 1
        if end - start > 1 and not (runs and set(order[start:end]) <= set(runs[-1])):
            runs.append(tuple(order[start:end]))
    return runs


def in_words(means: Mapping[str, float], pairs: Sequence[Pair]) -> list[str]:
    """What the tests allow to be said, as sentences: who is told apart, and whose order may be chance.

    Args:
        means: of the error rate by name, in [0, 1]; lower is better.
        pairs: of `pairwise_tests`.
    """
    order = sorted(means, key=lambda name: (means[name], name))
    sentences = [
        f"{pair.first} and {pair.second} differ by {100 * abs(pair.difference):.1f} points"
        f" in favour of {pair.first if pair.difference < 0 else pair.second}"
        f" ({pair.count} paired results, corrected p = {pair.p_holm:.3g})"
        for pair in pairs
        if pair.differs
    ]
    for run in runs_of_equals(order, pairs):
        named = ", ".join(f"{name} ({100 * means[name]:.1f} %)" for name in run)
        sentences.append(f"These are not told apart, so their order may be chance: {named}")
    untested = [pair for pair in pairs if pair.p is None]
    if untested:
        sentences.append(
            f"{len(untested)} of {len(pairs)} pairs could not be tested: they share fewer than two results, or every"
            " difference is the same. More seeds would allow it"
        )
    return sentences


def _paired(one: str, other: str, first: Observations, second: Observations) -> Pair:
    keys = [key for key in first if key in second]
    differences = np.array([first[key] - second[key] for key in keys])
    mean = float(differences.mean()) if len(keys) else float("nan")
    if len(keys) < 2:
        return Pair(one, other, len(keys), mean, None, None)
    if np.ptp(differences) <= _SAME:
        # t would be 0 / 0 or infinite: nothing is known of the spread, but equal results are equal.
        equal = abs(mean) <= _SAME
        return Pair(one, other, len(keys), mean, 0.0 if equal else None, 1.0 if equal else None)
    test = stats.ttest_rel([first[key] for key in keys], [second[key] for key in keys])
    return Pair(one, other, len(keys), mean, float(test.statistic), float(test.pvalue))

"""Do detectors differ significantly? Analysis of variance and paired t-tests over seeds and targets, and in words.

An observation is one error rate of one detector, seed and target. The bootstrap over videos (`bootstrap`) estimates
how much a number varies with the captures; these tests, how much it varies with seeds and targets.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipelines.errors import AgfasError

LEVEL = 0.05
_SAME = 1e-12
Observations = Mapping[Any, float]


@dataclass(frozen=True)
class Summary:
    """Number, mean and sample standard deviation (n - 1) of observations; the deviation of a single one is 0."""

    count: int
    mean: float
    deviation: float


@dataclass(frozen=True)
class Anova:
    """One-way analysis of variance.

    Attributes:
        f: ratio of the variance between groups to the variance within them.
        p: probability of an F at least this large if all groups have the same mean.
        between, within: degrees of freedom.
    """

    f: float
    p: float
    between: int
    within: int


@dataclass(frozen=True)
class Pair:
    """A paired t-test of two groups on the keys they share.

    Attributes:
        first, second: names.
        count: shared keys.
        difference: mean of first minus second.
        t, p: None if undefined: fewer than two shared keys, or all differences are equal and not 0.
        p_holm: p after Holm's correction over all tested pairs.
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
        """Whether the two differ at a family-wise error rate of 5 %."""
        return self.p_holm is not None and self.p_holm < LEVEL


def summarise(values: Sequence[float]) -> Summary:
    """Number, mean and standard deviation of some values.

    Raises:
        AgfasError: there is no value.
    """
    if not len(values):
        raise AgfasError("There is no value to average: no experiment is evaluated. Run `agfas evaluate` first.")
    return Summary(len(values), float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)


def one_way_anova(groups: Mapping[str, Sequence[float]]) -> Anova | None:
    """Fisher's one-way analysis of variance of the groups' means.

    It assumes independent observations, which those of one target are not: if targets differ much, a large p proves
    little, and the paired tests have more power.

    Returns:
        None if undefined: fewer than two groups, no group of two observations, or no variance within groups.
    """
    values = [np.asarray(group, dtype=np.float64) for group in groups.values() if len(group)]
    total = sum(map(len, values))
    if len(values) < 2 or total <= len(values) or all(np.ptp(group) <= _SAME for group in values):
        return None
    from scipy.special import fdtrc  # scipy.stats takes a second to import, its special functions a tenth

    mean = np.concatenate(values).mean()
    between, within = len(values) - 1, total - len(values)
    explained = sum(len(group) * (group.mean() - mean) ** 2 for group in values) / between
    f = float(explained / (sum(np.sum((group - group.mean()) ** 2) for group in values) / within))
    return Anova(f, float(fdtrc(between, within, f)), between, within)


def pairwise_tests(groups: Mapping[str, Observations]) -> list[Pair]:
    """Paired t-tests of all pairs of groups on the keys they share, with Holm's correction over all pairs.

    Args:
        groups: observations by key, such as (seed, target), by the group's name. What is common to a key, such as the
            hard videos of a target, cancels in the differences.
    """
    pairs = [_paired(one, other, groups[one], groups[other]) for one, other in itertools.combinations(groups, 2)]
    tested = [place for place, pair in enumerate(pairs) if pair.p is not None]
    corrected = dict(zip(tested, holm([pair.p for pair in pairs if pair.p is not None]), strict=True))
    return [replace(pair, p_holm=corrected.get(place)) for place, pair in enumerate(pairs)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): p_(k) becomes max over j <= k of min(1, (n - j + 1) p_(j)), p sorted."""
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values).tolist()):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def runs_of_equals(order: Sequence[str], pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    """The longest runs of `order` in which no two differ: the bars of a critical-difference diagram (Demsar 2006).

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
    """The tests' results as sentences: which groups differ, and whose order may be chance.

    Args:
        means: mean error rate by name, in [0, 1]; lower is better.
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
        sentences.append(f"No significant difference, so their order may be chance: {named}")
    untested = [pair for pair in pairs if pair.p is None]
    if untested:
        sentences.append(
            f"{len(untested)} of {len(pairs)} pairs could not be tested: they share fewer than two results, or all"
            " differences are equal. More seeds would allow it"
        )
    return sentences


def _paired(one: str, other: str, first: Observations, second: Observations) -> Pair:
    keys = [key for key in first if key in second]
    differences = np.array([first[key] - second[key] for key in keys])
    mean = float(differences.mean()) if len(keys) else float("nan")
    if len(keys) < 2:
        return Pair(one, other, len(keys), mean, None, None)
    if np.ptp(differences) <= _SAME:
        # t would be 0 / 0 or infinite: the variance is unknown, but equal results are equal.
        equal = abs(mean) <= _SAME
        return Pair(one, other, len(keys), mean, 0.0 if equal else None, 1.0 if equal else None)
    from scipy.special import stdtr

    t = mean / float(differences.std(ddof=1) / np.sqrt(len(keys)))
    return Pair(one, other, len(keys), mean, t, float(2 * stdtr(len(keys) - 1, -abs(t))))

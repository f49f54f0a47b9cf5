"""How the groups of a study compare: paired differences over videos, and tests over seeds and targets.

The differences are bootstrapped over videos. Every draw applies to all detectors and seeds at once, so what all of
them find hard cancels; videos of different targets are drawn independently. Where videos are few, exact intervals take
the bootstrap's place (`pipelines.evaluation.exact`). The seeds of training are fixed in these
intervals; how much they matter, the analysis of variance and the paired t-tests estimate.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipelines.evaluation.bootstrap import checked, interval, replicate_values
from pipelines.evaluation.exact import (
    FEWEST_VIDEOS,
    Ends,
    Tallies,
    difference_ends,
    mean_ends,
    mean_tallies,
    tally,
)
from pipelines.evaluation.statistics import Pair, in_words, one_way_anova, pairwise_tests, summarise
from pipelines.report.cells import MISSING, Cell, Row, Table, percent, texts
from pipelines.report.contents import Group, Study, Trial, targets_of, values_of

METRIC = "hter"
# Replicates times score tables that are drawn: about five seconds on one core for tables of 200 videos.
_BUDGET = 80_000
_FEWEST, _MOST = 200, 1000
_KEY = "seed and target"

Observations = dict[str, dict[tuple[int, str], float]]
"""HTER by group and by (seed, target)."""


@dataclass(frozen=True)
class MeanDifference:
    """HTER of one group minus HTER of another, the mean over folds and shared seeds; negative is better.

    Attributes:
        mean, low, high: observed value and its 95 % interval.
        seeds: number of shared seeds.
    """

    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class FoldDraws:
    """HTER of one experiment on one fold: the bootstrap's replicates (R,), and the videos it misjudged."""

    drawn: np.ndarray
    tallies: Tallies


class Comparison:
    """Bootstrap replicates of every finished experiment of a study under its honest rules."""

    def __init__(self, study: Study) -> None:
        self.study = study

    @cached_property
    def replicates(self) -> int:
        """Number of replicates; fewer for many tables."""
        tables = sum(trial.finished for trial in self.study.trials) * len(self.study.folds)
        return int(np.clip(_BUDGET // max(1, tables), _FEWEST, _MOST))

    @cached_property
    def draws(self) -> dict[Trial, list[FoldDraws]]:
        """HTER on every fold, of every experiment that has all its scores."""
        found = {trial: self._of_trial(trial) for trial in self.study.trials}
        return {trial: folds for trial, folds in found.items() if folds is not None}

    def interval_of(self, group: Group) -> tuple[float, float] | None:
        """The 95 % interval of a group's HTER, the mean over folds and seeds."""
        folds = _by_fold([self.draws[trial] for trial in self._by_seed(group).values()])
        if not folds:
            return None
        drawn = interval(np.mean([fold.drawn for fold in folds], axis=0))
        if drawn[0] < drawn[1] and not any(fold.tallies.few(METRIC) for fold in folds):
            return drawn
        return mean_ends([_estimate(fold) for fold in folds])

    def difference(self, group: Group, reference: Group) -> MeanDifference | None:
        """`group` minus `reference`; None if they share no finished seed."""
        first, second = self._by_seed(group), self._by_seed(reference)
        pairs = [(trial, second[seed]) for seed, trial in first.items() if seed in second]
        if not pairs:
            return None
        ours, theirs = (_by_fold([self.draws[pair[place]] for pair in pairs]) for place in (0, 1))
        observed = float(np.mean([_observed(one) - _observed(other) for one, other in pairs]))
        ends = interval(np.mean([one.drawn - other.drawn for one, other in zip(ours, theirs, strict=True)], axis=0))
        if ends[0] == ends[1] or any(fold.tallies.videos < FEWEST_VIDEOS for fold in ours):
            means = [[_estimate(fold) for fold in folds] for folds in (ours, theirs)]
            one, other = ((float(np.mean([value for value, _ in each])), mean_ends(each)) for each in means)
            ends = difference_ends(one, other)
        return MeanDifference(observed, *ends, len(pairs))

    def references(self) -> list[Group]:
        """The groups that every other is compared with: the first without a cue, then the controls."""
        baselines = [group for group in self.study.methods if not group.takes_cue][:1]
        controls = [group for group in self.study.groups if group.is_control]
        return [group for group in (*baselines, *controls) if group.finished]

    def _of_trial(self, trial: Trial) -> list[FoldDraws] | None:
        if not trial.finished:
            return None
        found = []
        for fold in trial.folds:
            numbers, table = trial.numbers(fold, trial.honest), trial.test_scores(fold, trial.honest)
            if numbers is None or table is None:
                return None
            drawn = replicate_values(table, numbers["threshold"], [METRIC], self.replicates, seed=0)
            found.append(FoldDraws(drawn[METRIC], tally(table.by_video(), numbers["threshold"])))
        return found

    def _by_seed(self, group: Group) -> dict[int, Trial]:
        """The experiments of a group that have draws."""
        return {trial.seed: trial for trial in group.trials if trial in self.draws}


def _by_fold(trials: Sequence[Sequence[FoldDraws]]) -> list[FoldDraws]:
    """The mean over trials, which are seeds, of each fold."""
    return [
        FoldDraws(np.mean([fold.drawn for fold in folds], axis=0), mean_tallies([fold.tallies for fold in folds]))
        for folds in zip(*trials, strict=True)
    ]


def _estimate(fold: FoldDraws) -> tuple[float, Ends]:
    """HTER on a fold and its interval."""
    return fold.tallies.value(METRIC), checked(interval(fold.drawn), fold.tallies, METRIC)


def _observed(trial: Trial) -> float:
    mean = trial.mean(trial.honest, METRIC)
    assert mean is not None
    return mean


@dataclass(frozen=True)
class Statistics:
    """The tests of one study.

    Attributes:
        summary: mean and deviations of every group; the analysis of variance is in its notes.
        pairs: a row per pair of groups.
        words: the results as sentences.
    """

    summary: Table
    pairs: Table
    words: tuple[str, ...]


def study_statistics(study: Study, comparison: Comparison) -> Statistics | None:
    """Tests of HTER under the honest rules; None if fewer than two groups are judged."""
    observed = _observations(study)
    if len(observed) < 2:
        return None
    pairs = pairwise_tests(observed)
    means = {name: float(np.mean(list(values.values()))) for name, values in observed.items()}
    words = [*in_words(means, pairs), *_overlaps(study, comparison)]
    return Statistics(_summary(study, observed), _pairs(pairs), tuple(words))


def _observations(study: Study) -> Observations:
    targets = targets_of(study)
    found = {}
    for group in study.rows:
        values = {
            (seed, target.name): value
            for target in targets
            for seed, value in values_of(group, target, study.honest, METRIC).items()
        }
        if values:
            found[group.name] = values
    return found


def _summary(study: Study, observed: Observations) -> Table:
    rows = []
    for group in study.rows:
        values = observed.get(group.name)
        if values:
            everything = summarise(list(values.values()))
            seeds = _means_by(values, place=0)
            over_seeds, over_targets = summarise(seeds), summarise(_means_by(values, place=1))
            cells = texts(
                percent(everything.mean),
                percent(over_seeds.deviation) if over_seeds.count > 1 else MISSING,
                percent(over_targets.deviation) if over_targets.count > 1 else MISSING,
                str(over_seeds.count),
                str(everything.count),
            )
            rows.append(Row(group.name, cells, group.note, group.number))
    columns = ("mean HTER", "deviation over seeds", "deviation over targets", "seeds", "results")
    made = (
        ("Result", f"HTER of one {_KEY} in per cent, under {study.honest}"),
        ("Deviation", "sample standard deviation (n - 1) of the means per seed, and of the means per target"),
        ("Analysis of variance", _anova_words(observed)),
    )
    return Table("Mean and deviation over seeds and targets", columns, tuple(rows), made)


def _means_by(values: dict[tuple[int, str], float], place: int) -> list[float]:
    names = sorted({key[place] for key in values}, key=str)
    return [float(np.mean([value for key, value in values.items() if key[place] == name])) for name in names]


def _anova_words(observed: Observations) -> str:
    anova = one_way_anova({name: list(values.values()) for name, values in observed.items()})
    if anova is None:
        return "undefined: it needs two groups and, in one of them, two different results"
    finding = "the groups' means differ" if anova.p < 0.05 else "no significant difference between the groups"
    return (
        f"one-way over the groups, F({anova.between}, {anova.within}) = {anova.f:.2f}, p = {anova.p:.3g}: {finding}."
        " It assumes independent results, which those of one target are not"
    )


def _pairs(pairs: list[Pair]) -> Table:
    rows = []
    for pair in sorted(pairs, key=lambda pair: (pair.p_holm is None, pair.p_holm or 0.0)):
        kind = ("better" if pair.difference < 0 else "worse") if pair.differs else ""
        cells = (
            Cell(MISSING if np.isnan(pair.difference) else percent(pair.difference, "+"), kind=kind),
            *texts(str(pair.count), _number(pair.t, ".2f"), _number(pair.p, ".3g"), _number(pair.p_holm, ".3g")),
        )
        rows.append(Row(f"{pair.first} minus {pair.second}", cells))
    made = (
        ("Test", f"paired t-test over every {_KEY} that both have; p corrected for all pairs after Holm"),
        ("Caution", "the seeds of one target share its videos, so p is smaller than it would be on new targets"),
    )
    columns = ("difference in points", "results", "t", "p", "p corrected")
    return Table("Pairs of experiments", columns, tuple(rows), made, "pair")


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else f"{value:{form}}"


def _overlaps(study: Study, comparison: Comparison) -> list[str]:
    """Groups next to each other in the order of means whose bootstrap intervals overlap."""
    groups = [group for group in study.rows if group.finished]
    found = [(group.name, ends) for group in groups if (ends := comparison.interval_of(group)) is not None]
    ordered = sorted(found, key=lambda item: sum(item[1]))
    near = [f"{one[0]} and {other[0]}" for one, other in itertools.pairwise(ordered) if other[1][0] <= one[1][1]]
    if not near:
        return []
    return [
        f"The 95 % intervals over videos of these neighbours overlap: {'; '.join(near)}. This alone does not make"
        " them equal: the paired differences above have more power"
    ]

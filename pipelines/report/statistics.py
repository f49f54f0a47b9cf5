"""Whether the groups of a study are told apart, over seeds and targets: tables, and the same in words."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from pipelines.evaluation.statistics import Pair, in_words, one_way_anova, pairwise_tests, summarise
from pipelines.report.cells import MISSING, Cell, Row, Table
from pipelines.report.contents import Study
from pipelines.report.differences import Comparison
from pipelines.report.targets import targets_of, values_of

METRIC = "hter"
_PLACE = "seed and target"


@dataclass(frozen=True)
class Statistics:
    """The tests of one study.

    Attributes:
        summary: mean and deviations of every group, and the analysis of variance in its notes.
        pairs: a row per pair of groups.
        words: what the tests allow to be said.
    """

    summary: Table
    pairs: Table
    words: tuple[str, ...]


def study_statistics(study: Study, comparison: Comparison) -> Statistics | None:
    """Tests of HTER under the honest rules; None where fewer than two groups are judged."""
    observed = _observations(study)
    if len(observed) < 2:
        return None
    pairs = pairwise_tests(observed)
    means = {name: float(np.mean(list(values.values()))) for name, values in observed.items()}
    words = [*in_words(means, pairs), *_overlaps(study, comparison)]
    return Statistics(_summary(study, observed), _pairs(pairs), tuple(words))


def _observations(study: Study) -> dict[str, dict[tuple[int, str], float]]:
    """HTER by group and by (seed, target)."""
    targets = targets_of(study)
    found = {}
    for group in (*study.methods, *study.controls):
        values = {
            (seed, target.name): value
            for target in targets
            for seed, value in values_of(group, target, study.honest, METRIC).items()
        }
        if values:
            found[group.name] = values
    return found


def _summary(study: Study, observed: dict[str, dict[tuple[int, str], float]]) -> Table:
    rows = []
    for group in (*study.methods, *study.controls):
        values = observed.get(group.name)
        if values:
            everything = summarise(list(values.values()))
            seeds = _means_by(values, place=0)
            cells = (
                f"{100 * everything.mean:.1f}",
                f"{100 * summarise(seeds).deviation:.1f}" if len(seeds) > 1 else MISSING,
                f"{100 * summarise(_means_by(values, place=1)).deviation:.1f}"
                if everything.count > len(seeds)
                else MISSING,
                str(len(seeds)),
                str(everything.count),
            )
            note = "control" if group.is_control else ""
            rows.append(Row(group.name, tuple(Cell(text) for text in cells), note, group.number))
    columns = ("mean HTER", "deviation over seeds", "deviation over targets", "seeds", "results")
    made = (
        ("Result", f"HTER of one {_PLACE} in per cent, under {study.honest}"),
        ("Deviation", "of the means per seed, and of the means per target; of a sample, n - 1"),
        ("Analysis of variance", _anova_words(observed)),
    )
    return Table("Mean and deviation over seeds and targets", columns, tuple(rows), made)


def _means_by(values: dict[tuple[int, str], float], place: int) -> list[float]:
    names = sorted({key[place] for key in values}, key=str)
    return [float(np.mean([value for key, value in values.items() if key[place] == name])) for name in names]


def _anova_words(observed: dict[str, dict[tuple[int, str], float]]) -> str:
    anova = one_way_anova({name: list(values.values()) for name, values in observed.items()})
    if anova is None:
        return "not defined: it needs two groups and, in one of them, two results that differ"
    told = "at least one group has another mean" if anova.p < 0.05 else "no difference between groups is shown"
    return (
        f"one-way over the groups, F({anova.between}, {anova.within}) = {anova.f:.2f}, p = {anova.p:.3g}: {told}."
        " It takes results for independent, and those of one target are not"
    )


def _pairs(pairs: list[Pair]) -> Table:
    rows = []
    for pair in sorted(pairs, key=lambda pair: (pair.p_holm is None, pair.p_holm or 0.0)):
        kind = ("better" if pair.difference < 0 else "worse") if pair.differs else ""
        cells = (
            Cell(MISSING if np.isnan(pair.difference) else f"{100 * pair.difference + 0.0:+.1f}", kind=kind),
            Cell(str(pair.count)),
            Cell(MISSING if pair.t is None else f"{pair.t:.2f}"),
            Cell(MISSING if pair.p is None else f"{pair.p:.3g}"),
            Cell(MISSING if pair.p_holm is None else f"{pair.p_holm:.3g}"),
        )
        rows.append(Row(f"{pair.first} minus {pair.second}", cells))
    made = (
        ("Test", f"paired t-test over every {_PLACE} that both have; p after Holm's correction over all pairs"),
        ("Caution", "seeds of one target share its videos, so p is smaller than new targets would make it"),
    )
    columns = ("difference in points", "results", "t", "p", "p corrected")
    return Table("Pairs of experiments", columns, tuple(rows), made, "pair")


def _overlaps(study: Study, comparison: Comparison) -> list[str]:
    """Neighbours in the order of means whose bootstrap intervals overlap."""
    groups = [group for group in (*study.methods, *study.controls) if group.finished]
    found = [(group.name, ends) for group in groups if (ends := comparison.interval_of(group)) is not None]
    ordered = sorted(found, key=lambda item: sum(item[1]))
    near = [f"{one[0]} and {other[0]}" for one, other in itertools.pairwise(ordered) if other[1][0] <= one[1][1]]
    if not near:
        return []
    return [
        f"The 95 % intervals over videos of these neighbours overlap: {'; '.join(near)}. Overlap alone does not make"
        " them equal: the paired differences above are the sharper comparison"
    ]

"""The cells of a table: the paper's number, and ours under both pairs of rules.

Ours are read per seed and averaged over what the cell tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipelines.data.protocols import Fold
from pipelines.experiment.plan import Planned
from pipelines.experiment.workspace import Workspace
from pipelines.report.contents import Group, Target, Trial, class_counts, values_of
from pipelines.report.gather import read_trial
from pipelines.reproduce.ground import folds_on, short_name, targets_at
from pipelines.reproduce.papers import PaperTable, Printed, read_papers
from pipelines.reproduce.rows import PlannedRow, Recipe
from pipelines.reproduce.settings import RUNNING_BEST

IN_VIDEOS = ("hter",)
"""Our metrics whose differences are given in videos."""

OF_RUNS = ("parameters", "training seconds")
"""Metrics of the trainings."""

_EXTREMES: Mapping[str, Callable[..., Target]] = {"best": max, "worst": min}


@dataclass(frozen=True)
class Ours:
    """Our value of a cell.

    Attributes:
        by_seed: a value for every seed that has all targets of the cell.
        text: a word printed with it, such as the dataset of a best transfer.
    """

    by_seed: Mapping[int, float]
    text: str = ""

    @property
    def mean(self) -> float | None:
        """Over the seeds; None without any."""
        return float(np.mean(list(self.by_seed.values()))) if self.by_seed else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds; None for fewer than two."""
        return float(np.std(list(self.by_seed.values()), ddof=1)) if len(self.by_seed) > 1 else None


@dataclass(frozen=True)
class Entry:
    """One cell of a table.

    Attributes:
        row, head, metric: as printed.
        printed: the paper's number; None in a row of our own.
        papers, honest: ours under each pair of rules, in the paper's unit.
        tested: the targets of ours.
        videos: our live and attack videos, if the cell has one target.
        paper_videos: the paper's, if known.
        counted: whether differences are given in videos.
    """

    row: str
    head: str
    metric: str
    printed: Printed | None
    papers: Ours
    honest: Ours
    tested: tuple[Target, ...]
    videos: tuple[int, int] | None
    paper_videos: tuple[int, int] | None
    counted: bool


@dataclass(frozen=True)
class MadeTable:
    """A reproduced table.

    Attributes:
        recipe: how it was made.
        printed: the paper's table.
        rows: with their experiments.
        entries: by (row, head, metric).
    """

    recipe: Recipe
    printed: PaperTable
    rows: tuple[PlannedRow, ...]
    entries: dict[tuple[str, str, str], Entry]

    @property
    def name(self) -> str:
        """Such as `agfas/IV`."""
        return self.recipe.table.table

    def reference(self, entry: Entry) -> Entry | None:
        """The reference row's cell in the same column; None for the reference row itself."""
        label = self.recipe.table.reference
        return None if not label or label == entry.row else self.entries[label, entry.head, entry.metric]


def both_sides(recipe: Recipe, rows: Sequence[PlannedRow]) -> MadeTable:
    """The results of a table's runs so far beside the paper's numbers."""
    printed = read_papers().table(recipe.table.table)
    entries = {}
    for row in rows:
        folds = folds_on(row.protocol, recipe.ground.domains) if row.planned else ()
        groups = [read_group(name, planned, folds) for name, planned in row.methods.items()]
        for head in printed.heads:
            tested = tuple(_tested(recipe, row, head)) if groups else ()
            for metric in printed.metrics:
                entries[row.label, head, metric] = _entry(recipe, printed, row, groups, head, metric, tested)
    return MadeTable(recipe, printed, tuple(rows), entries)


def _places(recipe: Recipe, row: PlannedRow, head: str) -> tuple[str, ...]:
    """What a cell tests, as `SOURCE>TARGET`."""
    columns = {**recipe.settings.protocols[recipe.table.protocol].columns, **recipe.table.columns}
    return row.choice.at or columns.get(head, ())


def _tested(recipe: Recipe, row: PlannedRow, head: str) -> list[Target]:
    found = [
        target for at in _places(recipe, row, head) for target in targets_at(row.protocol, at, recipe.ground.domains)
    ]
    return list(dict.fromkeys(found))


def _entry(
    recipe: Recipe,
    printed: PaperTable,
    row: PlannedRow,
    groups: Sequence[Group],
    head: str,
    metric: str,
    tested: tuple[Target, ...],
) -> Entry:
    ours, rules = recipe.table.metrics.get(metric, ""), recipe.settings.rules

    def under(rule: str) -> Ours:
        found = value(groups, tested, rule, ours, recipe.ground.domains) if ours and groups else Ours({})
        scale = 100.0 if printed.unit == "per cent" else 1.0
        return Ours({seed: scale * number for seed, number in found.by_seed.items()}, found.text)

    alone, trials = len(tested) == 1, [trial for group in groups for trial in group.trials]
    paper = None if row.choice.ours else printed.printed(row.label, head, metric)
    return Entry(
        row.label, head, metric, paper, under(rules.papers), under(rules.honest),
        tested, class_counts(trials, tested[0]) if alone else None, _paper_videos(recipe, row, head), ours in IN_VIDEOS,
    )  # fmt: skip


def _paper_videos(recipe: Recipe, row: PlannedRow, head: str) -> tuple[int, int] | None:
    """The paper's live and attack videos of the only dataset that a column tests, if known."""
    places = _places(recipe, row, head)
    if len(places) != 1:
        return None
    return read_papers().paper_of(recipe.table.table).videos.get(places[0].partition(">")[2])


def read_group(name: str, planned: Sequence[Planned], folds: Sequence[Fold]) -> Group:
    """The experiments of one method, one per seed, with what their runs have left so far."""
    names = tuple(fold.name for fold in folds)
    trials = [
        read_trial(item, names)
        if Workspace(item.experiment).faces.is_dir()
        else Trial(item, problem="nothing made yet")
        for item in planned
    ]
    return Group(name, tuple(trials), False, 0)


def value(
    groups: Sequence[Group], targets: Sequence[Target], rule: str, metric: str, domains: Mapping[str, str]
) -> Ours:
    """Our value of a cell, the mean over the row's methods and the cell's targets.

    Args:
        groups: of the row's methods.
        targets: of the cell.
        rule: `selection/threshold`, or `RUNNING_BEST`.
        metric: of `values_of` or `OF_RUNS`, or `best METRIC` or `worst METRIC`, the highest or lowest of the targets.
        domains: of the data by the paper's short name.
    """
    if not targets:
        return Ours({})
    if metric in OF_RUNS:
        return _of_runs(groups, metric)
    kind, _, inner = metric.partition(" ")
    if kind in _EXTREMES:
        return _extreme(groups, targets, rule, inner, kind, domains)
    read = _running_best if rule == RUNNING_BEST else partial(values_of, rule=rule)
    found = [read(group, target, metric=metric) for group in groups for target in targets]
    seeds = sorted(set.intersection(*(set(values) for values in found)))
    return Ours({seed: float(np.mean([values[seed] for values in found])) for seed in seeds})


def _running_best(group: Group, target: Target, metric: str) -> dict[int, float]:
    """The running best of one target by seed."""
    found = {trial.seed: trial.judged(target).get("papers_best") for trial in group.trials}
    return {seed: float(best[metric]) for seed, best in found.items() if best}


def one_video(counts: tuple[int, int]) -> float:
    """The smallest step of HTER in percentage points: one video of the larger class.

    HTER is (FAR + FRR) / 2, so one of a class's N videos moves it by 1 / 2N. MSU-MFSD's 70 live and 210 attack videos
    give 0.238.
    """
    return 100 / (2 * max(counts))


def _extreme(
    groups: Sequence[Group], targets: Sequence[Target], rule: str, metric: str, kind: str, domains: Mapping[str, str]
) -> Ours:
    found = {target: value(groups, [target], rule, metric, domains) for target in targets}
    means = {target: ours.mean for target, ours in found.items() if ours.mean is not None}
    if not means:
        return Ours({})
    target = _EXTREMES[kind](means, key=lambda one: means[one])
    return Ours(found[target].by_seed, short_name(target, domains))


def _of_runs(groups: Sequence[Group], metric: str) -> Ours:
    values = {}
    for trial in (trial for group in groups for trial in group.trials):
        runs = list(trial.runs.values())
        if runs and all(run.done for run in runs):
            seconds = sum(run.seconds for run in runs)
            parameters = (runs[0].done or {})["parameters"]
            values[trial.seed] = float(parameters if metric == "parameters" else seconds)
    return Ours(values)

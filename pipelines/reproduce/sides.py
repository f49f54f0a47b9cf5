"""A table with both sides: every cell's printed number, and ours under both pairs of rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.report.targets import Target
from pipelines.reproduce.numbers import PaperTable, Printed, read_papers
from pipelines.reproduce.places import folds_on, targets_at
from pipelines.reproduce.rows import PlannedRow, Recipe
from pipelines.reproduce.values import Ours, read_group, value, videos

IN_VIDEOS = ("hter",)
"""Our metrics whose differences are told in videos."""


@dataclass(frozen=True)
class Entry:
    """One cell of a table.

    Attributes:
        row, head, metric: as printed.
        printed: the paper's number.
        papers, honest: ours under each pair of rules, in the paper's unit; empty where there is none.
        tested: what ours were tested on.
        videos: live and attack videos of ours, where the cell tests one target.
        paper_videos: the paper's own, where they are known.
        counted: whether differences are told in videos.
    """

    row: str
    head: str
    metric: str
    printed: Printed
    papers: Ours
    honest: Ours
    tested: tuple[Target, ...]
    videos: tuple[int, int] | None
    paper_videos: tuple[int, int] | None
    counted: bool


@dataclass(frozen=True)
class MadeTable:
    """A table that was made again.

    Attributes:
        recipe: what it was made of.
        printed: the paper's table.
        rows: what each row is here.
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
        """The reference row's cell in the same column; None for the reference itself."""
        label = self.recipe.table.reference
        return None if not label or label == entry.row else self.entries[label, entry.head, entry.metric]


def both_sides(recipe: Recipe, rows: Sequence[PlannedRow]) -> MadeTable:
    """What the runs of a table have left so far beside what the paper printed."""
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


def _tested(recipe: Recipe, row: PlannedRow, head: str) -> list[Target]:
    columns = {**recipe.settings.protocols[recipe.table.protocol].columns, **recipe.table.columns}
    places = row.choice.at or columns.get(head, ())
    found = [target for at in places for target in targets_at(row.protocol, at, recipe.ground.domains)]
    return list(dict.fromkeys(found))


def _entry(
    recipe: Recipe,
    printed: PaperTable,
    row: PlannedRow,
    groups: Sequence,
    head: str,
    metric: str,
    tested: tuple[Target, ...],
) -> Entry:
    ours, rules = recipe.table.metrics.get(metric, ""), recipe.settings.rules

    def under(rule: str) -> Ours:
        found = value(groups, tested, rule, ours, recipe.ground.domains) if ours and groups else Ours({})
        scale = 100.0 if printed.unit == "per cent" else 1.0
        return Ours({seed: scale * number for seed, number in found.by_seed.items()}, found.text)

    alone = len(tested) == 1
    return Entry(
        row.label, head, metric, printed.printed(row.label, head, metric), under(rules.papers), under(rules.honest),
        tested, videos(groups, tested[0]) if alone else None, _paper_videos(recipe, row, head), ours in IN_VIDEOS,
    )  # fmt: skip


def _paper_videos(recipe: Recipe, row: PlannedRow, head: str) -> tuple[int, int] | None:
    """Of the dataset that a column tests alone, where the paper's counts are known."""
    columns = {**recipe.settings.protocols[recipe.table.protocol].columns, **recipe.table.columns}
    places = row.choice.at or columns.get(head, ())
    if len(places) != 1:
        return None
    return read_papers().paper_of(recipe.table.table).videos.get(places[0].partition(">")[2])

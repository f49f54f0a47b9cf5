"""What differs from papers and public code; `deviations.yaml` holds it, and `docs/parity.md` shows it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from oanet.names import takes_cue
from pipelines import markdown
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import read_mapping
from pipelines.reproduce.rows import PlannedRow
from pipelines.settings import Strict

DATA = Path(__file__).with_name("deviations.yaml")

KINDS = ("paper", "detector", "objective", "cue", "augment")

_TABLE_ONE = "agfas/I"

_Text = Annotated[str, StringConstraints(min_length=2, strip_whitespace=True)]


class Deviation(Strict):
    """One difference.

    Attributes:
        what: it is about.
        theirs: the paper's or its public code's.
        ours: by default, and the setting that gives theirs if there is one.
        why: ours differs.
        matters: for Table I of AG-FAS.
    """

    what: _Text
    theirs: _Text
    ours: _Text
    why: _Text
    matters: Annotated[str, StringConstraints(pattern=r"^(yes|slightly|no|unknown|not in it)\b")]


class Group(Strict):
    """The differences of one method or part of it.

    Attributes:
        title: over its table.
        used_by: parts of an experiment, `KIND:NAME`; a kind is one of `KINDS`.
        rows: its differences.
    """

    title: _Text
    used_by: tuple[Annotated[str, StringConstraints(pattern=rf"^({'|'.join(KINDS)}):\w+$")], ...] = Field(min_length=1)
    rows: tuple[Deviation, ...] = Field(min_length=1)


class Deviations(Strict):
    """All groups, in the order of the page."""

    groups: tuple[Group, ...]


@lru_cache(maxsize=1)
def read_deviations() -> Deviations:
    """All deviations, from the file in this package."""
    return Deviations.model_validate(read_mapping(DATA))


def parts_of_experiment(experiment: Experiment) -> set[str]:
    """What an experiment is made of, as `Group.used_by` names it."""
    parts = {f"detector:{experiment.detector.name}", f"objective:{experiment.objective.name}"}
    parts |= {f"augment:{name}" for name, value in experiment.train.augment if value is not None}
    reads_cue = takes_cue(experiment.detector.name, experiment.detector.options())
    return parts | ({f"cue:{experiment.cue.source}"} if reads_cue else set())


def deviations_of(table: str, rows: Iterable[PlannedRow]) -> list[Group]:
    """The groups that a table needs: of its paper, and of the parts of its rows' experiments.

    Of Table I, only what is in it.
    """
    parts = {f"paper:{table.partition('/')[0]}"}
    for planned in (item for row in rows for item in row.planned):
        parts |= parts_of_experiment(planned.experiment)
    groups = [group for group in read_deviations().groups if parts & set(group.used_by)]
    if table != _TABLE_ONE:
        return groups
    kept = [(group, tuple(row for row in group.rows if not row.matters.startswith("not in it"))) for group in groups]
    return [group.model_copy(update={"rows": rows}) for group, rows in kept if rows]


def as_lines(groups: Iterable[Group]) -> list[str]:
    """A line for each deviation."""
    return [
        f"{group.title}: {row.what}. {row.theirs}. Ours: {row.ours}. Matters for Table I: {row.matters}."
        for group in groups
        for row in group.rows
    ]


def as_page() -> str:
    """`docs/parity.md`."""
    parts = [_INTRODUCTION, *(f"## {group.title}\n\n{_table(group)}" for group in read_deviations().groups)]
    return "\n\n".join(parts) + "\n"


def _table(group: Group) -> str:
    rows = [(row.what, row.theirs, row.ours, row.why, row.matters) for row in group.rows]
    return markdown.table(["What differs", "Paper or public code", "Ours", "Why", "Matters for Table I"], rows)


_INTRODUCTION = """# What differs from papers and public code

Every difference that is left, by method; what is not listed here computes what the public code computes, or, where that
contradicts its paper or there is none, what the paper says. Table I is AG-FAS's leave-one-out table. `agfas reproduce
TABLE` prints the lines of its table.

This page is written from `pipelines/reproduce/deviations.yaml` by `python -m scripts.parity`."""

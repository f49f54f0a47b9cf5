"""A table as plain cells, from which the page and the Markdown are written alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines import markdown

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """A value, small print below it, and `better`, `worse` or `mean` for its style."""

    text: str
    small: str = ""
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.small}".strip()


@dataclass(frozen=True)
class Row:
    """A row; `note` marks it, for example as a control, and `number` is its group's."""

    name: str
    cells: tuple[Cell, ...]
    note: str = ""
    number: int | None = None

    @property
    def title(self) -> str:
        """The name and, unless it says so itself, the note."""
        return f"{self.name} ({self.note})" if self.note and self.note not in self.name else self.name


@dataclass(frozen=True)
class Table:
    """A table and how its numbers were made.

    Attributes:
        title: heading.
        columns: heads of the columns after the first.
        rows: methods first, then controls.
        made: (what, how) pairs shown below the table.
        first: head of the first column.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    made: tuple[tuple[str, str], ...] = ()
    first: str = "experiment"


def to_markdown(table: Table) -> str:
    """The table as a Markdown table, its notes as a list below."""
    rows = [[row.title, *row.cells] for row in table.rows]
    notes = [f"- {what}: {how}." for what, how in table.made]
    return "\n".join([f"## {table.title}", "", markdown.table([table.first, *table.columns], rows), "", *notes]) + "\n"


def texts(*values: str) -> tuple[Cell, ...]:
    """Cells without small print."""
    return tuple(Cell(value) for value in values)


def rate_cell(values: Sequence[float], kind: str = "") -> Cell:
    """Mean and standard deviation over seeds of rates in [0, 1], in per cent with one decimal."""
    if not len(values):
        return Cell(MISSING, kind=kind)
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return Cell(f"{percent(float(np.mean(values)))}{spread}", kind=kind)


def percent(rate: float, sign: str = "") -> str:
    """A rate in per cent with one decimal; `sign` is `+` for differences."""
    return f"{round(100 * rate, 1) + 0.0:{sign}.1f}"  # + 0.0 turns -0.0 into 0.0


def span(low: float, high: float) -> str:
    """An interval of rates in per cent."""
    return f"[{percent(low)}, {percent(high)}]"


def listed(values: Iterable[object]) -> str:
    """Values with commas; `none` if there are none."""
    return ", ".join(map(str, values)) or "none"

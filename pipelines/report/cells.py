"""A table as plain cells, from which the page and Markdown are written alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """A value, and in small print what belongs to it."""

    text: str
    small: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """A row; `note` marks it, as `control` does, and `number` is its group's colour."""

    name: str
    cells: tuple[Cell, ...]
    note: str = ""
    number: int | None = None


@dataclass(frozen=True)
class Table:
    """A table with how its numbers were made.

    Attributes:
        title: heading.
        columns: heads of the columns after the first.
        rows: methods first, then controls.
        made: (what, how) pairs that stand beside the table.
        first: head of the first column.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    made: tuple[tuple[str, str], ...] = field(default=())
    first: str = "experiment"


def to_markdown(table: Table) -> str:
    """The table as a Markdown table, its notes as a list below."""
    lines = [f"## {table.title}", "", _markdown_row([table.first, *table.columns])]
    lines.append(_markdown_row(["---"] * (len(table.columns) + 1)))
    for row in table.rows:
        name = f"{row.name} ({row.note})" if row.note and row.note not in row.name else row.name
        lines.append(_markdown_row([name, *(f"{cell.text} {cell.small}".strip() for cell in row.cells)]))
    lines += ["", *(f"- {what}: {how}." for what, how in table.made)]
    return "\n".join(lines) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

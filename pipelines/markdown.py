"""Tables and enumerations as text: Markdown, and aligned columns for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; pipes inside cells are escaped.

    Args:
        header: titles of the columns.
        rows: cells, each turned into text by `str`.
    """
    lines = [list(header), ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def join_names(names: Sequence[str]) -> str:
    """Names as a sentence lists them: `a, b and c`; `none` for an empty list."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names) or "none"


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|")


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of one length as columns of a terminal, two spaces apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)

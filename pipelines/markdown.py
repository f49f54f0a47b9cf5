"""Markdown tables and enumerations, written one way."""

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

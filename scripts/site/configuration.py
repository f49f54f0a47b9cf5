"""The page of a configuration's keys, from what `agfas config` prints."""

from __future__ import annotations

from itertools import groupby

from oanet.names import DETECTORS, OBJECTIVES
from pipelines.experiment.keys import Explained, entries
from scripts.site.table import table

_NAMES = {"detector": DETECTORS, "objective": OBJECTIVES}


def blocks_page() -> str:
    """A table for the keys of no block, and one for each block."""
    blocks = [(top, list(group)) for top, group in groupby(entries(), key=lambda entry: _top(entry.name))]
    alone = [group[0] for _, group in blocks if len(group) == 1]
    parts = ["## Keys of no block", _table(alone)]
    for top, group in blocks:
        if len(group) > 1:
            parts += [f"## {top}", *group[0].meaning[:1], _table(group[1:])]
    return "\n\n".join(parts)


def options_page(block: str) -> str:
    """A table of the options of every detector or objective."""
    parts = []
    for name in _NAMES[block].builtin:
        options = entries(f"{block}.name={name}")
        parts += [f"### {block} {name}", _table(options) if options else "No options."]
    return "\n\n".join(parts)


def _top(name: str) -> str:
    return name.partition(".")[0].removesuffix("[]")


def _table(shown: list[Explained]) -> str:
    return table(
        ("key", "values", "meaning"),
        [(f"`{entry.name}`", entry.facts, "\n".join(entry.meaning)) for entry in shown],
    )

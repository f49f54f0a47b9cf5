"""A table that was made again, as CSV: every cell in a line of its own."""

from __future__ import annotations

from typing import Any

from pipelines.files import csv_text
from pipelines.reproduce.differences import between_rules, from_paper, our_gain, paper_gain
from pipelines.reproduce.numbers import read_papers
from pipelines.reproduce.sides import Entry, MadeTable
from pipelines.reproduce.values import one_video


def as_csv(table: MadeTable) -> str:
    """Every cell in a line of its own, in the paper's unit."""
    return csv_text([_record(table, entry) for entry in table.entries.values()])


def _record(table: MadeTable, entry: Entry) -> dict[str, Any]:
    ground, unit = table.recipe.ground, table.printed.unit
    row = next(row for row in table.rows if row.label == entry.row)
    live, attack = entry.videos or ("", "")
    return {
        "table": table.name,
        "row": entry.row,
        "head": entry.head,
        "metric": entry.metric,
        "unit": unit,
        "paper": entry.printed.value,
        "paper_text": entry.printed.text,
        "paper_source": read_papers().source(table.name),
        "data": ground.title,
        "comparable": ground.own,
        "tested": "; ".join(target.name for target in entry.tested),
        "papers_rule": table.recipe.settings.rules.papers,
        "honest_rule": table.recipe.settings.rules.honest,
        "ours_papers_rule": _or_empty(entry.papers.mean),
        "ours_papers_rule_sd": _or_empty(entry.papers.deviation),
        "ours_honest": _or_empty(entry.honest.mean),
        "ours_honest_sd": _or_empty(entry.honest.deviation),
        "ours_text": entry.honest.text,
        "seeds": " ".join(map(str, sorted(entry.honest.by_seed))),
        "live_videos": live,
        "attack_videos": attack,
        "one_video_points": one_video(entry.videos) if entry.videos else "",
        "honest_minus_papers_rule_videos": _or_empty(between_rules(entry, unit)),
        "ours_minus_paper_videos": _or_empty(from_paper(entry, unit)) if ground.own else "",
        "reference": table.recipe.table.reference,
        "paper_minus_reference_videos": _or_empty(paper_gain(table, entry)),
        "ours_minus_reference_videos": _or_empty(our_gain(table, entry)),
        "not_run": row.absent,
    }


def _or_empty(value: float | None) -> float | str:
    return "" if value is None else value

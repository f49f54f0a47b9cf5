"""A reproduced table as Markdown and as CSV, with differences of HTER in units of one video.

One video of a target is the smallest step of its HTER, which tells how many digits of a table mean anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.files import csv_text
from pipelines.report.cells import MISSING, Cell, Row, Table, texts, to_markdown
from pipelines.report.contents import Target
from pipelines.reproduce.deviations import as_lines, deviations_of
from pipelines.reproduce.papers import Printed, read_papers
from pipelines.reproduce.settings import RUNNING_BEST
from pipelines.reproduce.values import Entry, MadeTable, Ours, one_video


def as_markdown(table: MadeTable) -> str:
    """For each row the paper's line, ours under both rules, and the differences in videos."""
    tables = [to_markdown(part) for part in as_tables(table)]
    parts = [f"# {heading(table)}", _warning(table), *tables, _notes(table)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def heading(table: MadeTable) -> str:
    """The table's title and data."""
    paper, number = table.name.split("/")
    what = f"{paper} Table {number}: {table.printed.title}"
    ground = table.recipe.ground
    return f"{what}, on {ground.title}" + ("" if ground.own else ": not comparable with the paper's numbers")


def as_tables(table: MadeTable) -> list[Table]:
    """One table per metric if datasets are the columns, else one with the metrics as its columns."""
    if table.printed.heads == ("",):
        return [_table(table, "", [("", metric) for metric in table.printed.metrics])]
    return [_table(table, metric, [(head, metric) for head in table.printed.heads]) for metric in table.printed.metrics]


def as_csv(table: MadeTable) -> str:
    """A line per cell, in the paper's unit."""
    return csv_text([_record(table, entry) for entry in table.entries.values()])


def differences(table: MadeTable, entry: Entry) -> dict[str, float | None]:
    """Differences of a cell's HTER in videos, each None if a part of it is unknown.

    `between_rules`: ours under the honest rule minus ours under the paper's. `from_paper`: ours under the paper's rule
    minus the paper's number. `paper_gain`: the paper's number minus its reference row's, in the paper's videos.
    `our_gain`: ours under the honest rule minus our reference row's.
    """
    reference, ours, paper = table.reference(entry), entry.papers.mean, entry.printed
    other = None if reference is None else reference.printed
    found = {
        "between_rules": (minus(entry.honest, entry.papers), entry.videos),
        "from_paper": (None if ours is None or paper is None else ours - paper.value, entry.videos),
        "paper_gain": (None if other is None or paper is None else paper.value - other.value, entry.paper_videos),
        "our_gain": (None if reference is None else minus(entry.honest, reference.honest), entry.videos),
    }
    unit = table.printed.unit
    return {name: in_videos(value, videos, unit) if entry.counted else None for name, (value, videos) in found.items()}


def in_videos(difference: float | None, counts: tuple[int, int] | None, unit: str) -> float | None:
    """A difference of HTER in videos; None if the difference or the number of videos is unknown."""
    if difference is None or counts is None:
        return None
    points = difference if unit == "per cent" else 100 * difference
    return points / one_video(counts)


def minus(one: Ours, other: Ours) -> float | None:
    """Mean difference over the shared seeds; None without any."""
    shared = sorted(set(one.by_seed) & set(other.by_seed))
    if not shared:
        return None
    return sum(one.by_seed[seed] - other.by_seed[seed] for seed in shared) / len(shared)


def _table(table: MadeTable, metric: str, columns: Sequence[tuple[str, str]]) -> Table:
    rows = []
    for row in table.rows:
        entries = [table.entries[row.label, head, name] for head, name in columns]
        rows += _lines(table, row.title, entries, bool(row.planned))
    unit = {"per cent": " (%)", "share": " (share of 1)", "count": ""}[table.printed.unit]
    title = f"{metric or table.printed.title}{unit}, {_where(table)}"
    heads = tuple(_head(table, head or name, head, name) for head, name in columns)
    return Table(title, heads, tuple(rows), first="row")


def _lines(table: MadeTable, label: str, entries: Sequence[Entry], is_run: bool) -> list[Row]:
    paper = [_printed(table, entry.printed) for entry in entries if entry.printed is not None]
    lines = [Row(f"{label}: the paper", texts(*paper))] if paper else []
    if not is_run:
        return lines
    tag = _tag(table)
    lines.append(Row(f"{label}: ours, papers' rule{tag}", tuple(_cell(table, entry.papers) for entry in entries)))
    lines.append(Row(f"{label}: ours, honest rule{tag}", tuple(_cell(table, entry.honest) for entry in entries)))
    if any(entry.counted for entry in entries):
        found = [differences(table, entry) for entry in entries]
        for name, what in _shown_differences(table).items():
            lines.append(Row(f"{label}: in videos: {what}", tuple(_signed(videos[name]) for videos in found)))
    return [line for line in lines if any(cell.text != MISSING for cell in line.cells)]


def _shown_differences(table: MadeTable) -> dict[str, str]:
    """The shown ones of `differences`, in words; one from the paper is formed on the paper's data alone."""
    reference, tag = table.recipe.table.reference, _tag(table)
    shown = {"between_rules": f"ours, honest minus papers' rule{tag}"}
    if table.recipe.ground.own:
        shown["from_paper"] = "ours, papers' rule, minus the paper"
    if reference:
        shown["paper_gain"] = f"the paper, minus its {reference}"
        shown["our_gain"] = f"ours, honest, minus our {reference}{tag}"
    return shown


def _head(table: MadeTable, shown: str, head: str, metric: str) -> str:
    """The printed head and, on other data, what ours were tested on instead."""
    if table.recipe.ground.own:
        return shown
    tested = next((e.tested for e in table.entries.values() if (e.head, e.metric) == (head, metric) and e.tested), ())
    if not tested:
        return f"{shown} [no domain of {table.recipe.ground.title} assigned]"
    if head == "" and not _same_everywhere(table, head, metric):
        return f"{shown} [ours: {_where(table)}]"
    return f"{shown} [ours: {_named(tested)}, {_where(table)}]"


def _same_everywhere(table: MadeTable, head: str, metric: str) -> bool:
    return len({e.tested for e in table.entries.values() if (e.head, e.metric) == (head, metric) and e.tested}) == 1


def _named(tested: Sequence[Target]) -> str:
    return tested[0].name if len(tested) == 1 else f"mean of {len(tested)} tests"


def _where(table: MadeTable) -> str:
    ground = table.recipe.ground
    return f"on {ground.title}" + ("" if ground.own else ", not comparable")


def _tag(table: MadeTable) -> str:
    return "" if table.recipe.ground.own else f" ({table.recipe.ground.title})"


def _printed(table: MadeTable, printed: Printed) -> str:
    text = _number(table, printed.value)
    return f"{printed.text} ({text})" if printed.text else text


def _cell(table: MadeTable, ours: Ours) -> Cell:
    if ours.mean is None:
        return Cell(MISSING)
    text = _number(table, ours.mean)
    spread = f" ± {_number(table, ours.deviation)}" if ours.deviation is not None else ""
    return Cell(f"{ours.text} ({text}{spread})" if ours.text else text + spread)


def _number(table: MadeTable, value: float) -> str:
    digits = {"per cent": 2, "share": 3}.get(table.printed.unit)
    if digits is not None:
        return f"{value:.{digits}f}"
    return f"{value:,.3f}".rstrip("0").rstrip(".")


def _signed(videos: float | None) -> Cell:
    return Cell(MISSING if videos is None else f"{round(videos, 1) + 0.0:+.1f}")


def _warning(table: MadeTable) -> str:
    recipe = table.recipe
    if recipe.ground.own:
        return ""
    places = "; ".join(f"{domain} in place of {name}" for name, domain in recipe.ground.domains.items())
    return (
        f"Ours were made on {recipe.ground.title}, not on the paper's data: {places}. The numbers of the two are not"
        " comparable, and no difference between them is formed. What can be compared is whether rows differ from their"
        " reference row in the same direction."
    )


def _notes(table: MadeTable) -> str:
    papers, recipe = read_papers(), table.recipe
    paper = papers.paper_of(table.name)
    rules = recipe.settings.rules
    changed = ", ".join(f"{key}={value}" for key, value in recipe.overrides)
    notes = [
        f"The paper's numbers: {papers.source(table.name)}. {paper.pages}",
        f"The paper's rule: {paper.rule}",
        f"Checkpoint / threshold of ours: {_papers_rule(rules.papers)}; {rules.honest} is the honest one",
        f"Seeds: {', '.join(map(str, recipe.seeds))}"
        + ("; ± is the standard deviation over them" if len(recipe.seeds) > 1 else "; one, so no deviation is known"),
        *_video_notes(table),
        *(f"{note}." for note in recipe.size.differs),
        *([f"Overrides of the command line: {changed}."] if changed else []),
        *(f"{note.rstrip('.')}." for note in (*table.printed.notes, *recipe.table.notes)),
        *(f"{row.label}, our row: {row.choice.ours}." for row in table.rows if row.choice.ours),
        *(f"Not run here: {row.title}: {row.absent}." for row in table.rows if row.absent),
        *(f"Differs: {line}" for line in as_lines(deviations_of(table.name, table.rows))),
    ]
    return "\n".join(f"- {note}" for note in notes)


def _papers_rule(rule: str) -> str:
    if rule != RUNNING_BEST:
        return f"{rule} is the papers' rule"
    return (
        "the papers' rule is the lowest HTER, at the target's own EER threshold, and the highest AUC over the kept"
        " checkpoints, each by itself on the target, so that the two may be of two checkpoints"
    )


def _video_notes(table: MadeTable) -> list[str]:
    """Numbers of videos of every target, and one video in points of HTER."""
    found = {entry.tested[0].name: entry.videos for entry in table.entries.values() if entry.videos}
    ours = [
        f"{name}: {live} live, {attack} attack, one video is {one_video((live, attack)):.3f} points of HTER"
        for name, (live, attack) in found.items()
    ]
    theirs = [
        f"{head}: {live} live, {attack} attack, {one_video((live, attack)):.3f} points"
        for head, (live, attack) in {
            entry.head: entry.paper_videos for entry in table.entries.values() if entry.paper_videos
        }.items()
    ]
    return [
        *([f"Our videos: {'; '.join(ours)}."] if ours else ["Our videos: none judged yet."]),
        *([f"The paper's videos, by SSDG's lists: {'; '.join(theirs)}."] if theirs else []),
    ]


def _record(table: MadeTable, entry: Entry) -> dict[str, Any]:
    ground, videos = table.recipe.ground, differences(table, entry)
    row = next(row for row in table.rows if row.label == entry.row)
    live, attack = entry.videos or ("", "")
    return {
        "table": table.name,
        "row": entry.row,
        "head": entry.head,
        "metric": entry.metric,
        "unit": table.printed.unit,
        "paper": _or_empty(entry.printed.value if entry.printed else None),
        "paper_text": entry.printed.text if entry.printed else "",
        "paper_source": read_papers().source(table.name) if entry.printed else "",
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
        "honest_minus_papers_rule_videos": _or_empty(videos["between_rules"]),
        "ours_minus_paper_videos": _or_empty(videos["from_paper"]) if ground.own else "",
        "reference": table.recipe.table.reference,
        "paper_minus_reference_videos": _or_empty(videos["paper_gain"]),
        "ours_minus_reference_videos": _or_empty(videos["our_gain"]),
        "not_run": row.absent,
    }


def _or_empty(value: float | None) -> float | str:
    return "" if value is None else value

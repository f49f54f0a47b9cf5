"""A table that was made again, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipelines.report.cells import MISSING, Cell, Row, Table, to_markdown
from pipelines.report.targets import Target
from pipelines.reproduce.differences import between_rules, from_paper, our_gain, paper_gain
from pipelines.reproduce.numbers import read_papers
from pipelines.reproduce.rules import RUNNING_BEST
from pipelines.reproduce.sides import Entry, MadeTable
from pipelines.reproduce.values import Ours, one_video


def as_markdown(table: MadeTable) -> str:
    """The table: for each row the paper's line, ours under both rules, and differences in videos."""
    parts = [f"# {heading(table)}", _warning(table), *(to_markdown(part) for part in as_tables(table)), _notes(table)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def heading(table: MadeTable) -> str:
    """What the table is, and on which data."""
    paper, number = table.name.split("/")
    what = f"{paper} Table {number}: {table.printed.title}"
    ground = table.recipe.ground
    return f"{what}, on {ground.title}" + ("" if ground.own else ": not comparable with the paper's numbers")


def as_tables(table: MadeTable) -> list[Table]:
    """One table a metric where datasets are the columns, else one with the metrics as its columns."""
    if table.printed.heads == ("",):
        return [_table(table, "", [("", metric) for metric in table.printed.metrics])]
    return [_table(table, metric, [(head, metric) for head in table.printed.heads]) for metric in table.printed.metrics]


def _table(table: MadeTable, metric: str, columns: Sequence[tuple[str, str]]) -> Table:
    rows = []
    for row in table.rows:
        entries = [table.entries[row.label, head, name] for head, name in columns]
        rows += _lines(table, row.label, entries, bool(row.planned))
    unit = {"per cent": " (%)", "share": " (share of 1)", "count": ""}[table.printed.unit]
    title = f"{metric or table.printed.title}{unit}, {_where(table)}"
    heads = tuple(_head(table, head or name, head, name) for head, name in columns)
    return Table(title, heads, tuple(rows), first="row")


def _lines(table: MadeTable, label: str, entries: Sequence[Entry], is_run: bool) -> list[Row]:
    lines = [_line(label, "the paper", entries, lambda entry: Cell(_printed(table, entry)))]
    if not is_run:
        return lines
    tag = _tag(table)
    lines.append(_line(label, f"ours, papers' rule{tag}", entries, lambda entry: _cell(table, entry.papers)))
    lines.append(_line(label, f"ours, honest rule{tag}", entries, lambda entry: _cell(table, entry.honest)))
    if any(entry.counted for entry in entries):
        lines += [_line(label, what, entries, cell) for what, cell in _differences(table)]
    return [line for line in lines if any(cell.text != MISSING for cell in line.cells)]


def _differences(table: MadeTable) -> list[tuple[str, Callable[[Entry], Cell]]]:
    """Lines of differences in videos; a difference from the paper is formed on its own data alone."""
    reference, unit, tag = table.recipe.table.reference, table.printed.unit, _tag(table)

    def rules(entry: Entry) -> Cell:
        return _signed(between_rules(entry, unit))

    def paper(entry: Entry) -> Cell:
        return _signed(from_paper(entry, unit))

    def theirs(entry: Entry) -> Cell:
        return _signed(paper_gain(table, entry))

    def ours(entry: Entry) -> Cell:
        return _signed(our_gain(table, entry))

    found: list[tuple[str, Callable[[Entry], Cell]]] = [(f"in videos: ours, honest minus papers' rule{tag}", rules)]
    if table.recipe.ground.own:
        found.append(("in videos: ours, papers' rule, minus the paper", paper))
    if reference:
        found.append((f"in videos: the paper, minus its {reference}", theirs))
        found.append((f"in videos: ours, honest, minus our {reference}{tag}", ours))
    return found


def _line(label: str, what: str, entries: Sequence[Entry], cell: Callable[[Entry], Cell]) -> Row:
    return Row(f"{label}: {what}", tuple(cell(entry) for entry in entries))


def _head(table: MadeTable, shown: str, head: str, metric: str) -> str:
    """The printed head, and on other data what ours were tested on in its place."""
    if table.recipe.ground.own:
        return shown
    tested = next((e.tested for e in table.entries.values() if (e.head, e.metric) == (head, metric) and e.tested), ())
    if not tested:
        return f"{shown} [no domain of {table.recipe.ground.title} in its place]"
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


def _printed(table: MadeTable, entry: Entry) -> str:
    text = _number(table, entry.printed.value)
    return f"{entry.printed.text} ({text})" if entry.printed.text else text


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
    places = "; ".join(f"{domain} in the place of {name}" for name, domain in recipe.ground.domains.items())
    return (
        f"Ours were made on {recipe.ground.title}, not on the paper's data: {places}. The numbers of the two sides are"
        " never to be compared, and no difference between them is formed. What may be asked is whether rows differ from"
        " their reference in the same direction."
    )


def _notes(table: MadeTable) -> str:
    papers, recipe = read_papers(), table.recipe
    paper = papers.paper_of(table.name)
    rules = recipe.settings.rules
    changed = ", ".join(f"{key}={value}" for key, value in recipe.overrides)
    notes = [
        f"The paper's numbers: {papers.source(table.name)}. {paper.pages}",
        f"The paper's rule: {paper.rule}",
        f"Checkpoint / threshold of ours: {_papers_rule(rules.papers)}, {rules.honest} the honest one",
        f"Seeds: {', '.join(map(str, recipe.seeds))}"
        + ("; ± is the standard deviation over them" if len(recipe.seeds) > 1 else "; one, so no spread is known"),
        *_video_notes(table),
        *(f"{note}." for note in recipe.size.differs),
        *([f"Changed on the command line, over what stands above: {changed}."] if changed else []),
        *(f"{note.rstrip('.')}." for note in (*table.printed.notes, *recipe.table.notes)),
        *(f"Not run here: {row.label}: {row.absent}." for row in table.rows if row.absent),
    ]
    return "\n".join(f"- {note}" for note in notes)


def _papers_rule(rule: str) -> str:
    if rule != RUNNING_BEST:
        return f"{rule} is the papers' rule"
    return (
        "the papers' rule takes the lowest HTER, at the target's own EER threshold, and the highest AUC over the kept"
        " checkpoints, each looked for on the target by itself, so that the two may be of two checkpoints"
    )


def _video_notes(table: MadeTable) -> list[str]:
    """Counts of videos of every target, and what one of them is worth."""
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

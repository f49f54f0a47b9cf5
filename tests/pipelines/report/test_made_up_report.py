"""Every table, chart and sentence of a report on made-up studies, as `made_up_report.txt` holds them.

    PYTHONPATH=.:tests:tests/pipelines python tests/pipelines/report/test_made_up_report.py

writes that file anew, after somebody has looked at what differs. The studies' numbers are round ones, from which a cell
can be worked out by hand, see `made_up_study`.
"""

from __future__ import annotations

import html
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from made_up_study import gathered

from pipelines.files import write_json
from pipelines.report import facts
from pipelines.report.cells import Table, to_markdown
from pipelines.report.comparison import Statistics
from pipelines.report.contents import Gathered, Group
from pipelines.report.page import StudyPage, markdown, render, to_csv

HELD = Path(__file__).with_name("made_up_report.txt")
# A chart's longer lists of points are held as their number, their ends and their sums.
_MOST_POINTS = 8
# Of the second study, what the first does not show.
_OF_THE_CSV = "^study|unfinished|plain,False,seed=0|ssdg,False,seed=1.*from_booth,|,car,"
_OF_A_MATRIX = (
    "overview", "honest", "differences", "statistics", "attacks", "classification", "crossing", "domains",
    "matrices", "shapes",
)  # fmt: skip


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Gathered:
    return made(tmp_path_factory.mktemp("report") / "made-up")


@pytest.fixture(scope="module")
def pages(output: Gathered) -> list[StudyPage]:
    return [StudyPage(output, study) for study in output.studies]


def made(root: Path) -> Gathered:
    """The studies, with the few files that a report reads again."""
    write_json(root / "plan.json", {})
    write_json(root / "identity" / "01" / "config.json", {"identity": {"preset": "small", "domains": ["ann", "car"]}})
    generator = {"preset": "tiny", "domains": ["ann"], "autoencoder": {"name": "patch"}}
    write_json(root / "generator" / "02" / "config.json", {"generator": generator, "identity": {"name": "trained"}})
    write_json(root / "generator" / "03" / "config.json", {"generator": {"name": "memae"}})
    write_json(root / "generator" / "03" / "model" / "weights.json", {})
    return gathered(root)


def shown(output: Gathered, pages: Sequence[StudyPage]) -> list[str]:
    """The lines of the file."""
    found: list[str] = []
    for page in pages:
        found.append(f"# {page.study.title}")
        for name, value in vars(page).items():
            if page is not pages[1] or name in _OF_A_MATRIX:
                found += [f"## {name}", *_lines(value)]
    found.append("# all studies")
    for make in (facts.generator_table, facts.timing_table, facts.environment_table, facts.artefact_table):
        found += _lines(make(output))
    found += [line for line in to_csv(output.studies).splitlines() if re.search(_OF_THE_CSV, line)]
    found += [
        "# index.html",
        *_outside_tables(render(output, pages)),
        "# results.md",
        *_outside_tables(markdown(output, pages)),
    ]
    # An axis that several charts share is held once.
    return list(dict.fromkeys(line for line in found if line.strip()))


def _lines(value: object) -> Iterator[str]:
    """Anything that a page shows."""
    if isinstance(value, Table):
        yield f"{value.title} | {value.first}: {' | '.join(value.columns)}"
        for row in value.rows:
            cells = (f"{cell}{f' ({cell.kind})' if cell.kind else ''}" for cell in row.cells)
            yield f"{row.number} {row.name} ({row.note}): {' | '.join(cells)}"
        yield from (f"- {what}: {how}" for what, how in value.made)
    elif isinstance(value, str):
        yield from map(_shortened, re.split("(?=<[^/])", value)) if value.startswith("<svg") else [value]
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _lines(each)
    elif isinstance(value, Group):
        yield value.name
    elif isinstance(value, Statistics):
        yield from _lines((value.summary, value.pairs, value.words))
    elif value is None:
        yield "none"


def _outside_tables(page: str) -> list[str]:
    """The text of the page, or of the Markdown, around tables and charts."""
    around = re.sub(r"<style>.*?</style>|<svg.*?</svg>|<table.*?</table>|<dl.*?</dl>", "", page, flags=re.S)
    return [line for line in around.split("\n") if not line.startswith(("| ", "- "))]


def _shortened(part: str) -> str:
    """A part of a chart: names of attributes are left out, and of many points all but their ends and sums."""
    found = re.search(r'points="([^"]*)"', part)
    points = [tuple(map(float, pair.split(","))) for pair in found.group(1).split()] if found else []
    if found and len(points) > _MOST_POINTS:
        sums = (
            f"{sum(x for x, _ in points):.1f} {sum(y for _, y in points):.1f} {sum(x * y for x, y in points) / 100:.1f}"
        )
        part = part.replace(found.group(1), f"{len(points)} from {points[0]} to {points[-1]}, sums {sums}.")
    return re.sub(r' [\w-]+="([^"]*)"', r" \1", part)


def test_a_report_shows_what_it_showed(output: Gathered, pages: list[StudyPage]) -> None:
    now, held = shown(output, pages), HELD.read_text(encoding="utf-8").splitlines()
    different = [f"{one}\n-> {two}" for one, two in zip(held, now, strict=False) if not _same(one, two)]
    assert different[:5] == []
    assert len(now) == len(held)


def _same(one: str, two: str) -> bool:
    """Whether two lines are equal but for the last shown digit of a number that is no whole one."""
    number = re.compile(r"-?\d+\.\d+")
    if number.sub("", one) != number.sub("", two):
        return False
    pairs = zip(number.findall(one), number.findall(two), strict=True)
    return all(abs(float(a) - float(b)) < 1.5 * 10.0 ** -len(a.partition(".")[2]) for a, b in pairs)


def test_page_and_markdown_hold_every_table_and_chart(output: Gathered, pages: list[StudyPage]) -> None:
    page, text = html.unescape(render(output, pages)), markdown(output, pages)
    for one in pages:
        for table in one.in_words:
            assert to_markdown(table) in text
            assert all(f">{row.name}" in page and f">{cell.text}<" in page for row in table.rows for cell in row.cells)
        charts = (one.overview, one.roc, one.det, one.histograms, one.shapes, one.training, one.matrices)
        assert all(html.unescape(chart) in page for chart in _charts(charts))
    assert "\r" not in to_csv(output.studies)
    assert to_markdown(facts.timing_table(output)) in text
    generators = facts.generator_table(output)
    assert generators is not None
    assert to_markdown(generators) in text
    assert text.endswith(
        '## Unfinished experiments\n\n- ours "401" (seed=1): 0 of 3 detectors trained, 0 of 3 judged\n'
        "- drawn: nothing made yet: its faces are missing\n"
    )


def _charts(value: object) -> Iterator[str]:
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _charts(each)
    elif isinstance(value, str) and value.startswith("<svg"):
        yield value


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        study = made(Path(folder) / "made-up")
        HELD.write_text("\n".join(shown(study, [StudyPage(study, each) for each in study.studies])) + "\n")

"""Tables of made-up numbers as they are printed: every line and every difference, as `made_up_tables.md` holds them.

    PYTHONPATH=.:tests:tests/pipelines python tests/pipelines/reproduce/test_made_up_tables.py

writes that file anew, after somebody has looked at what differs. Ours are whole points, so that a difference in videos
can be worked out by hand: with 5 live videos and 10 attacks, one video is 5 points of HTER.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.report.contents import Target
from pipelines.reproduce.printing import _same_everywhere, as_csv, as_markdown
from pipelines.reproduce.request import Asked, listing, make_recipe, plan_lines
from pipelines.reproduce.rows import plan_rows
from pipelines.reproduce.values import Entry, MadeTable, Ours, both_sides

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "paper"
HELD = Path(__file__).resolve().with_name("made_up_tables.md")


def made(table: str, only: Sequence[str], change: Callable[[Entry], Entry], seeds: str = "0,2") -> MadeTable:
    """A table of which nothing is run, its entries changed."""
    asked = Asked(table, ("synthetic",), only=tuple(only), seeds=seeds, output=Path("nowhere"), configs=CONFIGS,
                  overrides=("train.steps=1", "seed=3"))  # fmt: skip
    recipe = make_recipe(asked)
    empty = both_sides(recipe, plan_rows(recipe, only))
    return replace(empty, entries={where: change(entry) for where, entry in empty.entries.items()})


def leave_out() -> MadeTable:
    """Table II: two rows are run; of one of them, one seed has only one of its targets."""

    def change(entry: Entry) -> Entry:
        base = {"SSDG-R [21]": 20.0, "SSAN-R [25]": 30.0}.get(entry.row)
        if base is None:
            return entry
        base += 10 * (entry.head == "M&I to O") + 50 * (entry.metric == "AUC")
        honest = Ours({0: base + 5, 2: base + 9} if base != 40 else {0: base + 5})
        return replace(entry, papers=Ours({0: base, 2: base + 2}), honest=honest, videos=(5, 10))

    return made("agfas/II", ("SSDG-R [21]", "SSAN-R [25]"), change)


def transfers() -> MadeTable:
    """Table 8 of the other paper, in shares, whose best and worst transfers have a name."""

    def change(entry: Entry) -> Entry:
        if entry.row != "3DMAD, LivenessNet" or "Transfer" not in entry.metric:
            return entry
        return replace(entry, papers=Ours({0: 0.75}, "CSMAD"), honest=Ours({0: 0.5}, "MSSpoof"))

    return made("kuznetsov/8", ("3DMAD, LivenessNet",), change, seeds="0")


def trainings() -> MadeTable:
    """Table 13, of counts."""

    def change(entry: Entry) -> Entry:
        values = {"Total Parameters": 1_234_567.0, "Training Time (s)": 4603.1256, "Val. Loss": 0.5}
        ours = Ours({0: values[entry.metric]}) if entry.metric in values else Ours({})
        return replace(entry, papers=ours, honest=ours) if entry.row == "LivenessNet" else entry

    return made("kuznetsov/13", ("LivenessNet",), change, seeds="0")


def on_own_ground(table: MadeTable) -> MadeTable:
    """As if the data were the paper's."""
    ground = replace(table.recipe.ground, own=True, title="the paper's own datasets")
    return replace(table, recipe=replace(table.recipe, ground=ground, overrides=()))


def by_dataset() -> MadeTable:
    """Table 15, of whose five datasets the benchmark has no domain for the last; nothing is judged yet."""
    return made("kuznetsov/15", ("LivenessNet",), lambda entry: entry, seeds="0")


TABLES = (leave_out, lambda: on_own_ground(leave_out()), transfers, trainings, by_dataset)


def shown() -> list[str]:
    """The lines of the file; what differs is held by a page of its own, and rows of the paper alone by its tables."""
    found: list[str] = []
    for make in TABLES:
        table = make()
        lines = as_markdown(table).splitlines()
        ours = [row.title for row in table.rows if row.planned and not row.absent]
        found += [
            line for line in lines
            if line and not line.startswith(("- Differs: ", "- Not run here: "))
            and (not line.startswith("| ") or line.startswith("| row") or any(name in line for name in ours))
        ]  # fmt: skip
    rows = list(csv.DictReader(as_csv(leave_out()).splitlines()))
    for row in (rows[0], *(row for row in rows if row["ours_honest"])):
        found.append("; ".join(f"{name}: {value}" for name, value in row.items() if value))
    found += listing(CONFIGS)
    for asked in (
        Asked("agfas/IV", data=Path("nowhere"), configs=CONFIGS, only=("DFG† (Ours)",)),
        Asked("agfas/V", ("synthetic",), configs=CONFIGS, seeds="0,1", names=("C=webcam",)),
        Asked("kuznetsov/15", data=Path("nowhere"), output=Path("out"), configs=CONFIGS),
    ):
        recipe = make_recipe(asked)
        lines = plan_lines(recipe, plan_rows(recipe, asked.only))
        found += [line for line in lines if not line.startswith("differs: ")]
    return list(dict.fromkeys(found))


def test_tables_and_plans_are_printed_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where there are no data and no weights
    assert shown() == HELD.read_text(encoding="utf-8").splitlines()


def test_the_columns_of_the_table_for_programs() -> None:
    header = as_csv(leave_out()).splitlines()[0].split(",")
    assert header == [
        "table", "row", "head", "metric", "unit", "paper", "paper_text", "paper_source", "data", "comparable", "tested",
        "papers_rule", "honest_rule", "ours_papers_rule", "ours_papers_rule_sd", "ours_honest", "ours_honest_sd",
        "ours_text", "seeds", "live_videos", "attack_videos", "one_video_points",
        "honest_minus_papers_rule_videos", "ours_minus_paper_videos", "reference", "paper_minus_reference_videos",
        "ours_minus_reference_videos", "not_run",
    ]  # fmt: skip


def test_a_head_names_what_all_its_rows_are_tested_on() -> None:
    table = trainings()
    other = (Target("elsewhere"),)

    def changed(metric: str) -> MadeTable:
        where = "LivenessNet", "", metric
        rows = {**table.entries, where: replace(table.entries[where], tested=other)}
        second = {("again", *key[1:]): entry for key, entry in table.entries.items()}
        return replace(table, entries={**rows, **second})

    assert _same_everywhere(table, "", "Val. Loss")
    assert _same_everywhere(changed("Training Time (s)"), "", "Val. Loss")
    assert not _same_everywhere(changed("Val. Loss"), "", "Val. Loss")


if __name__ == "__main__":
    os.chdir("/")
    HELD.write_text("\n".join(shown()) + "\n", encoding="utf-8")

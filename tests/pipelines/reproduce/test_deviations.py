"""What differs from papers and public code: one file, which `docs/parity.md` and `agfas reproduce` show.

A new row is a new entry under `rows` of its method's group in `pipelines/reproduce/deviations.yaml`, in the words that
the head of that file explains; a method without a group gets one. Then `python -m scripts.parity` writes the page.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from oanet.names import DETECTORS, OBJECTIVES
from pipelines.cues.settings import BUILTIN_SOURCES
from pipelines.reproduce.deviations import Deviation, as_page, read_deviations
from pipelines.reproduce.papers import read_papers
from pipelines.reproduce.request import Asked, make_recipe, plan_lines
from pipelines.reproduce.rows import plan_rows
from pipelines.training.settings import AugmentSettings

ROOT = Path(__file__).parents[3]


def lines_of(table: str, **options) -> str:
    recipe = make_recipe(Asked(table, ("synthetic",), configs=ROOT / "configs" / "paper", **options))
    return "\n".join(plan_lines(recipe, plan_rows(recipe, options.get("only", ()))))


def test_the_page_is_written_from_the_file():
    assert (ROOT / "docs" / "parity.md").read_text(encoding="utf-8") == as_page(), "python -m scripts.parity writes it"


def test_groups_name_parts_that_exist():
    known = {
        "paper": read_papers().papers,
        "detector": DETECTORS.builtin,
        "objective": OBJECTIVES.builtin,
        "cue": BUILTIN_SOURCES,
        "augment": AugmentSettings.model_fields,
    }
    for group in read_deviations().groups:
        for kind, name in (part.split(":") for part in group.used_by):
            assert name in known[kind], f"{group.title}: {kind}:{name}"


def test_a_row_says_whether_it_matters():
    with pytest.raises(ValidationError, match="matters"):
        Deviation(what="Noise", theirs="unseeded", ours="seeded", why="again", matters="perhaps")


@pytest.mark.parametrize(
    ("table", "shown", "not_shown"),
    [
        ("agfas/I", ["OA-Net", "SSDG", "SSAN", "SA-FAS", "AnoDDPM", "De-fake Face Generator"], ["MemAE", "AttackNet"]),
        ("agfas/IV", ["OA-Net", "MemAE", "Deep SVDD", "AnoDDPM"], ["SSAN", "FLIP"]),
        ("kuznetsov/7", ["LivenessNet and AttackNet"], ["AG-FAS", "SSDG"]),
    ],
)
def test_a_table_prints_those_of_its_methods(table, shown, not_shown):
    differs = [line for line in lines_of(table).splitlines() if line.startswith("differs: ")]
    titles = " ".join(line.split(". ")[0] for line in differs)
    assert [name for name in shown if name not in titles] == []
    assert [name for name in not_shown if name in titles] == []
    assert any("Matters for Table I: not in it" in line for line in differs) == (table != "agfas/I")

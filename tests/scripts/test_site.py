"""What the site adds to docs/: it names everything that there is, and its links lead into the site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from oanet.names import DETECTORS, OBJECTIVES
from pipelines.cli import COMMANDS
from pipelines.experiment.keys import keys
from pipelines.synthetic.domains import PAD_DOMAINS
from scripts.site.commands import commands_page
from scripts.site.configuration import blocks_page, options_page
from scripts.site.gallery import gallery_page
from scripts.site.links import site_links
from scripts.site.table import table
from scripts.site.tables import DOCS, tables_page


@pytest.mark.parametrize(
    ("page", "link", "moved"),
    [
        ("index.md", "docs/cue.md#forms", "cue.md#forms"),
        ("index.md", "CONTRIBUTING.md", "contributing.md"),
        ("tutorials/x.md", "../../CHANGELOG.md", "../changelog.md"),
        ("tutorials/x.md", "../cue.md", "../cue.md"),
        ("x.md", "../CITATION.cff", "CITATION.cff"),
        ("x.md", "reproduce/real", "tables.md#reproducereal"),
        ("x.md", "reproduce", "tables.md#reproducereal"),
        *(("x.md", kept, kept) for kept in ("https://x.org/docs/y", "#here", "../configs/loo.yaml")),
    ],
)
def test_links_lead_into_the_site(page, link, moved):
    assert site_links(f"see [a]({link}).", page) == f"see [a]({moved})."


def test_commands_and_keys_are_all_there():
    commands = commands_page()
    assert re.findall(r"^## agfas (.*)$", commands, re.MULTILINE) == [
        command.__name__.replace("_", "-") for command in COMMANDS
    ]
    assert "| `--max-bpcer" in commands
    assert "[OPTIONS]" in commands
    listed = set(re.findall(r"^\| `([^`]+)`", blocks_page(), re.MULTILINE))
    assert listed >= {key.name for key in keys() if "." in key.name}
    for block, names in (("detector", DETECTORS), ("objective", OBJECTIVES)):
        assert re.findall(r"^### \w+ (.*)$", options_page(block), re.MULTILINE) == [*names.builtin]


def test_the_gallery_shows_every_kind_of_every_camera():
    rows = gallery_page().splitlines()[2:]
    for row, (domain, camera) in zip(rows, PAD_DOMAINS.items(), strict=False):
        assert row.startswith(f"| {domain} |")
        kinds = {"live", *(kind for kind, share in camera.mix.items() if share)}
        assert set(re.findall(rf"gallery/{domain}-(\w+)-", row)) == kinds


def test_every_table_is_linked():
    linked = set(re.findall(r"\]\(([^)]+\.csv)\)", tables_page()))
    assert linked == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.csv")}


def test_a_cell_may_hold_any_text():
    assert table(("a",), [("x|y <z> *a* `a_b` c_d\ne",)]) == "| a |\n| --- |\n| x\\|y &lt;z> \\*a\\* `a_b` c\\_d<br>e |"


def test_nothing_of_the_site_is_fetched():
    texts = [path.read_text(encoding="utf-8") for path in Path(DOCS, "theme").iterdir()]
    assert not any(re.search(r"https?://|@import|//cdn", text) for text in texts)

"""`agfas prepare` over a hundred hostile files: every one is read, refused with its reason, or passed over by name."""

from __future__ import annotations

import csv
import re

import pytest
from hostile import PASSED_OVER, READ, REFUSED, cases, write_corpus

from pipelines.data.prepare.names import printable
from pipelines.data.prepare.settings import build_recipe
from pipelines.data.records import load_faces
from pipelines.stages import prepare


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Cases made, exit code, sources read, reasons of refusal by name, names passed over, the folder around it all."""
    folder = tmp_path_factory.mktemp("hostile")
    made = write_corpus(folder / "source")
    recipe = build_recipe({"aligned": True, "size": 32, "frames": 2, "workers": 2}, "the test")
    code = prepare.run(folder / "source", folder / "out", recipe)
    read = set(load_faces(folder / "out")["source"][:])
    return made, code, read, rows(folder / "out" / "refused.csv"), rows(folder / "out" / "passed_over.csv"), folder


def rows(path, column: str = "reason") -> dict[str, str]:
    with path.open(newline="", encoding="utf-8") as stream:
        return {row["path"]: row[column] for row in csv.DictReader(stream)}


def test_the_corpus_is_as_large_as_it_says():
    names = [case.name for case in cases()]
    assert len(names) == len(set(names)) >= 95


def test_every_file_comes_out_as_it_should(outcome):
    made, _, read, refused, passed_over, _ = outcome
    assert len(made) >= 90
    wrong = []
    for case in made:
        name = printable(f"bonafide/{case.name}")
        found = [
            what for what, names in ((READ, read), (REFUSED, refused), (PASSED_OVER, passed_over)) if name in names
        ]
        if found != [case.outcome] or (case.outcome == REFUSED and case.reason not in refused[name]):
            wrong.append((case.name, case.outcome, case.reason, found, refused.get(name)))
    assert not wrong


def test_nothing_is_lost_and_nothing_written_elsewhere(outcome):
    _, _, read, refused, passed_over, folder = outcome
    below = [path for path in (folder / "source").rglob("*") if path.is_symlink() or not path.is_dir()]
    accounted = read | set(refused) | set(passed_over)
    assert {printable(path.relative_to(folder / "source").as_posix()) for path in below} <= accounted
    assert {path.name for path in folder.iterdir()} == {"source", "out"}


def test_what_was_read_in_part_is_noted(outcome):
    noted = rows(outcome[-1] / "out" / "noted.csv", "note")
    first = "it is animated; its first frame is read"
    assert {name.removeprefix("bonafide/"): note for name, note in noted.items()} == {
        **dict.fromkeys(("avif-animated.avif", "gif-animated.gif", "png-animated.png", "webp-animated.webp"), first),
        "tiff-pages.tif": "it has further pages; the first is read",
        "cut-at-90.mkv": noted["bonafide/cut-at-90.mkv"],
    }
    assert re.fullmatch(
        r"it is damaged or cut short; of 30 frames, 2\d can be decoded", noted["bonafide/cut-at-90.mkv"]
    )


def test_too_many_refusals_end_with_exit_code_1(outcome):
    assert outcome[1] == 1

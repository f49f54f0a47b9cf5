"""Faults are found, drawn, put into a copy and noticed; the table says what was not."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipelines.errors import AgfasError
from scripts.mutation import program
from scripts.mutation.changes import changes_of, is_sound
from scripts.mutation.copies import clone_files, faulty, mirror
from scripts.mutation.program import Results, Verdict, equivalents, report
from scripts.mutation.sample import Room, draw, room_of, rooms

SOURCE = b'''"""A docstring of 3 words."""

import math

NAMES = ["one", "two words"]


def clip(value: int = 7, *, low: float = 0.5) -> int:
    """Not 1 fault in here."""
    if value < 2 and not low:
        raise ValueError("never", 5)
    value = value + 1
    self.total += len(NAMES[1:])
    return min(value, high, key=abs)
'''


def test_the_faults_of_a_file():
    found = {(change.line, change.kind, change.new) for change in changes_of("dfg/a.py", SOURCE)}
    assert found == {
        (5, "constant", "'oneX'"),
        (8, "constant", "8"),
        (8, "constant", "6"),
        (8, "constant", "0.75"),
        (10, "condition negated", "(not (value < 2 and not low))"),
        (10, "comparison", "<="),
        (10, "comparison", ">="),
        (10, "constant", "3"),
        (10, "constant", "1"),
        (10, "boolean", "or"),
        (10, "unary dropped", "(low)"),
        (11, "raise deleted", "pass"),
        (12, "statement deleted", "pass"),
        (12, "arithmetic", "-"),
        (12, "constant", "2"),
        (13, "statement deleted", "pass"),
        (13, "arithmetic", "-="),
        (13, "bound dropped", ""),
        (13, "constant", "2"),
        (14, "return value", "None"),
        (14, "opposite", "max"),
        (14, "keyword dropped", ""),
    }


def test_a_fault_changes_its_place_and_the_program():
    changes = changes_of("dfg/a.py", SOURCE)
    assert all(is_sound(change, SOURCE) for change in changes)
    (dropped,) = (change for change in changes if change.kind == "keyword dropped")
    assert b"    return min(value, high, )" in dropped.applied(SOURCE)
    assert dropped.scope == "clip"
    (raised,) = (change for change in changes if change.kind == "raise deleted")
    assert raised.applied(SOURCE) == SOURCE.replace(b'raise ValueError("never", 5)', b"pass")


def test_a_fault_is_known_by_its_content():
    moved = SOURCE.replace(b"import math\n", b"import math\nimport sys\n\n")
    before, after = changes_of("dfg/a.py", SOURCE), changes_of("dfg/a.py", moved)
    assert [change.key for change in before] == [change.key for change in after]
    assert [change.line + 2 for change in before] == [change.line for change in after]
    assert len({change.key for change in before}) == len(before)
    assert not {change.key for change in before} & {change.key for change in changes_of("dfg/b.py", SOURCE)}


def test_rooms_have_shares_in_proportion_and_a_line_is_drawn_once():
    many = b"".join(b"A%d = %d\n" % (number, number + 5) for number in range(60))
    few = many.splitlines(keepends=True)
    chosen = [Room("dfg", {"dfg/a.py": many}), Room("oanet", {"oanet/a.py": b"".join(few[:20])})]
    drawn = draw(chosen, 10, seed=1)
    assert [sum(change.path.startswith(room) for change in drawn) for room in ("dfg", "oanet")] == [8, 2]
    assert len({(change.path, change.line) for change in drawn}) == 10
    assert draw(chosen, 10, seed=1) == drawn
    assert draw(chosen, 10, seed=2) != drawn
    # What was drawn stays drawn among more, and whatever stands above it.
    assert set(drawn) <= set(draw(chosen, 40, seed=1))
    later = [Room("dfg", {"dfg/a.py": b"\n" + many}), chosen[1]]
    assert [change.key for change in draw(later, 10, seed=1)] == [change.key for change in drawn]


def test_rooms_are_packages_and_the_folders_of_the_program():
    names = [room.name for room in rooms(program.ROOT)]
    assert {"dfg", "oanet", "pipelines", "pipelines/data"} <= set(names)
    assert room_of("pipelines/data/detection/mtcnn.py") == "pipelines/data"
    assert room_of("pipelines/files.py") == "pipelines"
    (one,) = rooms(program.ROOT, ["pipelines/data/crop.py"])
    assert list(one.files) == ["pipelines/data/crop.py"]
    with pytest.raises(AgfasError, match="no source in pipelines/nowhere"):
        rooms(program.ROOT, ["pipelines/nowhere"])


def test_a_fault_stays_in_its_copy(tmp_path):
    root, copy = tmp_path / "clone", tmp_path / "copy"
    (root / "dfg").mkdir(parents=True)
    (root / "dfg" / "a.py").write_bytes(SOURCE)
    (root / "old.py").write_text("gone soon\n")
    mirror(root, copy, clone_files(root))
    (root / "old.py").unlink()
    mirror(root, copy, clone_files(root))
    assert sorted(path.name for path in copy.rglob("*.py")) == ["a.py"]
    path, change = copy / "dfg" / "a.py", changes_of("dfg/a.py", SOURCE)[0]
    before = path.stat().st_mtime_ns
    with faulty(copy, change):
        assert path.read_bytes() == change.applied(SOURCE)
        assert path.stat().st_mtime_ns // 10**9 != before // 10**9  # compiled files are valid by the second
    assert path.read_bytes() == (root / "dfg" / "a.py").read_bytes() == SOURCE
    assert path.stat().st_mtime_ns == before


def verdict(key: str, result: str, room: str = "dfg") -> Verdict:
    return Verdict(key, room, "dfg/a.py", 3, "constant", "a = 1", "1", "2", result, tried=4, reaching=9, seconds=1.5)


def test_results_are_kept_and_the_last_counts(tmp_path):
    results = Results(tmp_path / "runs" / "results.csv")
    for row in (verdict("a", "survived"), verdict("b", "killed"), verdict("a", "killed")):
        results.add(row)
    assert results.done == {"a": "killed", "b": "killed"}


def test_the_score_is_given_with_and_without_what_changes_nothing():
    rows = [verdict(str(number), "killed", "oanet") for number in range(8)]
    rows += [verdict("same", "survived"), verdict("gap", "survived"), verdict("far", "unreached")]
    lines = report(rows, {"same": "a speed alone"}).splitlines()
    assert "    judged to change nothing: a speed alone" in lines
    assert "gap dfg/a.py:3 (constant; 4 of 9 tests)" in lines
    assert "| dfg | 3 | 0 | 1 | 1 | 1.5 |" in lines
    assert "| oanet | 8 | 8 | 0 | 0 | 1.5 |" in lines
    # Clopper and Pearson's intervals, as published tables have them.
    assert lines[-1] == (
        "Noticed: 8 of 11 = 72.7 % [39.0, 94.0]; without those that change nothing: 8 of 10 = 80.0 % [44.4, 97.5]."
    )


def test_what_changes_nothing_has_a_reason(tmp_path):
    for row in equivalents().values():
        assert len(row) > 10
    path = tmp_path / "equivalent.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["key", "place", "reason"], ["a", "dfg/a.py", ""]])
    with pytest.raises(AgfasError, match="a fault without a reason"):
        equivalents(path)


PRODUCT = "def double(value):\n    return 2 * value\n\n\ndef never(value):\n    return value + 1\n"
TESTS = """
import pytest
from dfg.a import double

@pytest.fixture(scope="module")
def made():
    return double(3)

def test_made(made):
    assert made == 6

def test_far():
    assert 1 == 1
"""


@pytest.mark.slow
def test_a_small_clone(tmp_path, monkeypatch, capsys):
    """Measured, tried and shown: one line whose test notices, one that no test reaches."""
    root = tmp_path / "clone"
    for name, text in {"dfg/__init__.py": "", "dfg/a.py": PRODUCT, "tests/test_a.py": TESTS}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\nmarkers = ["slow: slow"]\n')
    monkeypatch.setattr(program, "ROOT", root)
    monkeypatch.setattr(program, "import_libraries", lambda: None)
    command = ["--number", "9", "--folder", str(tmp_path / "work"), "--jobs", "2"]
    assert program.main(command) == 0
    shown = capsys.readouterr().out
    assert "dfg/a.py:6" in shown
    assert "dfg/a.py:2" not in shown
    assert "| dfg | 2 | 1 | 1 | 0 |" in shown
    assert program.main([*command, "--show"]) == 0
    assert capsys.readouterr().out == shown
    assert Path(root / "dfg" / "a.py").read_text() == PRODUCT

"""constraints.txt names every direct dependency, in a version that pyproject.toml admits."""

from __future__ import annotations

from packaging.requirements import Requirement

from scripts import constraints
from scripts.constraints import PATH, PYTHONS, canonical, direct, installed


def test_every_dependency_is_pinned_within_its_range():
    lines = [line for line in PATH.read_text().splitlines() if not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)
    needs = direct()
    assert len(needs) > 30
    for need in needs:
        assert need.specifier.contains(pinned[canonical(need.name)]), need


def test_what_dependencies_bring_is_found():
    assert {"pytest", "pluggy", "iniconfig"} <= {*installed([Requirement("pytest>=8")])}
    assert installed([Requirement("no-such-package-here")]) == {}


def test_a_missing_wheel_is_named(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["constraints", "--wheels"])
    monkeypatch.setattr(constraints, "has_wheel", lambda need, python: (need.name, python) != ("torch", "3.14"))
    assert constraints.main() == 1
    assert capsys.readouterr().out.strip().endswith(": no wheel for Python 3.14")
    monkeypatch.setattr(constraints, "has_wheel", lambda need, python: python in PYTHONS)
    assert constraints.main() == 0

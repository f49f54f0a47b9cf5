"""The shell scripts, with stubs in the place of Python and of what it installs: what is called, and how often."""

from __future__ import annotations

import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUB = '#!/bin/sh\necho "$(basename "$0") $*" >> "$STUB_LOG"\n'


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment whose programs write into `calls` what they were called with."""
    folder = tmp_path / "environment of a test"
    (folder / "bin").mkdir(parents=True)
    for name in ("python", "agfas", "ruff", "mypy"):
        (folder / "bin" / name).write_text(STUB)
        (folder / "bin" / name).chmod(0o755)
    return folder


def call(venv: Path, script: str, *arguments: str, where: Path = ROOT, **more: str) -> tuple[int, str, list[str]]:
    """Exit code, what was said, and the calls that this run made."""
    log = venv / "calls"
    log.write_text("")
    environment = {**os.environ, "AGFAS_VENV": str(venv), "STUB_LOG": str(log), **more}
    environment.pop("AGFAS_EXTRAS", None) if "AGFAS_EXTRAS" not in more else None
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / script), *arguments], cwd=where, env=environment, capture_output=True, text=True
    )
    calls = log.read_text().splitlines()
    compiled = f"python -m compileall -qq -j 0 {venv}/lib"
    assert [line for line, after in pairwise(calls) if after == compiled] == [
        line for line in calls if line.startswith("python -m pip")
    ]
    return done.returncode, done.stderr, [line for line in calls if line != compiled]


def pip(extras: str = "") -> str:
    return f"python -m pip install --quiet --disable-pip-version-check --no-compile --editable .{extras}"


QUICK = "agfas quickstart configs/quickstart.yaml"


def test_what_was_installed_is_not_installed_again(venv):
    assert call(venv, "quickstart.sh")[2] == [pip(), QUICK]
    assert call(venv, "quickstart.sh")[2] == [QUICK]
    assert call(venv, "test.sh")[2][0] == pip("[dev]")
    for _ in range(2):  # in turn: the extras that one asks for do the other no harm
        assert call(venv, "quickstart.sh")[2] == [QUICK]
        assert pip("[dev]") not in call(venv, "test.sh")[2]
    assert call(venv, "quickstart.sh", AGFAS_EXTRAS="[ray, demo]")[2][0] == pip("[demo,dev,ray]")
    assert call(venv, "quickstart.sh", AGFAS_EXTRAS="[demo]")[2] == [QUICK]
    stamp = venv / "agfas-installed"
    stamp.write_text(stamp.read_text().replace(stamp.read_text().split()[0], "1", 1))
    assert call(venv, "quickstart.sh")[2] == [pip("[demo,dev,ray]"), QUICK]  # pyproject.toml is another


def test_the_output_folder_is_the_callers(venv, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    for given in (["--output", "out"], ["--output=out"]):
        _, _, calls = call(venv, "quickstart.sh", *given, "--minutes", "2", "seed=1", where=here)
        assert calls[-1] == f"{QUICK} --output {here / 'out'} --minutes 2 seed=1"
    assert (here / "out").is_dir()


@pytest.mark.parametrize("given", [["--output"], ["--output="], ["--output", "--minutes", "2"]])
def test_an_output_folder_without_a_name_is_said(venv, given):
    code, said, calls = call(venv, "quickstart.sh", *given)
    assert (code, calls) == (2, [])
    assert "--output needs the folder" in said


def test_help_is_the_scripts_own(venv, tmp_path):
    assert call(venv, "quickstart.sh", "--help", where=tmp_path) == (0, "", [])


def test_arguments_reach_pytest(venv):
    style, tests = (
        ["ruff check .", "ruff format --check ."],
        "python -m pytest -n 2 --dist loadfile --no-loadscope-reorder",
    )
    for given, expected in (([], f"{tests} -m not slow"), (["--all", "-x"], f"{tests} -x")):
        calls = [line for line in call(venv, "test.sh", *given)[2] if line != pip("[dev]")]
        assert calls[:2] == style
        assert sorted(calls[2:]) == ["mypy ", expected]  # at the same time


@pytest.mark.parametrize("name", ["ruff", "mypy", "python"])
def test_what_fails_is_the_exit_code(venv, name):
    call(venv, "test.sh")
    assert call(venv, "test.sh")[0] == 0
    program = venv / "bin" / name
    program.write_text("#!/bin/sh\necho a fault of types\nexit 3\n")
    assert call(venv, "test.sh")[0] == 3


def test_arrays_that_may_be_empty_are_guarded():
    """bash before 4.4 takes an empty array for an unset name, and `set -u` refuses that."""
    for path in (ROOT / "scripts").glob("*.sh"):
        for line in path.read_text().splitlines():
            assert '"${' not in line or "[@]}" not in line or "[@]+" in line, f"{path.name}: {line}"

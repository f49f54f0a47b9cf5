"""Which tests reach which line: measured once by coverage.py with a context a test, kept, and measured again for
files of tests that have changed.

What a fixture of a wider scope executes is reached by every test that uses it. Processes that tests start are measured
too. A test that fails or is skipped without a fault is left out.
"""

from __future__ import annotations

import ast
import difflib
import gzip
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scripts.mutation.child import run_tests, shared_out, spent
from scripts.mutation.sample import PACKAGES

if TYPE_CHECKING:
    from coverage import Coverage

_FILES_A_RUN = 8
_CONTEXT = "AGFAS_MUTATION_TEST"
_SETTINGS = """
[run]
context = ${{{context}-}}
data_file = {folder}/data
parallel = true
concurrency = multiprocessing,thread
include = {include}
disable_warnings = no-data-collected,module-not-measured,module-not-imported,couldnt-parse,no-ctracer
"""


class _Contexts:
    """A pytest plugin: coverage with a context a test and a shared fixture."""

    def __init__(self, folder: Path, settings: Path) -> None:
        from coverage import Coverage

        self._folder = folder
        self._coverage: Coverage = Coverage(config_file=str(settings), context="")
        self._coverage.start()
        self._context = "import"
        self._tests: dict[str, dict[str, Any]] = {}

    def _switch(self, context: str) -> str:
        before, self._context = self._context, context
        self._coverage.switch_context(context)
        os.environ[_CONTEXT] = context
        return before

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        definitions = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009  (pytest has no public way)
        shared = [_fixture(each[-1]) for each in definitions.values() if each[-1].scope != "function"]
        self._tests[item.nodeid] = {"fixtures": shared, "passed": False, "start": time.time(), "spent": spent()}
        self._switch(item.nodeid)
        try:
            return (yield)
        finally:
            self._switch("between")
            test = self._tests[item.nodeid]
            test["wall"], test["seconds"] = time.time() - test.pop("start"), spent() - test.pop("spent")
            (self._folder / "tests.json").write_text(json.dumps(self._tests))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        if fixturedef.scope == "function":
            return (yield)
        before = self._switch(_fixture(fixturedef))
        try:
            return (yield)
        finally:
            self._switch(before)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._tests[report.nodeid]["passed"] = True

    def finish(self) -> None:
        self._coverage.stop()
        self._coverage.save()


def _fixture(definition: pytest.FixtureDef[Any]) -> str:
    return f"fixture {definition.baseid}::{definition.argname}"


class Reach:
    """The map, in `folder`: a file for each file of tests, and the sources that they were measured on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "sources").mkdir(parents=True, exist_ok=True)
        # By file of tests: {"test": bytes' hash, "sources": {path: hash}, "tests": {...}, "lines": {path: {...}}}
        self._files: dict[str, dict[str, Any]] = {}
        self._same_lines: dict[tuple[str, int], dict[int, int]] = {}

    def load(self) -> None:
        """Read what there is."""
        for path in sorted(self._folder.glob("*.json.gz")):
            with gzip.open(path, "rt") as file:
                entry = json.load(file)
            self._files[entry["file"]] = entry

    def update(self, copy: Path, jobs: int = 1) -> None:
        """Measure the files of tests that are new or changed, several at a time."""
        self.load()
        files = [path.relative_to(copy).as_posix() for path in sorted((copy / "tests").rglob("test_*.py"))]
        for gone in set(self._files) - set(files):
            self._path(gone).unlink()
            del self._files[gone]
        waiting = [file for file in files if self._files.get(file, {}).get("test") != _hash(copy / file)]
        runs = [waiting[place : place + _FILES_A_RUN] for place in range(0, len(waiting), _FILES_A_RUN)]

        def measure(job: int, place: int) -> None:
            print(f"Finding what tests reach: {place} of {len(runs)} runs", file=sys.stderr)
            self._measure(copy, runs[place], self._folder / f"work-{job}")

        shared_out(len(runs), jobs, measure)
        self.load()

    def _path(self, file: str) -> Path:
        return self._folder / f"{file.replace('/', '--')}.json.gz"

    def _measure(self, copy: Path, files: Sequence[str], work: Path) -> None:
        shutil.rmtree(work, ignore_errors=True)
        (work / "start").mkdir(parents=True)
        settings = work / "coveragerc"
        include = ",".join(f"{copy}/{package}/*" for package in PACKAGES)
        settings.write_text(_SETTINGS.format(context=_CONTEXT, folder=work, include=include))
        (work / "start" / "sitecustomize.py").write_text("import coverage\ncoverage.process_startup()\n")
        os.environ |= {"COVERAGE_PROCESS_START": str(settings), "AGFAS_MUTATION_PATH": str(work / "start")}
        try:
            run_tests(copy, files, None, stop=False, plugins=lambda: [_Contexts(work, settings)], log=work / "log")
        finally:
            for name in ("COVERAGE_PROCESS_START", "AGFAS_MUTATION_PATH"):
                del os.environ[name]
        self._keep(copy, files, work)

    def _keep(self, copy: Path, files: Sequence[str], work: Path) -> None:
        tests = json.loads((work / "tests.json").read_text()) if (work / "tests.json").exists() else {}
        lines = _contexts(copy, work)
        sources = {path.relative_to(copy).as_posix(): path for name in PACKAGES for path in (copy / name).rglob("*.py")}
        hashes = {name: _hash(path) for name, path in sources.items()}
        for name, path in sources.items():
            kept = self._folder / "sources" / hashes[name]
            if not kept.exists():
                shutil.copyfile(path, kept)
        for file in files:
            own = {name: test for name, test in tests.items() if name.split("::")[0] == file and test["passed"]}
            users: dict[str, list[str]] = defaultdict(list)
            for name, test in own.items():
                for context in (name, *test["fixtures"]):
                    users[context].append(name)
            names = {name: place for place, name in enumerate(own)}
            reached: dict[str, dict[int, list[int]]] = defaultdict(dict)
            for path_, by_line in lines.items():
                for line, contexts in by_line.items():
                    places = sorted({names[name] for context in contexts for name in users.get(context, ())})
                    if places:
                        reached[path_][line] = places
            entry = {
                "file": file,
                "test": _hash(copy / file),
                "sources": {path_: hashes[path_] for path_ in reached},
                "tests": {name: {"seconds": test["seconds"], "wall": test["wall"]} for name, test in own.items()},
                "lines": reached,
            }
            with gzip.open(self._path(file), "wt") as out:
                json.dump(entry, out)

    # Questions.

    def seconds(self) -> dict[str, float]:
        """Processor time of every test, under measurement."""
        return {name: test["seconds"] for entry in self._files.values() for name, test in entry["tests"].items()}

    def walls(self) -> dict[str, float]:
        """Time by the clock of every test, under measurement."""
        return {name: test["wall"] for entry in self._files.values() for name, test in entry["tests"].items()}

    def tests_of(self, copy: Path, path: str, line: int) -> list[str]:
        """The tests that reach a line, those of the files that are most about its module first, quick ones first.

        A line that runs at import (a constant, a field, a default) is reached by all that run anything of the module,
        or of a module that imports it, by files of tests that name it, and by the tests of the whole house, which
        stand in `tests` itself.
        """
        now = (copy / path).read_text().split("\n")
        span, at_import = _function_at(now, line)
        direct = self._reaching(now, path, range(line, line + 1)) if span else set()
        if span and not direct:
            direct = self._reaching(now, path, span)
        if not span:
            direct = self._reaching(now, path, range(1, len(now) + 1))
            for importer in _importers(copy, path):
                other = (copy / importer).read_text().split("\n")
                direct |= self._reaching(other, importer, range(1, len(other) + 1))
        if at_import:
            naming = _naming(copy, path)
            direct |= {test for test in self.seconds() if test.split("::")[0] in naming}
        house = {test for test in self.seconds() if at_import and test.count("/") == 1}
        return self._sorted(path, direct - house) + self._sorted(path, house)

    def _sorted(self, path: str, tests: Iterable[str]) -> list[str]:
        seconds = self.seconds()
        files: dict[str, list[str]] = defaultdict(list)
        for test in tests:
            files[test.split("::")[0]].append(test)
        words = set(Path(path).stem.split("_")) - {"init"}
        room = path.split("/")[-2]

        def order(file: str) -> tuple[float, float]:
            own = set(Path(file).stem.split("_"))
            nearness = 3 * len(own & words) / len(words or {""}) + 2 * (room in file.split("/")[1:-1])
            # The mean cost of a test that reaches the line: what is specific to a module is quick.
            return -nearness, sum(seconds[test] for test in files[file]) / len(files[file])

        return [test for file in sorted(files, key=order) for test in sorted(files[file], key=seconds.__getitem__)]

    def _reaching(self, now: Sequence[str], path: str, lines: range) -> set[str]:
        found: set[str] = set()
        for entry in self._files.values():
            if path in entry["lines"]:
                names = list(entry["tests"])
                old = self._old_lines(entry["sources"][path], now)
                for line in lines:
                    found |= {names[place] for place in entry["lines"][path].get(str(old.get(line, 0)), ())}
        return found

    def _old_lines(self, source: str, now: Sequence[str]) -> dict[int, int]:
        """Line numbers of now, in the source as it was measured; a new line counts as the line before it."""
        key = source, hash(tuple(now))
        if key not in self._same_lines:
            before = (self._folder / "sources" / source).read_text().split("\n")
            same: dict[int, int] = {}
            for block in difflib.SequenceMatcher(None, before, list(now), autojunk=False).get_matching_blocks():
                same |= {block.b + step + 1: block.a + step + 1 for step in range(block.size)}
            last = 0
            for line in range(1, len(now) + 1):
                last = same.setdefault(line, last)
            self._same_lines[key] = same
        return self._same_lines[key]


def _contexts(copy: Path, work: Path) -> dict[str, dict[int, list[str]]]:
    """By file and line, the contexts that executed it."""
    from coverage import CoverageData
    from coverage.exceptions import CoverageException

    found: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for part in work.glob("data*"):
        data = CoverageData(basename=str(part))
        try:
            data.read()
        except CoverageException:  # of a process that a test killed while it wrote
            continue
        for name in data.measured_files():
            path = Path(name).relative_to(copy).as_posix()
            for line, contexts in data.contexts_by_lineno(name).items():
                found[path][line] += contexts
    return found


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _function_at(lines: Sequence[str], line: int) -> tuple[range | None, bool]:
    """The body of the function that a line stands in, and whether it runs at import: outside, or in the signature."""
    found: range | None = None
    at_import = True
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1)
            if line in range(node.lineno, body.stop) and (found is None or len(body) < len(found)):
                found, at_import = body, line < body.start
    return found, at_import


def _naming(copy: Path, path: str) -> set[str]:
    """Files of tests that name a module."""
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    pattern = re.compile(rf"\b{re.escape(module)}\b(?!\.)")
    tests = (copy / "tests").rglob("test_*.py")
    return {file.relative_to(copy).as_posix() for file in tests if pattern.search(file.read_text())}


def _importers(copy: Path, path: str) -> list[str]:
    """Files that import a module."""
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    package, _, last = module.rpartition(".")
    forms = (f"from {module} import", f"import {module}\n", f"from {package} import {last}")
    files = [file for name in PACKAGES for file in (copy / name).rglob("*.py")]
    return [file.relative_to(copy).as_posix() for file in files if any(form in file.read_text() for form in forms)]

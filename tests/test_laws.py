"""The laws of the house: imports run down and in no circle, settings are light, nothing is unpickled, plain words."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up: a module imports from its own room and from rooms before it.
FLOORS = (
    *("dfg", "oanet", "ground", "data", "synthetic", "cues", "training", "evaluation", "experiment", "artefacts"),
    *("cost", "verdict", "export", "report", "reproduce", "demo", "serve", "inspection", "stages", "commands", "cli"),
    *("agfas", "scripts"),
)
SMALL_FILE, SMALL_FILES = 45, 12
MOST_TOLD = 10


def name_of(path: Path) -> str:
    """The dotted name of a module by its file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The floor on which a module stands: its folder, or the ground for the single files of `pipelines` but the CLI."""
    package, *rest = module.split(".")
    if package != "pipelines":
        return package
    single = not rest or (ROOT / "pipelines" / f"{rest[0]}.py").is_file()
    return "ground" if single and rest[:1] != ["cli"] else rest[0]


FILES = sorted(
    path for package in ("agfas", "dfg", "oanet", "pipelines", "scripts") for path in (ROOT / package).rglob("*.py")
)
TREES = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def imported(tree: ast.AST) -> set[str]:
    """Modules of ours that a module imports, on any line."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in TREES else node.module for name in inner}
    return {name for name in names if name in TREES or name.split(".")[0] in (*FLOORS, "pipelines", "tests")}


IMPORTS = {module: imported(tree) - {module} for module, tree in TREES.items()}


def test_every_room_has_its_floor():
    assert {room_of(module) for module in TREES} <= set(FLOORS)


def test_imports_run_down():
    back_up = {
        f"{room_of(module)} -> {room_of(other)}": f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if room_of(other) not in FLOORS[: FLOORS.index(room_of(module)) + 1]
    }
    assert back_up == {}


def test_the_libraries_know_neither_each_other_nor_the_program():
    for module, others in IMPORTS.items():
        if (library := room_of(module)) in ("dfg", "oanet"):
            assert {room_of(other) for other in others} <= {library}, module


def test_commands_alone_import_a_stage():
    importers = {f"{room_of(m)} -> stages" for m, others in IMPORTS.items() if "stages" in map(room_of, others)}
    assert importers <= {"commands -> stages", "stages -> stages"}


def circles() -> set[str]:
    """Modules that can be reached from themselves."""

    def reached(start: str) -> set[str]:
        found, waiting = set(), [start]
        while waiting:
            new = {name for name in IMPORTS.get(waiting.pop(), ()) if name not in found}
            found |= new
            waiting += new
        return found

    return {module for module in IMPORTS if module in reached(module)}


def test_no_import_runs_in_a_circle():
    assert circles() == set()


def test_settings_import_no_torch():
    settings = [module for module in TREES if module.split(".")[-1] == "settings"]
    assert len(settings) >= 5
    code = f"import sys, {', '.join(settings)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("module", TREES)
def test_nothing_is_unpickled(module):
    for call in (node for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        assert name not in ("pickle.load", "pickle.loads", "joblib.load")
        if name == "torch.load":
            arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert arguments.get("weights_only") == "True", f"torch.load without weights_only in {module}"


def test_few_files_are_too_small_to_hold_an_idea():
    product = [path for path in FILES if path.name != "__init__.py" and room_of(name_of(path)) != "scripts"]
    small = [str(path.relative_to(ROOT)) for path in product if len(path.read_text().splitlines()) < SMALL_FILE]
    assert len(small) <= SMALL_FILES, small


def test_plain_words():
    """A passive that had grown into a dialect: programs read, take, are given and are called with."""
    if not (ROOT / ".git").exists():
        pytest.skip("the files of a clone are those that git lists")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "*.py", "*.md", "*.yaml"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    counts = {path: len(re.findall(r"\btold\b", path.read_text())) for path in paths if path.is_file()}
    assert sum(counts.values()) <= MOST_TOLD, {str(path): count for path, count in counts.items() if count}

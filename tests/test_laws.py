"""The laws of the house: imports run one way, nothing is unpickled."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ALLOWED = {
    "dfg": {"dfg"},
    "oanet": {"oanet"},
    "pipelines": {"dfg", "oanet", "pipelines"},
    "scripts": {"pipelines", "dfg", "oanet", "scripts"},
}
OURS = {"dfg", "oanet", "pipelines", "scripts", "tests"}
ROOT = Path(__file__).parents[1]
FILES = sorted(path for room in ALLOWED for path in (ROOT / room).rglob("*.py"))


def imported_rooms(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names & OURS


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way_and_nothing_is_unpickled(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    room = path.relative_to(ROOT).parts[0]
    assert imported_rooms(tree) <= ALLOWED[room]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in calls:
        name = ast.unparse(call.func)
        assert name not in ("pickle.load", "pickle.loads", "joblib.load")
        if name == "torch.load":
            arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert arguments.get("weights_only") == "True", f"torch.load without weights_only in {path}"

"""Nothing reports on its use: in a new home, no entry of ours leaves a file there, connects, or looks up a name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pipelines

ROOT = Path(__file__).parents[2]
# Native libraries pass no audit hook: what they hold open is asked of the system.
PROGRAM = """
import json, os, sys
reached = []
sys.addaudithook(lambda event, given: reached.append(event) if event in REACHING else None)
REACHING = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
{code}
place = "/proc/self/fd"
held = [os.readlink(f"{{place}}/{{name}}") for name in os.listdir(place) if os.path.lexists(f"{{place}}/{{name}}")] \\
    if os.path.isdir(place) else []
print(json.dumps({{"reached": reached, "held": held, "environment": dict(os.environ)}}))
"""
CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import onnxruntime'], check=True)"
ENTRIES = {
    "a library": "import dfg, onnxruntime",
    "the other": "import oanet, onnxruntime",
    "the program": "import pipelines.cli, onnxruntime",
    "a script": "import scripts.bench, onnxruntime",
    "a child": f"import pipelines.errors; {CHILD}",
}
EVERYTHING = """
import importlib, pkgutil
for package in map(importlib.import_module, ("dfg", "oanet", "pipelines", "agfas")):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if module.name not in ("pipelines.demo.page",):  # needs the extra `demo`
            importlib.import_module(module.name)
"""


def left_behind(code: str, home: Path, **chosen: str) -> tuple[list[str], list[str], dict[str, str]]:
    """What a fresh process with a new home wrote there, how it reached out, and its environment."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), **chosen}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(code=code)],
        capture_output=True, text=True, check=False, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    outside = [name for name in seen["held"] if name.startswith(("socket:", str(home)))]
    return [str(path) for path in home.rglob("*")], seen["reached"] + outside, seen["environment"]


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_entry_lets_a_library_report(tmp_path, entry):
    written, reached, _ = left_behind(ENTRIES[entry], tmp_path)
    assert written == []
    assert reached == []


def test_every_variable_is_set_and_a_user_keeps_his(tmp_path):
    environment = left_behind("import pipelines", tmp_path, HF_HUB_DISABLE_TELEMETRY="0")[2]
    assert {name: environment[name] for name in pipelines.QUIET} == {**pipelines.QUIET, "HF_HUB_DISABLE_TELEMETRY": "0"}


@pytest.mark.slow
def test_every_module_can_be_imported_without_a_report(tmp_path):
    written, reached, _ = left_behind(EVERYTHING, tmp_path)
    assert [path for path in written if "onnxruntime" in path or "Microsoft" in path] == []
    assert reached == []

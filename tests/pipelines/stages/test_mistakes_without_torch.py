"""A mistake that names, folders and lists show is answered before torch, a model or a picture is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# All in one process, since each takes a second; a module that is None in sys.modules cannot be imported.
PROGRAM = """
import json, sys
sys.modules["torch"] = None
import typer
from pipelines.cli import app
from pipelines.errors import AgfasError
agfas, said = typer.main.get_command(app), {}
for name, words in json.loads(sys.argv[1]).items():
    try:
        said[name] = agfas.main(args=words, prog_name="agfas", standalone_mode=False)
    except AgfasError as error:
        said[name] = str(error)
print(json.dumps(said))
"""
PUBLISHED = ["--published", "minifasnet", "--weights", "weights", "--face-detector", "yunet"]


def calibrate(*words: str) -> list[str]:
    return ["calibrate", *words, *PUBLISHED, "--out", "out"]


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no pictures": (calibrate("nowhere"), "No folder at nowhere"),
    "an empty folder": (calibrate("empty"), "No pictures or videos in empty"),
    "few persons": (calibrate("two"), "The live pictures are of 2 persons (ann, bob), and 5 are needed"),
    "no sessions": (calibrate("two/ann", "--one-person"), "is of no known session: put the pictures"),
    "few faces": (calibrate("five"), "The live pictures show at most 24 different faces, and a head needs 100"),
    "few pictures": (calibrate("five", "--threshold-only", "--bpcer=0.01"), "A BPCER of 1 % takes 100 pictures"),
    "one file of two persons": (calibrate("shared"), "shared/p0/0.png (p0) and shared/p1/0.png (p1) are the same file"),
    "a list with a wrong column": (calibrate("wrong.csv"), "wrong.csv: no column is called 'labl'"),
    "a list of attacks": (calibrate("attacks.csv"), "attacks.csv lists attacks alone"),
    "a senseless share": (calibrate("two", "--bpcer=5"), "--bpcer 5 must be above 0"),
    "a place that is taken": (["calibrate", "two", *PUBLISHED, "--out", "two"], "two exists and is not a saved model"),
    "no model to calibrate": (["calibrate", "nowhere", "many", "--out", "out"], "No folder at nowhere. Give one that"),
    "nothing to judge": (["detect", "a.jpg", "empty", *PUBLISHED], "There is no file or folder at a.jpg. The same"),
    "an empty album": (["detect", "empty", *PUBLISHED], "empty holds no picture and no video"),
    "no frames": (["detect", "wrong.csv", "--frames=0", *PUBLISHED], "--frames must be at least 1"),
    "no model": (["detect", "wrong.csv", "--model", "nowhere"], "No folder at nowhere"),
    "no run": (["detect", "wrong.csv", "--run", "empty"], "empty holds no plan.json"),
    "no weights": (["detect", "wrong.csv", *PUBLISHED], "No weights at weights"),
    "no files of weights": (["save-model", *PUBLISHED[:2], "--weights=empty", "--out=out"], "empty holds no files"),
    "a model over something else": (["save-model", "empty", "--out", "two"], "two exists and is not a saved model"),
    "no model to serve": (["serve", "nowhere"], "No folder at nowhere"),
    "no model in the folder": (["serve", "empty"], "empty has no anti_spoofing.json"),
    "no faces to teach by": (["distill", "empty", "--faces", "nowhere", "--out", "out"], "No face dataset at nowhere"),
    "no faces to compare by": (["export", "empty", "--faces", "nowhere", "--out", "out"], "No face dataset at nowhere"),
    "an export over something else": (["export", "empty", "--out", "two"], "two exists and is not an exported model"),
    "no faces to simulate from": (["simulate", "nowhere", "--out", "out"], "No face dataset at nowhere"),
}  # fmt: skip


def write(folder: Path, persons: int, each: int) -> None:
    for number in range(persons * each):
        path = folder / f"p{number // each}" / f"{number % each}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"no picture, which nobody sees: {number}")


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("mistakes")
    (root / "empty").mkdir()
    write(root / "five", 5, 5)
    (root / "five" / "p0" / "0.png").write_bytes((root / "five" / "p0" / "1.png").read_bytes())
    write(root / "many", 5, 25)
    write(root / "shared", 5, 25)
    (root / "shared" / "p1" / "0.png").write_bytes((root / "shared" / "p0" / "0.png").read_bytes())
    for name in ("ann", "bob"):
        (root / "two" / name).mkdir(parents=True)
        (root / "two" / name / "a.png").write_text(name)
    (root / "wrong.csv").write_text("path,labl\nfive/p0/0.png,live\n")
    (root / "attacks.csv").write_text("path,label,subject\nfive/p0/0.png,print,ann\n")
    words = json.dumps({name: words for name, (words, _) in MISTAKES.items()})
    done = subprocess.run([sys.executable, "-c", PROGRAM, words], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_without_torch(said, name):
    assert MISTAKES[name][1] in said[name]

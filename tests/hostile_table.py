"""What `agfas prepare` does with each hostile file, as a table: `python tests/hostile_table.py`."""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # before `tests`, which has a folder of the same name

from hostile import PASSED_OVER, READ, REFUSED, Case, write_corpus

from pipelines.data.prepare.names import printable
from pipelines.data.prepare.settings import build_recipe
from pipelines.data.records import load_faces
from pipelines.stages import prepare


def outcomes(folder: Path) -> Iterator[tuple[Case, str, str]]:
    """Every case of the corpus with its outcome and the reason.

    Args:
        folder: an empty one, for the corpus and the dataset.
    """
    cases = write_corpus(folder / "source")
    recipe = build_recipe({"aligned": True, "size": 32, "frames": 2}, "the corpus")
    with redirect_stdout(StringIO()):
        prepare.run(folder / "source", folder / "out", recipe)
    read = set(load_faces(folder / "out")["source"][:])
    refused, passed_over = (_reasons(folder / "out" / f"{name}.csv") for name in ("refused", "passed_over"))
    for case in cases:
        name = printable(f"bonafide/{case.name}")
        if name in read:
            yield case, READ, ""
        elif name in refused:
            yield case, REFUSED, refused[name].removeprefix(f"{name} ")
        else:
            yield case, PASSED_OVER if name in passed_over else "lost", passed_over.get(name, "")


def _reasons(path: Path) -> dict[str, str]:
    with path.open(newline="", encoding="utf-8") as stream:
        return {row["path"]: row["reason"] for row in csv.DictReader(stream)}


def main() -> None:
    """Print the table in Markdown; exit with 1 where a file did not come out as it should."""
    with tempfile.TemporaryDirectory() as folder:
        found = list(outcomes(Path(folder)))
    wrong = [case.name for case, outcome, _ in found if outcome != case.outcome]
    print("| file | result | reason |\n| --- | --- | --- |")
    for case, outcome, reason in found:
        name = ascii(case.name)[1:-1] if len(case.name) < 60 else f"{case.name[:8]}… ({len(case.name)} characters)"
        print(f"| `{name}` | {outcome} | {' '.join(reason.split()).replace('|', '/')} |")
    print(f"\n{len(found)} files, {len(found) - len(wrong)} as they should.")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()

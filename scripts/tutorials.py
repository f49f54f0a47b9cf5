#!/usr/bin/env python
"""Run the tutorials of docs/tutorials/ as a reader would, each in an empty folder, and compare what they print:

    python scripts/tutorials.py                     # all; exit code 1 if a command fails or prints another thing
    python scripts/tutorials.py pictures --write    # put what was printed into the page

A page is its own script. A block of `bash` is run; the block of `text` behind it is what it prints; a block that the
sentence before it says to save as a file is saved. `<!-- not run -->` above a block leaves it out.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = {page.stem: page for page in sorted((ROOT / "docs" / "tutorials").glob("*.md"))}

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SAVED = re.compile(r"[Ss]ave this as\s+`([\w./-]+)`[^`]*$")


@dataclass(frozen=True)
class Step:
    """One block of a page.

    Attributes:
        text: the file's content, or the commands.
        name: of the file to save; empty for commands.
        shown: where the page shows what the commands print, its start and end; None if it does not.
    """

    text: str
    name: str = ""
    shown: tuple[int, int] | None = None


def steps(page: str) -> Iterator[Step]:
    """What a reader does, in order."""
    blocks = list(_BLOCK.finditer(page))
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        before = page[: block.start()].rstrip()
        saved = _SAVED.search(before)
        if before.endswith("<!-- not run -->"):
            continue
        if saved:
            yield Step(block[2], saved[1])
        elif block[1] == "bash":
            behind = after and after[1] == "text" and not page[block.end() : after.start()].strip()
            yield Step(block[2], shown=after.span(2) if after and behind else None)


def run(step: Step, folder: Path) -> str:
    """Do a step in a folder; what it prints.

    Raises:
        RuntimeError: a command failed; with its last messages.
    """
    if step.name:
        (folder / step.name).write_text(step.text, encoding="utf-8")
        return ""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", step.text],
        cwd=folder, env={**os.environ, "PATH": path, "PYTHONPATH": found}, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{step.text}{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines()) + "\n"


def shape(printed: str) -> list[str]:
    """What must be equal on every machine: the lines without figures, hashes, decisions and the widths of columns."""
    text = re.sub(r"\b(?=[a-f]*\d)[0-9a-f]{8,}\b", "HASH", printed)
    text = re.sub(r"[-+]?\b\d+(\.\d+)?", "0", text)
    text = re.sub(r"\b0 (s|min|h)\b", "TIME", text)
    text = re.sub(r"\b(live|attack)\b", "VERDICT", text).replace("threads", "thread")
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def play(page: str, folder: Path) -> Iterator[tuple[Step, str]]:
    """Every step of a page that shows what it prints, with what it printed now."""
    for step in steps(page):
        printed = run(step, folder)
        if step.shown:
            yield step, printed


def refreshed(page: str, folder: Path) -> str:
    """The page with what its commands print now."""
    for step, printed in reversed(list(play(page, folder))):
        start, end = step.shown or (0, 0)
        page = page[:start] + printed + page[end:]
    return page


def differences(page: str, folder: Path) -> list[str]:
    """What the page shows otherwise than it is printed now."""
    found = []
    for step, printed in play(page, folder):
        start, end = step.shown or (0, 0)
        if shape(page[start:end]) != shape(printed):
            found.append(f"{step.text}prints\n{printed}and not\n{page[start:end]}")
    return found


def main() -> None:
    """Run the named tutorials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PAGES)}; default: all")
    parser.add_argument("--write", action="store_true", help="put what was printed into the page")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(PAGES):
        parser.error(f"no tutorial {', '.join(sorted(unknown))}; there are {', '.join(PAGES)}")
    differ = False
    for name in asked.names or PAGES:
        page = PAGES[name].read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            if asked.write:
                PAGES[name].write_text(refreshed(page, Path(folder)), encoding="utf-8")
            else:
                found = differences(page, Path(folder))
                differ |= bool(found)
                print("\n".join([f"{name}: {len(found)} differences", *found]))
    sys.exit(differ)


if __name__ == "__main__":
    main()

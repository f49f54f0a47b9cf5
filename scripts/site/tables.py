"""The page of all tables that commands wrote into docs/, and where a link to a folder of them leads."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PLACE = "tables.md"


def tables_page() -> str:
    """Every folder with its tables, as pages and as CSV."""
    parts = ["# Every table", "What commands wrote, linked from [results](results.md)."]
    for folder in sorted(path for path in DOCS.rglob("*") if path.is_dir() and any(path.glob("*.csv"))):
        parts += [f"## {folder.relative_to(DOCS).as_posix()}", "\n".join(_lines(folder))]
    return "\n\n".join(parts) + "\n"


def folder_link(folder: Path) -> str:
    """The anchor of a folder's tables on the page; of the first below it, if it has none itself."""
    first = min((path.parent for path in folder.rglob("*.csv")), default=folder)
    return "#" + re.sub(r"[^\w-]", "", first.relative_to(DOCS).as_posix())


def _lines(folder: Path) -> list[str]:
    lines = []
    for table in sorted(folder.glob("*.csv")):
        page, place = table.with_suffix(".md"), table.relative_to(DOCS).with_suffix("").as_posix()
        title = f"[{_title(page)}]({place}.md), " if page.is_file() else ""
        lines.append(f"- {title}[{table.name}]({place}.csv)")
    return lines


def _title(page: Path) -> str:
    found = re.search(r"^# (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else page.stem

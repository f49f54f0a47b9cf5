"""Stage 7: one self-contained page about an output folder, and its numbers as CSV and Markdown."""

from __future__ import annotations

from pathlib import Path

from pipelines.files import write_text
from pipelines.report.export import to_csv
from pipelines.report.gather import gather
from pipelines.report.page import markdown, render, study_page


def run(root: Path) -> Path:
    """Write ROOT/report/index.html, results.csv and results.md; returns the page.

    A sweep that is half done is reported as far as it is; what is missing is listed as unfinished.

    Raises:
        AgfasError: `root` is no output folder, or a file in it is broken.
    """
    gathered = gather(root)
    pages = [study_page(gathered, study) for study in gathered.studies]
    folder = root / "report"
    write_text(folder / "results.csv", to_csv(gathered.studies))
    write_text(folder / "results.md", markdown(gathered, pages))
    write_text(folder / "index.html", render(gathered, pages))
    return folder / "index.html"

"""`agfas report`: one self-contained page about an output folder, and its numbers as CSV and Markdown."""

from __future__ import annotations

from pathlib import Path

from pipelines.files import read_json, write_json, write_text
from pipelines.fingerprint import fingerprint, folder_sha256
from pipelines.report.contents import Gathered
from pipelines.report.gather import gather
from pipelines.report.page import StudyPage, markdown, render, to_csv


def run(root: Path) -> Path:
    """Write ROOT/report/index.html, results.csv and results.md, and return the page; kept if nothing has changed.

    Unfinished experiments are listed with their progress.

    Raises:
        AgfasError: `root` is not an output folder, or a file in it is damaged.
    """
    gathered, folder = gather(root), root / "report"
    page, made, key = folder / "index.html", folder / "made.json", _key(gathered)
    if page.is_file() and made.is_file() and read_json(made) == {"key": key}:
        return page
    pages = [StudyPage(gathered, study) for study in gathered.studies]
    write_text(folder / "results.csv", to_csv(gathered.studies))
    write_text(folder / "results.md", markdown(gathered, pages))
    write_text(page, render(gathered, pages))
    # Pictures that are missing now may be possible later, without a change in anything that the key holds.
    if all(one.grid and one.features for one in pages):
        write_json(made, {"key": key})
    return page


def _key(gathered: Gathered) -> str:
    """A hash of everything that decides the page: experiments, results, runs, cue stores, faces and code."""
    trials = [
        [
            trial.planned.title,
            trial.planned.experiment.model_dump(mode="json"),
            trial.state,
            (trial.result or {}).get("key"),
        ]
        for trial in gathered.trials
    ]
    runs = [[str(run.folder), run.done, run.environment, run.steps, run.seconds] for run in gathered.runs]
    cards = [study.data.card for study in gathered.studies if study.data is not None]
    rooms = Path(__file__).parents[1]
    code = [folder_sha256(rooms / name, (".py", ".html")) for name in ("report", "evaluation")]
    return fingerprint([trials, runs, gathered.cue_stores, cards, code])

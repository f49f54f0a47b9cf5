"""From finished tasks to the finished folder: the dataset, and beside it everything that is said of it."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.duplicates import Joined, join_near_duplicates, joined_sentences
from pipelines.data.leaks import Leaks, find_leaks
from pipelines.data.prepare.card import readme, versions
from pipelines.data.prepare.counts import cells, count_faces, expectation, expectations_as_json
from pipelines.data.prepare.dataset import TaskRecords, write_dataset
from pipelines.data.prepare.outcome import Refusal
from pipelines.data.prepare.settings import Recipe
from pipelines.data.prepare.sources import Sources, deal_again, summary_of_passed_over
from pipelines.data.prepare.tasks import TaskFiles
from pipelines.data.records import CARD_NAME
from pipelines.data.splits import undersample
from pipelines.files import sync_folder, write_json, write_text


@dataclass(frozen=True)
class Result:
    """What the tasks came to.

    Attributes:
        columns: the small columns of the faces in the dataset.
        refusals: lines of `refused.csv`.
        left_out: keys of the faces that the ratio left out.
        leaks: what crosses a split.
    """

    columns: dict[str, list[Any]]
    refusals: list[Refusal]
    left_out: list[str]
    leaks: Leaks

    def totals(self) -> dict[str, int]:
        """`asked` is every face that came through or did not; `refused` are lines of `refused.csv`."""
        lost = sum(refusal.lost for refusal in self.refusals if not refusal.filtered)
        filtered = sum(refusal.lost for refusal in self.refusals if refusal.filtered)
        faces = len(self.columns["key"])
        return {
            "faces": faces,
            "asked": faces + len(self.left_out) + lost + filtered,
            "refused": len(self.refusals),
            "refused_faces": lost,
            "filtered_faces": filtered,
            "left_out": len(self.left_out),
        }


def assemble(
    files: TaskFiles, tasks: int, out: Path, recipe: Recipe, sources: Sources, facts: dict[str, Any]
) -> dict[str, Any]:
    """Write everything beside the work, then move it to its place; the card comes last.

    Args:
        files: of the finished tasks.
        tasks: how many there are.
        out: folder of the dataset.
        recipe, sources: of the job.
        facts: what else the card says.

    Returns:
        The card.
    """
    stage = files.folder / "dataset"
    shutil.rmtree(stage, ignore_errors=True)
    records = TaskRecords(files, tasks)
    columns = records.columns()
    joined = _join(columns, recipe, sources)
    keep = _kept(columns, recipe)
    content = write_dataset(records, columns["split"], keep, stage)
    result = _result(files, tasks, columns, keep, sources)
    importer = sources.importer
    card = {
        "fingerprint": content,
        "kind": "prepared",
        **facts,
        "versions": versions(),
        "title": importer.TITLE,
        "citation": importer.CITATION,
        "licence": importer.LICENCE,
        "verified": importer.VERIFIED,
        "size": recipe.size,
        **result.totals(),
        "passed_over": summary_of_passed_over(sources.passed_over),
        "subjects_unknown": result.leaks.subjects_unknown,
        "splits_clean": result.leaks.clean,
        "joined": joined.as_json(),
        "counts": cells(result.columns),
    }
    _write_beside(stage, card, result, sources)
    _publish(stage, out)
    write_json(out / CARD_NAME, card)
    return card


def refused_share(card: dict[str, Any]) -> float:
    """Faces that could not be used among those that were asked for, without those that a limit of the recipe kept out;
    1 where no face came through."""
    return float(card["refused_faces"]) / max(1, int(card["asked"])) if card["faces"] else 1.0


def _join(columns: dict[str, list[Any]], recipe: Recipe, sources: Sources) -> Joined:
    """Join who is nearly equal and deal all out again; the splits among the columns are then the new ones."""
    if not recipe.splits.join_near_duplicates or all(columns["subject_known"]):
        return Joined()
    joined = join_near_duplicates(columns, *_signatures(columns), recipe.splits.largest_group)
    if joined.heads:
        splits = deal_again(sources, recipe, joined.heads)
        owners = zip(columns["domain"], columns["subject"], columns["source"], strict=True)
        columns["split"] = [splits[owner] for owner in owners]
    return joined


def _signatures(columns: dict[str, list[Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Hashes (N,) uint64 and thumbnails (N, 256) uint8."""
    thumbnails = np.frombuffer(b"".join(columns["thumbnail"]), dtype=np.uint8).reshape(-1, 256)
    return np.array(columns["hash"], dtype=np.uint64), thumbnails


def _kept(columns: dict[str, list[Any]], recipe: Recipe) -> np.ndarray:
    if recipe.ratio is None:
        return np.ones(len(columns["key"]), dtype=bool)
    return undersample(columns["label"], columns["split"], columns["quality"], columns["key"], recipe.ratio)


def _result(files: TaskFiles, tasks: int, columns: dict[str, list[Any]], keep: np.ndarray, sources: Sources) -> Result:
    chosen = {
        name: [value for value, stays in zip(values, keep, strict=True) if stays] for name, values in columns.items()
    }
    return Result(
        chosen,
        [*sources.unreadable, *(line for number in range(tasks) for line in files.refusals(number))],
        [key for key, stays in zip(columns["key"], keep, strict=True) if not stays],
        find_leaks(chosen, *_signatures(chosen)),
    )


def _write_beside(folder: Path, card: dict[str, Any], result: Result, sources: Sources) -> None:
    rows = count_faces(result.columns)
    expected = expectations_as_json(sources.counts)
    counts = {"counts": rows, "expected": expected, "passed_over": card["passed_over"], **result.totals()}
    write_json(folder / "counts.json", counts)
    write_json(folder / "leaks.json", {"fingerprint": card["fingerprint"], **result.leaks.as_json()})
    lines = [(line.path, "" if line.frame < 0 else line.frame, line.reason, line.tried) for line in result.refusals]
    write_text(folder / "refused.csv", _csv(["path", "frame", "reason", "tried"], lines))
    if result.left_out:
        write_text(folder / "left_out.csv", _csv(["key"], [(key,) for key in result.left_out]))
    if sources.passed_over:
        write_text(folder / "passed_over.csv", _csv(["path", "reason"], sources.passed_over))
    sentences = [expectation(count) for count in sources.counts]
    splits = [*joined_sentences(card), *result.leaks.sentences()]
    write_text(folder / "README.md", readme(card, rows, sentences, splits))


def _csv(header: list[str], rows: Sequence[tuple]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    return stream.getvalue()


def _publish(stage: Path, out: Path) -> None:
    """Move whole files to their places: until the card follows, none of them counts."""
    for path in sorted(stage.iterdir()):
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(path, out / path.name)
    sync_folder(out)

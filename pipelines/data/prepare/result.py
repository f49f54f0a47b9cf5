"""From finished tasks to the finished folder: the dataset, its cards, and the lists of what it lacks."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.duplicates import Joined, join_near_duplicates, joined_sentences
from pipelines.data.intact import write_sums
from pipelines.data.leaks import Leaks, find_leaks
from pipelines.data.prepare.card import cells, count_faces, expectation, readme, versions
from pipelines.data.prepare.dataset import TaskFiles, TaskRecords, write_dataset
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.prepare.sources import Noted, Refusal, Sources, assign_again, title_of
from pipelines.data.records import CARD_NAME
from pipelines.data.repeats import Repeats, find_repeats, repeat_sentences
from pipelines.data.splits import undersample
from pipelines.errors import AgfasError
from pipelines.files import csv_text, sync_file, sync_folder, write_json, write_text


@dataclass(frozen=True)
class _Result:
    """What a job made.

    Attributes:
        columns: the small columns of the faces in the dataset.
        refusals: lines of `refused.csv`.
        notes: lines of `noted.csv`.
        left_out: keys of the faces that were left out for the ratio.
        leaks: overlap of the splits.
        repeats: equal faces.
        account: see `accounted`.
    """

    columns: dict[str, list[Any]]
    refusals: list[Refusal]
    notes: list[Noted]
    left_out: list[str]
    leaks: Leaks
    repeats: Repeats
    account: dict[str, int]

    def totals(self) -> dict[str, int]:
        """`asked`: all expected faces; `refused`: lines of `refused.csv`."""
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
            "noted": len(self.notes),
        }


def assemble(
    files: TaskFiles, tasks: int, out: Path, recipe: PrepareRecipe, sources: Sources, facts: dict[str, Any]
) -> dict[str, Any]:
    """Write everything into the work folder, then move it to its place, the card last.

    Args:
        files: of the finished tasks.
        tasks: number of tasks.
        out: folder of the dataset.
        recipe, sources: of the job.
        facts: the job's part of the card.

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
    result = _result(records, columns, keep, sources)
    importer = sources.importer
    card = {
        "fingerprint": content,
        "kind": "prepared",
        **facts,
        "versions": versions(),
        "title": title_of(importer),
        "citation": getattr(importer, "CITATION", ""),
        "licence": getattr(importer, "LICENCE", ""),
        "verified": getattr(importer, "VERIFIED", "unknown"),
        "size": recipe.size,
        **result.totals(),
        "passed_over": dict(sorted(Counter(why for _, why in sources.passed_over).items())),
        "subjects_unknown": result.leaks.subjects_unknown,
        "splits_clean": result.leaks.clean,
        "joined": joined.as_json(),
        "repeats": result.repeats.as_json(),
        "sources": result.account,
        "counts": cells(result.columns),
    }
    _write_beside(stage, card, result, sources)
    write_json(stage / CARD_NAME, card)
    write_sums(stage)
    _publish(stage, out)
    return card


def refused_share(card: dict[str, Any]) -> float:
    """Share of the expected faces that were refused, not counting limits of the recipe; 1 if no face is left."""
    return float(card["refused_faces"]) / int(card["asked"]) if card["faces"] else 1.0


def contradicted_share(card: dict[str, Any]) -> float:
    """Share of the faces that are both bona fide and attack."""
    return float(card.get("repeats", {}).get("faces_in_both", 0)) / int(card["faces"]) if card["faces"] else 0.0


def _join(columns: dict[str, list[Any]], recipe: PrepareRecipe, sources: Sources) -> Joined:
    """Join subjects with near-duplicate pictures and replace the column `split` by the new assignment."""
    if not recipe.splits.join_near_duplicates or all(columns["subject_known"]):
        return Joined()
    joined = join_near_duplicates(columns, *_signatures(columns), recipe.splits.largest_group)
    if joined.heads:
        splits = assign_again(sources, recipe, joined.heads)
        owners = zip(columns["domain"], columns["subject"], columns["source"], strict=True)
        columns["split"] = [splits[owner] for owner in owners]
    return joined


def _signatures(columns: dict[str, list[Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Hashes (N,) uint64 and thumbnails (N, 256) uint8."""
    thumbnails = np.frombuffer(b"".join(columns["thumbnail"]), dtype=np.uint8).reshape(-1, 256)
    return np.array(columns["hash"], dtype=np.uint64), thumbnails


def _kept(columns: dict[str, list[Any]], recipe: PrepareRecipe) -> np.ndarray:
    if recipe.ratio is None:
        return np.ones(len(columns["key"]), dtype=bool)
    return undersample(columns["label"], columns["split"], columns["quality"], columns["key"], recipe.ratio)


def _result(records: TaskRecords, columns: dict[str, list[Any]], keep: np.ndarray, sources: Sources) -> _Result:
    chosen = {
        name: [value for value, stays in zip(values, keep, strict=True) if stays] for name, values in columns.items()
    }
    kept = np.flatnonzero(keep).tolist()
    refusals = [line for number in range(records.tasks) for line in records.files.refusals(number)]
    return _Result(
        chosen,
        [*sources.unreadable, *refusals],
        [line for number in range(records.tasks) for line in records.files.notes(number)],
        [key for key, stays in zip(columns["key"], keep, strict=True) if not stays],
        find_leaks(chosen, *_signatures(chosen)),
        find_repeats(chosen, lambda rows: records.pictures([kept[row] for row in rows])),
        accounted(columns["source"], refusals, sources),
    )


def accounted(read: Sequence[str], refusals: Sequence[Refusal], sources: Sources) -> dict[str, int]:
    """Where every source that was found has gone: `found` is the sum of the others.

    Args:
        read: name of the source of every face.
        refusals: of sources and of their frames.
        sources: of the job.

    Raises:
        AgfasError: a source that gave neither a face nor a refusal.
    """
    faces, refused = set(read), {line.path for line in refusals}
    lost = [name for name in sources.names if name not in faces and name not in refused]
    if lost:
        raise AgfasError(
            f"{len(lost)} of {len(sources.names)} sources gave neither a face nor a line of refused.csv, the first is"
            f" {lost[0]}. That is a fault of this program; nothing was published. Please report it."
        )
    account = {
        "read": sum(name in faces for name in sources.names),
        "refused": sum(name not in faces for name in sources.names) + len(sources.unreadable),
        "passed_over": len(sources.passed_over),
        "beyond_limit": sources.beyond_limit,
    }
    return {"found": sum(account.values()), **account}


def _write_beside(folder: Path, card: dict[str, Any], result: _Result, sources: Sources) -> None:
    rows = count_faces(result.columns)
    expected = [{**asdict(count.expected), "found": count.found, "missing": count.missing} for count in sources.counts]
    counts = {"counts": rows, "expected": expected, "passed_over": card["passed_over"], **result.totals()}
    counts |= {"sources": result.account, "repeats": card["repeats"]}
    write_json(folder / "counts.json", counts)
    write_json(folder / "leaks.json", {"fingerprint": card["fingerprint"], **result.leaks.as_json()})
    refused = [
        {"path": line.path, "frame": "" if line.frame < 0 else line.frame, "reason": line.reason, "tried": line.tried}
        for line in result.refusals
    ]
    write_text(folder / "refused.csv", csv_text(refused, ("path", "frame", "reason", "tried")))
    if result.notes:
        write_text(folder / "noted.csv", csv_text([asdict(line) for line in result.notes]))
    if result.left_out:
        write_text(folder / "left_out.csv", csv_text([{"key": key} for key in result.left_out]))
    if result.repeats.lines:
        write_text(folder / "repeated.csv", csv_text(result.repeats.lines))
    if sources.passed_over:
        ignored = [{"path": path, "reason": why} for path, why in sources.passed_over]
        write_text(folder / "passed_over.csv", csv_text(ignored))
    sentences = [expectation(count) for count in sources.counts]
    splits = [*joined_sentences(card), *result.leaks.sentences(), *repeat_sentences(card["repeats"])]
    write_text(folder / "README.md", readme(card, rows, sentences, splits))


def _publish(stage: Path, out: Path) -> None:
    """Move complete files to their places, last the card, whose presence says that all is complete."""
    for path in sorted(stage.iterdir(), key=lambda path: (path.name == CARD_NAME, path.name)):
        sync_file(path)
        if path.name == CARD_NAME:
            sync_folder(out)
        os.replace(path, out / path.name)
    sync_folder(out)

#!/usr/bin/env python
"""Students beside their teacher on labelled test faces: `scripts/distillation.py TEACHER STUDENT... --faces FACES`.

AUC by video on the persons of the split `test`, of each domain and of all, with 95 % intervals of a bootstrap of
persons. Of several students, which differ in their seed, the mean of their AUCs is given, and their least and largest;
so of several teachers, each with its students (`--and TEACHER STUDENT...`). The difference is paired: teachers and
students are judged on the same persons in every draw. Its range is that of the teachers, each with its own students.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipelines.data.faces import open_faces
from pipelines.errors import AgfasError
from pipelines.evaluation.bootstrap import interval, replicate_values
from pipelines.evaluation.metrics import roc
from pipelines.evaluation.scores import ScoreTable
from pipelines.markdown import table
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.teacher import Teacher

_COLUMNS = ("key", "video", "subject", "domain", "attack_type", "label")
_REPLICATES = 1000


def main(words: Sequence[str] | None = None) -> None:
    """Score, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path, help="its saved model, or the output folder of its run")
    parser.add_argument("students", type=Path, nargs="+", help="saved or exported models, one for each seed")
    parser.add_argument("--faces", type=Path, required=True, help="a face dataset with attacks, of other persons")
    parser.add_argument("--scores", type=Path, help="folder of the teacher's scores, STUDENT.run if they are there")
    parser.add_argument(
        "--and",
        dest="others",
        type=Path,
        nargs="+",
        action="append",
        default=[],
        metavar=("TEACHER", "STUDENT"),
        help="another training of the teacher, and its students",
    )
    given = parser.parse_args(words)
    lessons = [[given.teacher, *given.students], *given.others]
    try:
        if alone := [lesson[0] for lesson in lessons if len(lesson) < 2]:
            raise AgfasError(f"The teacher {alone[0]} has no student: name one behind it.")
        with tempfile.TemporaryDirectory() as folder:
            kept = given.scores or Path(folder)
            tables = [[test_scores(place, given.faces, kept) for place in lesson] for lesson in lessons]
    except AgfasError as error:
        parser.exit(1, f"{error}\n")
    rows = compare(tables)
    print(table(list(rows[0]), [list(row.values()) for row in rows]))


def test_scores(place: Path, folder: Path, kept: Path) -> ScoreTable:
    """A model's scores of the faces of `test`."""
    opened = FaceAntiSpoofing.from_run if (place / "plan.json").is_file() else FaceAntiSpoofing.from_pretrained
    teacher = Teacher.of(opened(place))
    faces, scores = open_faces(folder, teacher.model.settings.face.size), teacher.scores(folder, kept)
    columns: dict[str, Any] = {name: faces.columns()[name] for name in _COLUMNS}
    return ScoreTable(**columns, score=scores).where(faces.splits == "test")


def compare(lessons: Sequence[Sequence[ScoreTable]]) -> list[dict[str, Any]]:
    """A row for each domain that has both classes, and one of all.

    Args:
        lessons: the scores of a teacher and of its students, of each training of a teacher.
    """
    teacher = lessons[0][0]
    domains = [name for name in sorted(set(teacher.domain.tolist())) if _has_both(teacher, name)]
    return [_row(name, lessons, [name]) for name in domains] + [_row("all", lessons, domains)]


def _has_both(scores: ScoreTable, domain: str) -> bool:
    return len(set(scores.label[scores.domain == domain].tolist())) == 2


def _row(title: str, lessons: Sequence[Sequence[ScoreTable]], domains: Sequence[str]) -> dict[str, Any]:
    tables = [[scores.where(np.isin(scores.domain, domains)).by_video() for scores in lesson] for lesson in lessons]
    first = tables[0][0]
    drawn = [[_values(scores) for scores in lesson] for lesson in tables]  # AUC itself, then of each replicate
    teachers = np.stack([lesson[0] for lesson in drawn])
    students = np.stack([np.mean(lesson[1:], axis=0) for lesson in drawn])
    return {
        "domain": title,
        "videos": len(first),
        "persons": len({*zip(first.domain.tolist(), first.subject.tolist(), strict=True)}),
        "teacher": _cell(teachers, teachers[:, 0], ".3f"),
        "students": _cell(students, [one[0] for lesson in drawn for one in lesson[1:]], ".3f"),
        "difference": _cell(students - teachers, (students - teachers)[:, 0], "+.3f"),
    }


def _values(scores: ScoreTable) -> np.ndarray:
    auc = roc(scores.label, scores.score).auc()
    return np.append(auc, replicate_values(scores, 0.5, ("auc",), _REPLICATES, unit="subject")["auc"])


def _cell(values: np.ndarray, single: Sequence[float] | np.ndarray, form: str) -> str:
    """The mean, the range of single ones, and the interval of the mean; `values` is (lessons, 1 + R)."""
    mean = values.mean(axis=0)
    spread = f" ({min(single):{form}} to {max(single):{form}})" if len(single) > 1 else ""
    low, high = interval(mean[1:])
    return f"{mean[0]:{form}}{spread} [{low:{form}}, {high:{form}}]"


if __name__ == "__main__":
    main()

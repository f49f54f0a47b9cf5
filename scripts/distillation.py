#!/usr/bin/env python
"""A student beside its teacher on labelled test faces: `python scripts/distillation.py TEACHER STUDENT --faces FACES`.

AUC by video on the persons of the split `test`, of each domain and of all, with 95 % intervals of a bootstrap of
persons; the difference is paired. FACES is the dataset that the student learnt from, without these persons.
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
    parser.add_argument("student", type=Path, help="its saved model")
    parser.add_argument("--faces", type=Path, required=True, help="a face dataset with attacks")
    parser.add_argument("--scores", type=Path, help="folder of the teacher's scores, STUDENT.run if they are there")
    given = parser.parse_args(words)
    try:
        with tempfile.TemporaryDirectory() as folder:
            kept = given.scores or Path(folder)
            tables = [test_scores(place, given.faces, kept) for place in (given.teacher, given.student)]
    except AgfasError as error:
        parser.exit(1, f"{error}\n")
    rows = compare(*tables)
    print(table(list(rows[0]), [list(row.values()) for row in rows]))


def test_scores(place: Path, folder: Path, kept: Path) -> ScoreTable:
    """A model's scores of the faces of `test`."""
    opened = FaceAntiSpoofing.from_run if (place / "plan.json").is_file() else FaceAntiSpoofing.from_pretrained
    teacher = Teacher.of(opened(place))
    faces, scores = open_faces(folder, teacher.model.settings.face.size), teacher.scores(folder, kept)
    columns: dict[str, Any] = {name: faces.columns()[name] for name in _COLUMNS}
    return ScoreTable(**columns, score=scores).where(faces.splits == "test")


def compare(teacher: ScoreTable, student: ScoreTable) -> list[dict[str, Any]]:
    """A row for each domain that has both classes, and one of all."""
    domains = [name for name in sorted(set(teacher.domain.tolist())) if _has_both(teacher, name)]
    return [_row(name, *(one.where(one.domain == name) for one in (teacher, student))) for name in domains] + [
        _row("all", *(one.where(np.isin(one.domain, domains)) for one in (teacher, student)))
    ]


def _has_both(scores: ScoreTable, domain: str) -> bool:
    return len(set(scores.label[scores.domain == domain].tolist())) == 2


def _row(name: str, teacher: ScoreTable, student: ScoreTable) -> dict[str, Any]:
    both = [scores.by_video() for scores in (teacher, student)]
    aucs = [roc(scores.label, scores.score).auc() for scores in both]
    drawn = [replicate_values(each, 0.5, ("auc",), _REPLICATES, unit="subject")["auc"] for each in both]
    low, high = interval(drawn[1] - drawn[0])
    ends = [interval(each) for each in drawn]
    cells = {
        who: f"{auc:.3f} [{each[0]:.3f}, {each[1]:.3f}]"
        for who, auc, each in zip(("teacher", "student"), aucs, ends, strict=True)
    }
    difference = f"{aucs[1] - aucs[0]:+.3f} [{low:+.3f}, {high:+.3f}]"
    persons = len({*zip(teacher.domain.tolist(), teacher.subject.tolist(), strict=True)})
    return {"domain": name, "videos": len(both[0]), "persons": persons, **cells, "difference": difference}


if __name__ == "__main__":
    main()

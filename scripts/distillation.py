#!/usr/bin/env python
"""Students beside their teacher on labelled test faces: `scripts/distillation.py TEACHER STUDENT... --faces FACES`.

AUC by video on the persons of the split `test`, of each domain and of all, with 95 % intervals of a bootstrap of
persons. Of several students, which differ in their seed, the mean of their AUCs is given, and their least and largest.
The difference is paired: teacher and students are judged on the same persons in every draw.
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
    given = parser.parse_args(words)
    try:
        with tempfile.TemporaryDirectory() as folder:
            kept = given.scores or Path(folder)
            tables = [test_scores(place, given.faces, kept) for place in (given.teacher, *given.students)]
    except AgfasError as error:
        parser.exit(1, f"{error}\n")
    rows = compare(tables[0], tables[1:])
    print(table(list(rows[0]), [list(row.values()) for row in rows]))


def test_scores(place: Path, folder: Path, kept: Path) -> ScoreTable:
    """A model's scores of the faces of `test`."""
    opened = FaceAntiSpoofing.from_run if (place / "plan.json").is_file() else FaceAntiSpoofing.from_pretrained
    teacher = Teacher.of(opened(place))
    faces, scores = open_faces(folder, teacher.model.settings.face.size), teacher.scores(folder, kept)
    columns: dict[str, Any] = {name: faces.columns()[name] for name in _COLUMNS}
    return ScoreTable(**columns, score=scores).where(faces.splits == "test")


def compare(teacher: ScoreTable, students: Sequence[ScoreTable]) -> list[dict[str, Any]]:
    """A row for each domain that has both classes, and one of all."""
    domains = [name for name in sorted(set(teacher.domain.tolist())) if _has_both(teacher, name)]
    every = [teacher, *students]
    return [_row(name, [one.where(one.domain == name) for one in every]) for name in domains] + [
        _row("all", [one.where(np.isin(one.domain, domains)) for one in every])
    ]


def _has_both(scores: ScoreTable, domain: str) -> bool:
    return len(set(scores.label[scores.domain == domain].tolist())) == 2


def _row(name: str, tables: Sequence[ScoreTable]) -> dict[str, Any]:
    """Of a teacher and its students."""
    every = [scores.by_video() for scores in tables]
    aucs = np.array([roc(scores.label, scores.score).auc() for scores in every])
    drawn = np.stack([replicate_values(one, 0.5, ("auc",), _REPLICATES, unit="subject")["auc"] for one in every])
    means, seeds = drawn[1:].mean(axis=0), aucs[1:]
    spread = f" ({seeds.min():.3f} to {seeds.max():.3f})" if len(seeds) > 1 else ""
    return {
        "domain": name,
        "videos": len(every[0]),
        "persons": len({*zip(every[0].domain.tolist(), every[0].subject.tolist(), strict=True)}),
        "teacher": f"{aucs[0]:.3f} {_ends(drawn[0], '.3f')}",
        "students": f"{seeds.mean():.3f}{spread} {_ends(means, '.3f')}",
        "difference": f"{seeds.mean() - aucs[0]:+.3f} {_ends(means - drawn[0], '+.3f')}",
    }


def _ends(values: np.ndarray, form: str) -> str:
    low, high = interval(values)
    return f"[{low:{form}}, {high:{form}}]"


if __name__ == "__main__":
    main()

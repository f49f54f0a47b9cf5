"""The student beside its teacher on labelled faces, and its benchmark."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.evaluation.scores import ScoreTable
from scripts.bench.student import RECIPE, SILENT_FACE, STUDENT, student_benchmark
from scripts.distillation import compare


def scores(noise: float) -> ScoreTable:
    """Two domains, of which one has live faces alone; ten persons with a live video and an attack each."""
    names = [(f"p{number}", kind) for number in range(10) for kind in ("none", "print")]
    label = np.array([int(kind == "none") for _, kind in names] + [1])
    drawn = np.random.default_rng(0).normal(size=len(label))
    return ScoreTable(
        key=[f"k{number}" for number in range(21)],
        video=[f"{subject}-{kind}" for subject, kind in names] + ["v"],
        subject=[subject for subject, _ in names] + ["p0"],
        domain=["phone"] * 20 + ["corpus"],
        attack_type=[kind for _, kind in names] + ["none"],
        label=label,
        score=label + noise * drawn,
    )


def test_a_student_like_its_teacher_differs_by_nothing():
    first, whole = compare(scores(0.1), scores(0.1))
    assert (first["domain"], first["videos"], first["persons"]) == ("phone", 20, 10)
    assert first["teacher"] == first["student"] == "1.000 [1.000, 1.000]"
    assert whole["difference"] == "+0.000 [+0.000, +0.000]"


def test_a_worse_student_is_said_to_be_worse():
    better, worse = (compare(*both)[0]["difference"] for both in ((scores(3), scores(0.1)), (scores(0.1), scores(3))))
    assert better.startswith("+0.")
    assert worse.startswith("-0.")
    assert better[1:6] == worse[1:6]


@pytest.mark.slow
def test_the_benchmark_times_and_counts():
    rows = student_benchmark(repeats=1)
    assert [(row["network"], row.get("precision")) for row in rows] == [
        *((name, precision) for name in (STUDENT, SILENT_FACE) for precision in ("float32", "int8")),
        (RECIPE, None),
    ]
    assert all(row["ms_per_face"] > 0 for row in rows[:4])
    assert rows[2]["ratio"] == rows[3]["ratio"] == 1
    assert rows[4]["of the student's"] > 1000

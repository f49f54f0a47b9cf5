"""The student beside its teacher on labelled faces, and its benchmark."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.evaluation.scores import ScoreTable
from scripts.bench.student import FLOAT, HALF, RECIPE, SILENT_FACE, STUDENT, WHOLE, student_benchmark
from scripts.distillation import compare, main


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
    first, whole = compare([[scores(0.1), scores(0.1)]])
    assert (first["domain"], first["videos"], first["persons"]) == ("phone", 20, 10)
    assert first["teacher"] == first["students"] == "1.000 [1.000, 1.000]"
    assert whole["difference"] == "+0.000 [+0.000, +0.000]"


def test_a_worse_student_is_said_to_be_worse():
    better, worse = (
        compare([[one, other]])[0]["difference"] for one, other in ((scores(3), scores(0.1)), (scores(0.1), scores(3)))
    )
    assert better.startswith("+0.")
    assert worse.startswith("-0.")
    assert better[1:6] == worse[1:6]


def test_of_several_students_the_mean_is_compared():
    teacher, good, bad = scores(1), scores(0.1), scores(3)
    alone = [float(compare([[teacher, one]])[0]["difference"].split()[0]) for one in (good, bad)]
    row = compare([[teacher, good, bad]])[0]
    assert float(row["difference"].split()[0]) == pytest.approx(np.mean(alone), abs=1e-3)
    assert row["students"].split("(")[1].split(")")[0].endswith("to 1.000")


def test_of_several_teachers_each_has_its_own_students():
    lessons = [scores(1), scores(0.1)], [scores(3), scores(1), scores(0.1)]
    alone = [compare([lesson])[0] for lesson in lessons]
    both = compare(lessons)[0]
    for name in ("teacher", "students", "difference"):
        assert float(both[name].split()[0]) == pytest.approx(
            np.mean([float(row[name].split()[0]) for row in alone]), abs=1e-3
        )
    ends = [float(word.strip("()")) for word in both["difference"].split()[1:4:2]]
    assert ends == sorted(float(row["difference"].split()[0]) for row in alone)


def test_a_teacher_without_a_student_is_refused(capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["a", "b", "--and", "c", "--faces", "faces"])
    assert "The teacher c has no student" in capsys.readouterr().err


@pytest.mark.slow
def test_the_benchmark_times_and_counts():
    rows = student_benchmark(repeats=1)
    assert [(row["network"], row.get("precision")) for row in rows] == [
        *((STUDENT, precision) for precision in (FLOAT, WHOLE, HALF)),
        *((SILENT_FACE, precision) for precision in (FLOAT, WHOLE)),
        (RECIPE, None),
    ]
    assert all(row["ms_per_face"] > 0 for row in rows[:5])
    assert rows[3]["ratio"] == rows[4]["ratio"] == 1
    assert rows[5]["of the student's"] > 1000

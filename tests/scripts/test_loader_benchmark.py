"""The benchmark of the loader at a size of a second: every contender makes the same batches."""

from __future__ import annotations

from scripts.bench.loader import workers_benchmark


def test_every_contender_makes_the_same_batches():
    rows = workers_benchmark(count=24, size=16, per_cell=2, steps=4, repeats=2)
    assert [row["equal"] for row in rows] == ["", True, True, True, True]
    assert all(row["faces_per_second"] > 0 for row in rows)
    assert next(row["ratio"] for row in rows if row["contender"] == "shift") == 1

"""The benchmarks' contenders agree with us, small."""

from __future__ import annotations

from scripts.bench.metrics import bootstrap_benchmark, metrics_benchmark


def test_the_contenders_of_the_metrics_agree():
    rows = metrics_benchmark(count=2000, repeats=2, grid_repeats=1)
    assert [(row["data"], row["contender"], row["repeats"]) for row in rows] == [
        ("four decimals", "ours", 2),
        ("four decimals", "scikit-learn", 2),
        ("four decimals", "grid of 10,002", 1),
        ("double precision", "ours", 2),
        ("double precision", "scikit-learn", 2),
    ]
    assert all(row["equal"] for row in rows)
    assert rows[2]["times_ours"] > 10


def test_the_loop_of_the_bootstrap_agrees():
    rows = bootstrap_benchmark(count=1000, frames=5, replicates=20, repeats=1, loop_replicates=20)
    assert all(row["equal"] for row in rows)

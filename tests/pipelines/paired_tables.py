"""Slow witnesses of the report's bootstrap: differences and means of whole tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.errors import AgfasError
from pipelines.evaluation.bootstrap import interval, replicate_values
from pipelines.evaluation.metrics import report
from pipelines.evaluation.scores import ScoreTable


def paired_difference(
    first: ScoreTable, second: ScoreTable, thresholds: tuple[float, float], metric: str, replicates: int = 1000
) -> tuple[float, float, float]:
    """Metric of the first table minus that of the second on the same draws: observed, and its interval's ends."""
    tables = first.by_video(), second.by_video()
    if not np.array_equal(tables[0].key, tables[1].key):
        raise AgfasError(f"{len(set(tables[0].key) ^ set(tables[1].key))} videos are in one table only.")
    pairs = list(zip(tables, thresholds, strict=True))
    drawn = [replicate_values(table, threshold, [metric], replicates)[metric] for table, threshold in pairs]
    observed = [getattr(report(table, threshold), metric) for table, threshold in pairs]
    return (observed[0] - observed[1], *interval(drawn[0] - drawn[1]))


def mean_interval(
    tables: Sequence[ScoreTable], thresholds: Sequence[float], metric: str, replicates: int = 1000
) -> tuple[float, float]:
    """The interval of a metric's mean over several tables."""
    pairs = zip(tables, thresholds, strict=True)
    drawn = [replicate_values(table, threshold, [metric], replicates)[metric] for table, threshold in pairs]
    return interval(np.mean(drawn, axis=0))

"""Score tables for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.evaluation.metrics import Roc, roc
from pipelines.evaluation.scores import ScoreTable


def make_table(labels: Sequence[float], scores: Sequence[float], **columns: Any) -> ScoreTable:
    """One video and subject per score, attacks of type `print`, domain `d`, unless given otherwise."""
    count = len(labels)
    names = [f"v{i:05d}" for i in range(count)]
    default: dict[str, Any] = {
        "key": [f"d/s/{name}/000" for name in names],
        "video": names,
        "subject": names,
        "domain": ["d"] * count,
        "attack_type": ["none" if label else "print" for label in labels],
        "label": labels,
        "score": scores,
    }
    return ScoreTable(**{**default, **columns})


def random_table(count: int, seed: int = 0, decimals: int | None = None, shift: float = 1.0) -> ScoreTable:
    """Overlapping scores in (0, 1) of bona fide, print, replay and mask; few decimals make ties."""
    generator = np.random.default_rng(seed)
    kinds = np.concatenate([np.arange(4), generator.integers(0, 4, count - 4)])
    labels = (kinds == 0).astype(int)
    scores = 1 / (1 + np.exp(-generator.normal(size=count) - shift * (2 * labels - 1) + 0.3 * (kinds == 3)))
    if decimals is not None:
        scores = np.round(scores * 10**decimals) / 10**decimals
    return make_table(labels, scores, attack_type=np.array(["none", "print", "replay", "mask"])[kinds])


def curve(table: ScoreTable) -> Roc:
    """The operating points of a table."""
    return roc(table.label, table.score)

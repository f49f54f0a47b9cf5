"""The statistics baseline: numbers worked by hand, and every domain judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.data.records import load_faces
from pipelines.synthetic.benchmark import build
from pipelines.synthetic.settings import DOMAINS, SyntheticSettings
from scripts.bench.synthetic import baseline_rows, image_statistics, statistics_baseline


def test_statistics_on_pictures_worked_by_hand() -> None:
    flat = np.full((1, 8, 8, 3), 51, dtype=np.uint8)
    assert image_statistics(flat)[0] == pytest.approx([0.2] * 3 + [0.0] * 6)
    board = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    board[0, ::2] = 255
    mean, deviation, high = image_statistics(board)[0][[0, 3, 6]]
    assert (mean, deviation) == pytest.approx((0.5, 0.5))
    inner = [2 / 3, -2 / 3]
    assert high == pytest.approx(np.sqrt(np.mean([np.square(1 / 3), *[np.square(inner[0])] * 6, np.square(1 / 3)])))


def test_baseline_judges_every_domain_but_the_corpus(tmp_path: Path) -> None:
    tiny = SyntheticSettings(size=32, subjects=5, live_videos=1, attack_videos=2, frames=2, corpus_subjects=3)
    result = statistics_baseline(load_faces(build(tiny, tmp_path / "faces")))
    assert set(result["within"]) == set(result["across"]) == set(DOMAINS)
    assert result["across_mean"] == pytest.approx(np.mean(list(result["across"].values())))
    assert all(0.0 <= value <= 1.0 for value in result["across"].values())
    assert [row["domain"] for row in baseline_rows(result)] == [*DOMAINS, "mean"]

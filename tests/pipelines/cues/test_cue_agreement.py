"""Correlation and PSNR of two sets of cues, against a computation face by face."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.cues import agreement as compared
from pipelines.cues.agreement import agreement
from pipelines.cues.reader import CueReader

FACES = 6


def pictures(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (FACES, 16, 16, 3), dtype=np.uint8)


def reader(restored: np.ndarray | None, kind: str = "dfg", form: str = "residual", normalize: str = "per_face"):
    names = [f"a/{face}" for face in range(FACES)]
    return CueReader(kind, names, names, pictures(0), restored, pictures(9), form=form, normalize=normalize)


@pytest.mark.parametrize("normalize", ["per_face", "none"])
@pytest.mark.parametrize("form", ["residual", "two_part"])
def test_every_face_counts_once(form, normalize, monkeypatch):
    monkeypatch.setattr(compared, "_BATCH", 2)
    first, second = (
        reader(pictures(1), form=form, normalize=normalize),
        reader(pictures(2), form=form, normalize=normalize),
    )
    rows = np.array([0, 2, 5])
    found = agreement(first, second, rows)
    cues = [side.batch(rows).flatten(1).numpy() for side in (first, second)]
    expected = np.mean([np.corrcoef(ours, theirs)[0, 1] for ours, theirs in zip(*cues, strict=True)])
    assert found.correlation == pytest.approx(expected, abs=1e-6)
    errors = [np.mean((pictures(2)[row].astype(float) - pictures(1)[row]) ** 2) for row in rows]
    ratios = [20 * np.log10(255) - 10 * np.log10(error) for error in errors]
    assert found.psnr == pytest.approx(np.median(ratios))


def test_a_cue_agrees_with_itself_and_not_with_a_constant_one():
    same = reader(pictures(1))
    found = agreement(same, reader(pictures(1)), np.arange(FACES))
    assert found.correlation == pytest.approx(1.0)
    assert found.psnr == np.inf
    assert agreement(same, reader(pictures(0)), np.arange(FACES)).correlation == 0.0


def test_what_cannot_be_compared_is_not():
    rows = np.arange(FACES)
    assert agreement(reader(None, "zero"), reader(pictures(1)), rows) is None
    assert agreement(reader(pictures(1), form="two_part"), reader(pictures(1)), rows) is None

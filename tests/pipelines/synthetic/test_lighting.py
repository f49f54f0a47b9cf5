"""The light of a simulated scene: one law for both classes, a brighter background behind a face that stays."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.synthetic import lighting
from pipelines.synthetic.lighting import lit
from pipelines.synthetic.recapture import View

SIDE = 48


def view(level: float = 0.5) -> View:
    at = np.zeros((SIDE, SIDE), dtype=np.float32)
    return View(np.full((3, SIDE, SIDE), level, dtype=np.float32), None, at, at)


def shares(monkeypatch: pytest.MonkeyPatch, side: float, window: float) -> None:
    monkeypatch.setattr(lighting, "_SIDE_SHARE", side)
    monkeypatch.setattr(lighting, "_WINDOW_SHARE", window)


def test_without_a_lamp_and_a_window_a_scene_keeps_its_light(monkeypatch):
    shares(monkeypatch, 0.0, 0.0)
    seen = lit(view(), np.random.default_rng(0))
    assert seen.picture == pytest.approx(view().picture, abs=1e-5)
    assert (seen.picture.shape, seen.picture.dtype) == ((3, SIDE, SIDE), np.float32)


def test_a_window_is_behind_the_head(monkeypatch):
    shares(monkeypatch, 0.0, 1.0)
    monkeypatch.setattr(lighting, "_BRIGHT", (1.5, 2.0))
    for seed in range(5):
        seen = lit(view(0.3), np.random.default_rng(seed)).picture
        face, corner = seen[:, SIDE // 2, SIDE // 2].mean(), seen[:, :3, :3].mean()
        assert corner > 1.1 * face
        assert 0.0 <= seen.min() <= seen.max() <= 1.0


def test_a_lamp_at_the_side_makes_a_slope(monkeypatch):
    shares(monkeypatch, 1.0, 0.0)
    monkeypatch.setattr(lighting, "_SIDE", (0.8, 0.8))
    light = lit(view(), np.random.default_rng(3)).light.mean(axis=0)
    rows, columns = (np.diff(np.log(light), axis=axis).mean() * (SIDE - 1) / 2 for axis in (0, 1))
    assert np.hypot(rows, columns) == pytest.approx(0.8, abs=0.08)


def test_light_is_drawn_for_the_video_whatever_is_held_up():
    streams = [np.random.default_rng(7) for _ in range(2)]
    bright, dull = (lit(view(level), rng).picture for level, rng in zip((0.9, 0.2), streams, strict=True))
    assert bright.mean() > dull.mean()
    assert streams[0].random() == streams[1].random()
    others = [lit(view(), np.random.default_rng(seed)).picture for seed in range(8)]
    assert len({one.tobytes() for one in others}) > 4

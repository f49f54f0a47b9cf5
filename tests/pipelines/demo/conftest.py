"""A small run, a judge of it, and a face that it can judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from verdict_run import PaintedFaces, shared_run

from pipelines.demo.answer import Judge
from pipelines.synthetic.benchmark import plan_videos, render_faces
from pipelines.synthetic.settings import SyntheticSettings
from pipelines.verdict import FaceAntiSpoofing


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return shared_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def judge(root) -> Judge:
    """Finds painted faces and has every panel."""
    return Judge(FaceAntiSpoofing.from_run(root, "dfg", face_detector=PaintedFaces()))


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """A face of the built-in benchmark, (96, 96, 3) uint8."""
    settings = SyntheticSettings(subjects=5, live_videos=1, attack_videos=2, frames=2, corpus_subjects=3)
    return render_faces(plan_videos(settings)[:1], settings.seed, 96)[0][0]

"""A crowd of people to prepare, and its dataset."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prepare_stubs import FAULTY, SMALL, SquareDetector, people, save, save_video, scene

from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.stages.prepare import run


@pytest.fixture(scope="module")
def crowd(tmp_path_factory) -> Path:
    """Six persons, one video, and three pictures that are refused for different reasons: 28 sources."""
    folder = people(tmp_path_factory.mktemp("crowd"))
    frames = [scene((30, 20, 60), seed=900 + n, size=(96, 128)) for n in range(12)]
    save_video(folder / "bonafide" / "s6" / "film.mp4", frames)
    save(folder / "bonafide" / "s0" / "nobody.png", scene(seed=5))
    save(folder / "attack" / "s1" / "faulty.png", scene((40, 20, 70), seed=6, corner=FAULTY))
    (folder / "attack" / "s2" / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("notes")
    os.symlink(folder / "bonafide", folder / "loop")
    return folder


@pytest.fixture(scope="module")
def made(crowd, tmp_path_factory) -> Path:
    """The crowd's dataset, by one process."""
    out = tmp_path_factory.mktemp("made") / "out"
    assert run(crowd, out, PrepareRecipe(**SMALL), SquareDetector) == 1
    return out

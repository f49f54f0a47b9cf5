"""A crowd to prepare, and what came out of it."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from prepare_stubs import (
    FAULTY,
    people,
    save,
    save_video,
    scene,
)

SMALL = {"size": 32, "workers": 1}


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(folder: Path) -> list[dict[str, str]]:
    with (folder / "refused.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def crowd_in(folder: Path) -> Path:
    """Six persons, one video, and three pictures that are refused for different reasons: 28 sources."""
    people(folder)
    frames = [scene((30, 20, 60), seed=900 + n, size=(96, 128)) for n in range(12)]
    save_video(folder / "bonafide" / "s6" / "film.mp4", frames)
    save(folder / "bonafide" / "s0" / "nobody.png", scene(seed=5))
    save(folder / "attack" / "s1" / "faulty.png", scene((40, 20, 70), seed=6, corner=FAULTY))
    (folder / "attack" / "s2" / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("notes")
    os.symlink(folder / "bonafide", folder / "loop")
    return folder

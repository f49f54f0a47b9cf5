"""Empty files in the layout of a dataset, and what an importer says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.data.importers import importer_module, layout, load_importer
from pipelines.data.importers.layout import VideoCount, check_counts
from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import ATTACK_TYPES


def touch(folder: Path, *names: str) -> Path:
    """Make empty files, and the folders on the way to them."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, names: list[str]) -> Path:
    """A folder that holds files for importers; only its top folders are made."""
    paths = [folder / name for name in names]
    for top in {name.split("/")[0] for name in names}:
        (folder / top).mkdir()

    def files_in(place: Path, suffixes: tuple[str, ...]) -> list[Path]:
        return [path for path in paths if path.is_relative_to(place) and path.suffix in suffixes]

    monkeypatch.setattr(layout, "files_in", files_in)
    return folder


def found(importer: str, source: Path, domain: str = "d") -> dict[str, SourceFace]:
    """What an importer finds, by the path below the source."""
    faces = load_importer(importer)(source, domain)
    assert {face.attack_type for face in faces} <= {"none", *ATTACK_TYPES}
    assert len({(face.subject, face.video, face.frame) for face in faces}) == len(faces), "keys would collide"
    return {face.path.relative_to(source).as_posix(): face for face in faces}


def said(face: SourceFace) -> tuple[int, str, str, str, int, str]:
    """Label, attack type, subject, video, frame and split."""
    return face.label, face.attack_type, face.subject, face.video, face.frame, face.split


def counted(importer: str, source: Path) -> list[VideoCount]:
    """The importer's expected numbers against what is there."""
    expected = getattr(importer_module(importer), "EXPECTED", ())
    return check_counts(load_importer(importer)(source, "d"), expected)

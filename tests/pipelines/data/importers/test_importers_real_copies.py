"""Importers on what there is of real copies, where `AGFAS_REALDATA` names the folder that holds them."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from pipelines.data.importers import load_importer

ROOT = Path(os.environ.get("AGFAS_REALDATA", ""))
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not os.environ.get("AGFAS_REALDATA"), reason="AGFAS_REALDATA names no folder of real pictures"),
]


def readme_count(folder: str) -> int:
    """The number of pictures that the README's table gives for a folder."""
    rows = [line.split("|") for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()]
    (count,) = [row[3] for row in rows if len(row) > 3 and row[1].strip().startswith(folder)]
    return int(re.sub(r"\D", "", count))


def test_utkface_has_every_picture_and_its_fields():
    faces = load_importer("utkface")(ROOT / "live" / "utkface", "utkface")
    assert len(faces) == readme_count("live/utkface")
    assert all(20 <= face.age <= 70 and face.sex and face.ethnicity for face in faces)
    assert len(Counter(face.ethnicity for face in faces)) == 5


def test_live_faces_are_all_there():
    assert len(load_importer("live")(ROOT / "live" / "aaf", "aaf")) == readme_count("live/aaf")


def test_nuaa_has_eight_persons_in_both_classes():
    faces = load_importer("nuaa")(ROOT / "nuaa", "nuaa")
    assert len(faces) == readme_count("nuaa/bonafide")
    assert {(face.label, face.subject) for face in faces} == {
        (label, f"000{n}") for label in (0, 1) for n in range(1, 9)
    }


def test_a_folder_of_runs_knows_no_subject():
    faces = load_importer("folder")(ROOT / "replay", "replay")
    assert len(faces) == readme_count("replay/bonafide")
    assert not any(face.subject_known for face in faces)

"""Importers: what a file's name says, on folder trees made in each layout; splits by subject."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.data.importers import IMPORTERS, load_importer
from pipelines.data.importers.source import SUFFIXES, LeftOut, SourceFace, files_in
from pipelines.data.splits import assign_splits
from pipelines.errors import AgfasError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_nuaa_persons_sessions_and_frames(tmp_path):
    touch(tmp_path, "bonafide/0003/0003_00_01_02_57.jpg", "attack/0003/0003_01_08_03_478.jpg")
    live, attack = load_importer("nuaa")(tmp_path, "nuaa")
    assert (live.label, live.attack_type, live.subject, live.frame) == (1, "none", "0003", 57)
    assert live.video == "bonafide-0003_00_01_02"
    assert (attack.label, attack.attack_type, attack.subject, attack.frame) == (0, "print", "0003", 478)
    assert attack.video == "attack-0003_01_08_03"


def test_nuaa_refuses_a_name_that_it_does_not_know(tmp_path):
    touch(tmp_path, "bonafide/0003/holiday.jpg", "attack/0003/0003_01_08_03_478.jpg")
    with pytest.raises(AgfasError, match=r"holiday\.jpg"):
        load_importer("nuaa")(tmp_path, "nuaa")


def test_folder_with_subjects(tmp_path):
    touch(tmp_path, "bonafide/ann/1.png", "bonafide/bob/1.png", "attack/ann/1.png", "attack/ann/2.png")
    faces = load_importer("folder")(tmp_path, "mine")
    assert [(face.subject, face.label) for face in faces] == [("ann", 1), ("bob", 1), ("ann", 0), ("ann", 0)]
    assert len({face.video for face in faces}) == 3


def test_folder_without_subjects_keeps_neighbours_together(tmp_path):
    touch(tmp_path, *[f"bonafide/{number}.png" for number in range(90)], "attack/1.png")
    faces = [face for face in load_importer("folder")(tmp_path, "mine") if face.label == 1]
    assert [face.path.stem for face in faces] == [str(number) for number in range(90)]
    assert [face.subject for face in faces] == [f"bonafide-run-{number // 40:04d}" for number in range(90)]


def test_live_pictures_are_their_own_subjects(tmp_path):
    touch(tmp_path, "20_0_0_1.jpg", "20_0_0_2.jpg")
    faces = load_importer("live")(tmp_path, "utkface")
    assert [face.subject for face in faces] == ["20_0_0_1", "20_0_0_2"]
    assert all(face.label == 1 for face in faces)


def test_links_and_other_files_are_left_alone(tmp_path):
    touch(tmp_path, "a.png", "notes.txt")
    os.symlink(tmp_path, tmp_path / "loop")
    os.symlink(tmp_path / "a.png", tmp_path / "b.png")
    with pytest.warns(LeftOut, match="link"):
        assert [path.name for path in files_in(tmp_path, SUFFIXES)] == ["a.png"]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 50])
def test_no_subject_is_in_two_splits(count):
    faces = [
        SourceFace(Path(f"{subject}-{frame}.png"), "d", ("x", "none")[frame % 2], f"s{subject}", "v", frame)
        for subject in range(count)
        for frame in range(4)
    ]
    dealt = assign_splits(faces)
    of_subject = {face.subject: set() for face in dealt}
    for face in dealt:
        of_subject[face.subject].add(face.split)
    assert all(len(splits) == 1 for splits in of_subject.values())
    used = set().union(*of_subject.values())
    assert used == {"train", "dev", "test"} if count >= 3 else used <= {"train", "dev", "test"}
    assert [face.split for face in assign_splits(faces[::-1])[::-1]] == [face.split for face in dealt]


@pytest.mark.parametrize("name", IMPORTERS)
def test_every_importer_says_when_there_is_nothing(name, tmp_path):
    with pytest.raises(AgfasError):
        load_importer(name)(tmp_path / "absent", "d")

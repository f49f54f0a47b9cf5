"""CelebA-Spoof, FFHQ, UTKFace, NUAA and folders of one's own, on folder trees made in their layouts."""

from __future__ import annotations

import json

import pytest
from dataset_tree import counted, found, said, touch

from pipelines.errors import AgfasError

LABELS = [0] * 44


def celeba(folder):
    return touch(
        folder,
        "Data/train/1/live/000001.png",
        "Data/train/1/live/000001_BB.txt",
        "Data/train/1/spoof/000184.jpg",
        "Data/test/4980/spoof/500000.png",
    )


def test_celeba_spoof(tmp_path):
    celeba(tmp_path / "CelebA_Spoof")
    metas = touch(tmp_path / "CelebA_Spoof" / "metas" / "intra_test", "x")
    labels = {"train": ("Data/train/1/spoof/000184.jpg", 4), "test": ("Data/test/4980/spoof/500000.png", 9)}
    for split, (key, kind) in labels.items():
        values = [*LABELS[:40], kind, 1, 1, 1]
        (metas / f"{split}_label.json").write_text(json.dumps({"Data/train/1/live/000001.png": LABELS, key: values}))
    faces = found("celeba_spoof", tmp_path)
    place = "CelebA_Spoof/Data"
    assert said(faces[f"{place}/train/1/live/000001.png"]) == (1, "none", "1", "live-000001", 0, "train")
    assert said(faces[f"{place}/train/1/spoof/000184.jpg"]) == (0, "paper_mask", "1", "spoof-000184", 0, "train")
    assert said(faces[f"{place}/test/4980/spoof/500000.png"])[1::4] == ("replay", "test")


def test_celeba_spoof_without_label_files(tmp_path):
    kinds = {face.attack_type for face in found("celeba_spoof", celeba(tmp_path)).values()}
    assert kinds == {"none", "attack"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "is not a label file"),
        ('{"Data/train/1/spoof/000184.jpg": [1, 2]}', "is not a label file"),
        (json.dumps({"Data/train/1/spoof/9.jpg": [*LABELS[:40], 1, 0, 0, 1]}), "names no spoof type"),
    ],
)
def test_celeba_spoof_refuses_label_files_that_do_not_fit(tmp_path, text, message):
    metas = touch(celeba(tmp_path) / "metas" / "intra_test", "x")
    (metas / "train_label.json").write_text(text)
    with pytest.raises(AgfasError, match=message):
        found("celeba_spoof", tmp_path)


def test_ffhq(tmp_path):
    touch(tmp_path, "images1024x1024/00000/00000.png", "images1024x1024/59000/59999.png", "ffhq-dataset-v2.json")
    touch(tmp_path, "images1024x1024/60000/60000.png", "thumbnails128x128/00000/00000.png")
    faces = found("ffhq", tmp_path)
    assert [face.split for face in faces.values()] == ["train", "train", "dev"]
    assert said(faces["images1024x1024/60000/60000.png"]) == (1, "none", "60000", "60000", 0, "dev")
    assert not any(face.subject_known for face in faces.values())
    assert [count.missing for count in counted("ffhq", tmp_path)] == [59_998, 9_999]


def test_ffhq_thumbnails_and_a_flat_folder(tmp_path):
    touch(tmp_path, "a/thumbnails128x128/00000/00007.png", "a/in-the-wild-images/00000/00007.png", "b/00008.png")
    assert list(found("ffhq", tmp_path / "a")) == ["thumbnails128x128/00000/00007.png"]
    assert list(found("ffhq", tmp_path / "b")) == ["00008.png"]
    touch(tmp_path, "b/in-the-wild-images/00000/00009.png")
    assert list(found("ffhq", tmp_path / "b")) == ["00008.png"], "whole photographs are no samples"
    touch(tmp_path, "b/me.png")
    with pytest.raises(AgfasError, match=r"me\.png"):
        found("ffhq", tmp_path / "b")


def test_utkface(tmp_path):
    touch(tmp_path, "20_0_3_20170117134042772.jpg", "part2/116_1_4_20170120134921760.jpg.chip.jpg")
    touch(tmp_path, "61_3_20170109150557335.jpg.chip.jpg")
    faces = found("utkface", tmp_path)
    young, old = faces["20_0_3_20170117134042772.jpg"], faces["part2/116_1_4_20170120134921760.jpg.chip.jpg"]
    assert (young.age, young.sex, young.ethnicity) == (20, "male", "Indian")
    assert (old.age, old.sex, old.ethnicity) == (116, "female", "Other")
    assert said(young) == (1, "none", "20_0_3_20170117134042772", "20_0_3_20170117134042772", 0, "")
    assert not young.subject_known
    incomplete = faces["61_3_20170109150557335.jpg.chip.jpg"]
    assert (incomplete.age, incomplete.sex, incomplete.ethnicity) == (61, "", "")


def test_utkface_knows_the_five_incomplete_names_and_every_number(tmp_path):
    incomplete = ["39_1_20170116174525125", "53__0_20170116184028385", "61_1_20170109142408075"]
    incomplete += ["61_1_20170109150557335", "61_3_20170109150557335"]
    numbered = [f"1_{number % 2}_{number}_20170117134042772" for number in range(5)]
    faces = found("utkface", touch(tmp_path, *[f"{name}.jpg" for name in (*incomplete, *numbered)]))
    assert [faces[f"{name}.jpg"].age for name in incomplete] == [39, 53, 61, 61, 61]
    assert [(faces[f"{name}.jpg"].sex, faces[f"{name}.jpg"].ethnicity) for name in numbered] == [
        *(("male", "White"), ("female", "Black"), ("male", "Asian"), ("female", "Indian"), ("male", "Other"))
    ]


@pytest.mark.parametrize("name", ["20_2_0_20170117134042772.jpg", "20_0_5_20170117134042772.jpg", "me.jpg", "1.mp4"])
def test_utkface_refuses_other_names(tmp_path, name):
    touch(tmp_path, "20_0_3_20170117134042772.jpg", name)
    with pytest.raises(AgfasError, match=f"1 file is not called as in UTKFace .*{name}"):
        found("utkface", tmp_path)


@pytest.mark.parametrize("pair", [("raw/ClientRaw", "raw/ImposterRaw"), ("ClientFace", "ImposterFace")])
def test_nuaa_as_it_is_distributed(tmp_path, pair):
    touch(
        tmp_path, f"{pair[0]}/0001/0001_00_00_01_0.jpg", f"{pair[1]}/0001/0001_00_00_01_0.jpg", "client_train_raw.txt"
    )
    faces = found("nuaa", tmp_path)
    assert said(faces[f"{pair[0]}/0001/0001_00_00_01_0.jpg"]) == (1, "none", "0001", "bonafide-0001_00_00_01", 0, "")
    assert said(faces[f"{pair[1]}/0001/0001_00_00_01_0.jpg"])[:4] == (0, "print", "0001", "attack-0001_00_00_01")


def test_nuaa_reads_the_raw_pictures_where_both_are_there(tmp_path):
    for pair in (("raw/ClientRaw", "raw/ImposterRaw"), ("Detectedface/ClientFace", "Detectedface/ImposterFace")):
        touch(tmp_path, *[f"{name}/0001/0001_00_00_01_0.jpg" for name in pair])
    assert {name.split("/")[0] for name in found("nuaa", tmp_path)} == {"raw"}


def test_nuaa_needs_both_classes(tmp_path):
    touch(tmp_path, "ClientRaw/0001/0001_00_00_01_0.jpg")
    with pytest.raises(AgfasError, match=r"lacks the folder ImposterRaw/ of NUAA, whose .* are ClientRaw and Imposter"):
        found("nuaa", tmp_path)
    touch(tmp_path, "ClientRaw/x.jpg", "ImposterRaw/0001/0001_00_00_01_0.jpg")
    with pytest.raises(AgfasError, match=r"as in NUAA \(ClientRaw/0001/0001_00_00_01_12\.jpg\)"):
        found("nuaa", tmp_path)


def test_folder_with_pictures_and_videos(tmp_path):
    touch(
        tmp_path, "bonafide/ann/1.png", "bonafide/ann/talk.mp4", "bonafide/walk.MOV", "bonafide/2.jpg", "attack/x.avi"
    )
    faces = found("folder", tmp_path)
    assert said(faces["bonafide/ann/talk.mp4"])[:5] == (1, "none", "ann", "bonafide-ann-talk", 0)
    assert said(faces["bonafide/ann/1.png"])[2:4] == ("ann", "bonafide-ann")
    assert said(faces["bonafide/walk.MOV"])[2:4] == ("bonafide-walk", "bonafide-walk")
    assert said(faces["attack/x.avi"])[:4] == (0, "attack", "attack-x", "attack-x")
    known = {name: face.subject_known for name, face in faces.items()}
    assert known == {name: "/ann/" in name for name in faces}
    assert faces["bonafide/walk.MOV"].is_video


def test_folder_needs_both_classes_with_something_in_them(tmp_path):
    touch(tmp_path, "bonafide/1.png")
    with pytest.raises(AgfasError, match="attack/ is missing"):
        found("folder", tmp_path)
    touch(tmp_path, "attack/notes.txt")
    with pytest.raises(AgfasError, match=r"No pictures or videos in .*attack"):
        found("folder", tmp_path)


def test_live_faces_of_one_name_have_different_videos(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png", "b/1.jpg", "film.mp4")
    faces = found("live", tmp_path)
    assert [face.subject for face in faces.values()] == ["a-1", "b-1.jpg", "b-1.png", "film"]
    assert not any(face.subject_known for face in faces.values())

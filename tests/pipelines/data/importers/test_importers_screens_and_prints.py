"""The datasets of prints and replays, on folder trees made in their layouts."""

from __future__ import annotations

import pytest
from dataset_tree import counted, found, pretend, said, touch

from pipelines.data.importers import load_importer
from pipelines.errors import AgfasError

# The subjects of the dataset's own two lists.
TRAIN = (2, 3, 5, 6, 7, 8, 9, 11, 12, 21, 22, 34, 53, 54, 55)
TEST = (1, 13, 14, 23, 24, 26, 28, 29, 30, 32, 33, 35, 36, 37, 39, 42, 48, 49, 50, 51)
MSU_TRAIN, MSU_TEST = ([f"{number:02d}" for number in numbers] for numbers in (TRAIN, TEST))


def msu(folder, clients=("01", "02", "14", "55")):
    names = []
    for client in clients:
        for camera, end in (("android", "mp4"), ("laptop", "mov")):
            stem = f"client0{client}_{camera}_SD"
            names.append(f"scene01/real/real_{stem}_scene01.{end}")
            for kind in ("ipad_video", "iphone_video", "printed_photo"):
                names.append(f"scene01/attack/attack_{stem}_{kind}_scene01.{end}")
    touch(folder, *names, *[f"{name.rpartition('.')[0]}.face" for name in names])
    (folder / "train_sub_list.txt").write_text("\n".join(MSU_TRAIN))
    (folder / "test_sub_list.txt").write_text("\n".join(MSU_TEST))
    return folder


def test_msu_mfsd(tmp_path):
    faces = found("msu_mfsd", msu(tmp_path))
    assert said(faces["scene01/real/real_client001_android_SD_scene01.mp4"]) == (
        (1, "none", "001", "real_client001_android_SD_scene01", 0, "test")
    )
    attack = "scene01/attack/attack_client055_laptop_SD_{}_scene01.mov"
    assert said(faces[attack.format("printed_photo")])[:3] == (0, "print", "055")
    assert said(faces[attack.format("ipad_video")])[1] == "replay"
    assert faces[attack.format("iphone_video")].split == "train"
    assert faces[attack.format("iphone_video")].is_video


def test_msu_mfsd_is_whole_with_70_and_210_videos(tmp_path):
    counts = counted("msu_mfsd", msu(tmp_path, [*MSU_TRAIN, *MSU_TEST]))
    assert [count.missing for count in counts] == [0, 0, 0]
    assert {label: sum(c.found for c in counts if c.expected.label == label) for label in (1, 0)} == {1: 70, 0: 210}


def test_msu_mfsd_says_what_is_missing(tmp_path):
    counts = counted("msu_mfsd", msu(tmp_path, MSU_TRAIN))
    assert [(count.found, count.missing) for count in counts] == [(30, 40), (30, 40), (60, 80)]


def test_msu_mfsd_below_the_folder_of_its_archive(tmp_path):
    msu(tmp_path / "MSU-MFSD" / "MSU-MFSD-Publish", ["02"])
    assert len(found("msu_mfsd", tmp_path)) == 8


def test_msu_mfsd_without_lists_leaves_the_splits_open(tmp_path):
    msu(tmp_path)
    for name in ("train", "test"):
        (tmp_path / f"{name}_sub_list.txt").unlink()
    assert {face.split for face in found("msu_mfsd", tmp_path).values()} == {""}


def test_msu_mfsd_lists_that_do_not_fit(tmp_path):
    msu(tmp_path)
    (tmp_path / "test_sub_list.txt").write_text("01\n13")
    with pytest.raises(AgfasError, match=r"Client 014 .* is neither in train_sub_list.txt nor"):
        found("msu_mfsd", tmp_path)
    (tmp_path / "test_sub_list.txt").write_bytes("1\n13 caf\u00e9".encode("latin-1"))
    with pytest.raises(AgfasError, match=r"Client 014 .* is neither in train_sub_list.txt nor"):
        found("msu_mfsd", tmp_path)
    (tmp_path / "test_sub_list.txt").write_text("01\n22\n2")
    with pytest.raises(AgfasError, match="Client 002 is both"):
        load_importer("msu_mfsd")(touch(tmp_path), "d")
    (tmp_path / "test_sub_list.txt").unlink()
    with pytest.raises(AgfasError, match=r"test_sub_list.txt is missing"):
        found("msu_mfsd", tmp_path)


def test_msu_mfsd_refuses_an_attack_among_the_real(tmp_path):
    touch(msu(tmp_path), "scene01/real/real_client002_android_SD_ipad_video_scene01.mp4")
    with pytest.raises(AgfasError, match="real_client002_android_SD_ipad_video"):
        found("msu_mfsd", tmp_path)


def casia(train=20, test=30):
    takes = [*map(str, range(1, 9)), *[f"HR_{number}" for number in range(1, 5)]]
    persons = [f"{part}_release/{n + 1}" for part, number in (("train", train), ("test", test)) for n in range(number)]
    return [f"{person}/{take}.avi" for person in persons for take in takes]


def test_casia_fasd(tmp_path, monkeypatch):
    faces = found("casia_fasd", pretend(monkeypatch, tmp_path, casia()))
    assert said(faces["train_release/1/1.avi"]) == (1, "none", "train-01", "train-01-1", 0, "train")
    assert said(faces["test_release/1/HR_1.avi"]) == (1, "none", "test-01", "test-01-HR_1", 0, "test")
    kinds = [faces[f"test_release/30/{take}.avi"].attack_type for take in ("2", "4", "HR_2", "5", "HR_3", "8", "HR_4")]
    assert kinds == ["none", "print", "print", "cut", "cut", "replay", "replay"]


def test_casia_fasd_is_whole_with_150_and_450_videos(tmp_path, monkeypatch):
    counts = counted("casia_fasd", pretend(monkeypatch, tmp_path, casia()))
    assert [count.missing for count in counts] == [0] * 4
    assert {label: sum(c.found for c in counts if c.expected.label == label) for label in (1, 0)} == {1: 150, 0: 450}


def test_casia_fasd_says_what_is_missing(tmp_path, monkeypatch):
    counts = counted("casia_fasd", pretend(monkeypatch, tmp_path, casia(test=0)))
    assert [count.missing for count in counts] == [0, 0, 90, 270]


def test_casia_fasd_names_strange_files(tmp_path):
    touch(tmp_path, *casia(1, 1), *[f"train_release/1/copy{number}.avi" for number in range(5)])
    with pytest.raises(AgfasError, match=r"5 files are not called as in CASIA-FASD .*copy0.avi.*and 2 more"):
        found("casia_fasd", tmp_path)


def replay(parts=("train", "devel", "test")):
    clients = {"train": range(1, 16), "devel": range(16, 31), "test": range(31, 51)}
    attacks = [f"print_client{{}}_session01_highdef_photo_{light}" for light in ("adverse", "controlled")]
    attacks += [
        f"{device}_client{{}}_session01_{device}_{kind}_{light}"
        for device in ("mobile", "highdef")
        for kind in ("photo", "video")
        for light in ("adverse", "controlled")
    ]
    names = ["enroll/train/client001_session01_webcam_authenticate_controlled_1.mov"]
    for part in parts:
        for client in (f"{number:03d}" for number in clients[part]):
            live = [f"{light}_{shot}" for light in ("adverse", "controlled") for shot in (1, 2)]
            names += [f"{part}/real/client{client}_session01_webcam_authenticate_{take}.mov" for take in live]
            for support in ("fixed", "hand"):
                names += [f"{part}/attack/{support}/attack_{name.format(client)}.mov" for name in attacks]
    return names


def test_replay_attack(tmp_path, monkeypatch):
    faces = found("replay_attack", pretend(monkeypatch, tmp_path, replay()))
    live = "client016_session01_webcam_authenticate_adverse_1"
    assert said(faces[f"devel/real/{live}.mov"]) == (1, "none", "016", live, 0, "dev")
    attack = "attack_print_client033_session01_highdef_photo_adverse"
    assert said(faces[f"test/attack/hand/{attack}.mov"]) == (0, "print", "033", f"hand-{attack}", 0, "test")
    screen = "train/attack/fixed/attack_mobile_client003_session01_mobile_photo_adverse.mov"
    assert faces[screen].attack_type == "replay"
    assert not [name for name in faces if name.startswith("enroll")]


def test_replay_attack_is_whole_with_140_and_700_videos_without_devel(tmp_path, monkeypatch):
    counts = counted("replay_attack", pretend(monkeypatch, tmp_path, replay()))
    assert [(count.found, count.missing) for count in counts] == [(140, 0), (700, 0), (60, 0), (300, 0)]


def test_replay_attack_says_what_is_missing(tmp_path, monkeypatch):
    counts = counted("replay_attack", pretend(monkeypatch, tmp_path, replay(["train", "devel"])))
    assert [count.missing for count in counts] == [80, 400, 0, 0]


def test_replay_attack_in_the_folders_of_its_archives(tmp_path):
    touch(tmp_path, "replayattack-test/real/client009_session01_webcam_authenticate_adverse_1.mov")
    (face,) = found("replay_attack", tmp_path).values()
    assert (face.subject, face.split) == ("009", "test")


def test_replay_attack_refuses_a_name_of_another_dataset(tmp_path):
    touch(tmp_path, "train/real/1_1_01_1.avi")
    with pytest.raises(AgfasError, match="1_1_01_1"):
        found("replay_attack", tmp_path)


def oulu(users):
    names = ["Train_files/1_1_01_1.txt", "Protocols/Protocol_1/Train.txt"]
    for part, numbers in users.items():
        videos = [
            f"{p}_{s}_{u:02d}_{f}" for p in range(1, 7) for s in range(1, 4) for u in numbers for f in range(1, 6)
        ]
        names += [f"{part}_files/{video}.avi" for video in videos]
    return names


def test_oulu_npu(tmp_path, monkeypatch):
    faces = found("oulu_npu", pretend(monkeypatch, tmp_path, oulu({"Train": [1], "Dev": [21], "Test": [36]})))
    assert said(faces["Dev_files/6_3_21_1.avi"]) == (1, "none", "21", "6_3_21_1", 0, "dev")
    kinds = [faces[f"Train_files/1_1_01_{file}.avi"].attack_type for file in range(1, 6)]
    assert kinds == ["none", "print", "print", "replay", "replay"]
    assert faces["Test_files/1_1_36_5.avi"].split == "test"


def test_oulu_npu_is_whole_with_720_and_2880_videos_without_dev(tmp_path, monkeypatch):
    users = {"Train": range(1, 21), "Dev": range(21, 36), "Test": range(36, 56)}
    counts = counted("oulu_npu", pretend(monkeypatch, tmp_path, oulu(users)))
    assert [(count.found, count.missing) for count in counts] == [(720, 0), (2880, 0), (270, 0), (1080, 0)]


def test_oulu_npu_says_what_is_missing(tmp_path, monkeypatch):
    users = {"Train": range(1, 20), "Test": range(36, 56)}
    counts = counted("oulu_npu", pretend(monkeypatch, tmp_path, oulu(users)))
    assert [count.missing for count in counts] == [18, 72, 270, 1080]


def test_oulu_npu_refuses_a_phone_that_there_is_not(tmp_path):
    touch(tmp_path, "Train_files/7_1_01_1.avi")
    with pytest.raises(AgfasError, match="7_1_01_1"):
        found("oulu_npu", tmp_path)


def test_siw(tmp_path):
    touch(tmp_path, "Train/live/003/003-1-1-1-1.mov", "Train/live/003/003-1-1-1-1.face")
    touch(
        tmp_path, "Train/spoof/003/003-1-2-1-1.mov", "Test/spoof/161/161-2-3-4-2.mp4", "Test/live/001/001-2-1-1-2.m.mov"
    )
    faces = found("siw", tmp_path)
    assert said(faces["Train/live/003/003-1-1-1-1.mov"]) == (1, "none", "003", "003-1-1-1-1", 0, "train")
    assert said(faces["Train/spoof/003/003-1-2-1-1.mov"])[:2] == (0, "print")
    assert said(faces["Test/spoof/161/161-2-3-4-2.mp4"]) == (0, "replay", "161", "161-2-3-4-2", 0, "test")
    assert faces["Test/live/001/001-2-1-1-2.m.mov"].video == "001-2-1-1-2"
    assert [count.missing for count in counted("siw", tmp_path)] == [713, 1702, 598, 1461]


def test_siw_refuses_a_spoof_among_the_live(tmp_path):
    touch(tmp_path, "Train/live/003/003-1-2-1-1.mov")
    with pytest.raises(AgfasError, match="003-1-2-1-1"):
        found("siw", tmp_path)


def test_rose_youtu(tmp_path):
    kinds = ["G", "Ps", "Pq", "Vl", "Vm", "Mc", "Mf", "Mu", "Ml"]
    touch(tmp_path, *[f"2/{kind}_NT_5s_wg_E_2_{number}.mp4" for number, kind in enumerate(kinds)])
    faces = found("rose_youtu", tmp_path)
    assert said(faces["2/G_NT_5s_wg_E_2_0.mp4"]) == (1, "none", "2", "G_NT_5s_wg_E_2_0", 0, "")
    assert [face.attack_type for _, face in sorted(faces.items(), key=lambda item: item[0][-5])] == [
        *("none", "print", "print", "replay", "replay", "cut", "paper_mask", "partial", "partial")
    ]


def test_rose_youtu_in_train_and_test(tmp_path):
    touch(tmp_path, "rose/train/_3/G_T_ZTE_g_E_3_7.mp4", "rose/test/13/Vl_NT_HS_wg_E_13_120.mp4")
    faces = found("rose_youtu", tmp_path)
    assert faces["rose/train/_3/G_T_ZTE_g_E_3_7.mp4"].split == "train"
    assert said(faces["rose/test/13/Vl_NT_HS_wg_E_13_120.mp4"])[1:3] == ("replay", "13")
    assert faces["rose/test/13/Vl_NT_HS_wg_E_13_120.mp4"].split == "test"


def test_rose_youtu_refuses_a_label_that_there_is_not(tmp_path):
    touch(tmp_path, "2/X_NT_5s_wg_E_2_1.mp4")
    with pytest.raises(AgfasError, match="X_NT_5s"):
        found("rose_youtu", tmp_path)

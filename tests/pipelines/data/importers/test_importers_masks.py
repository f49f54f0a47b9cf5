"""The datasets of masks and figures, and the multi-channel ones, on folder trees made in their layouts."""

from __future__ import annotations

import pytest
from dataset_tree import counted, found, pretend, said, touch

from pipelines.data.importers import layout
from pipelines.errors import AgfasError


def test_hkbu_mars_version_2(tmp_path):
    touch(tmp_path, "HKBU_MARs_V2/real/01/04_02_x.avi", "HKBU_MARs_V2/attack/12/07_06.avi")
    faces = found("hkbu_mars", tmp_path)
    assert said(faces["HKBU_MARs_V2/real/01/04_02_x.avi"]) == (1, "none", "01", "real-01-04_02_x", 0, "")
    assert said(faces["HKBU_MARs_V2/attack/12/07_06.avi"]) == (0, "mask", "12", "attack-12-07_06", 0, "")


def test_hkbu_mars_version_1(tmp_path):
    touch(tmp_path, "01_01_01.mp4", "01_02_05.mp4", "8_03_05.mp4")
    faces = found("hkbu_mars", tmp_path)
    assert [said(face)[:3] for face in faces.values()] == [(1, "none", "01"), (1, "none", "01"), (0, "mask", "08")]


def test_hkbu_mars_refuses_other_names(tmp_path):
    touch(tmp_path, "real/01/holiday.avi")
    with pytest.raises(AgfasError, match="holiday"):
        found("hkbu_mars", tmp_path)


def test_wffd_marks_in_folders_and_in_names(tmp_path):
    touch(tmp_path, "Protocol3/Train/real/0001.jpg", "Protocol3/Train/wax/0001.jpg")
    touch(tmp_path, "Protocol3/Dev/2_real.png", "Protocol3/Test/Wax_3.png", "Protocol1/Train/real/0001.jpg")
    faces = found("wffd", tmp_path)
    assert len(faces) == 4, "Protocol3 repeats the others"
    live, wax = faces["Protocol3/Train/real/0001.jpg"], faces["Protocol3/Train/wax/0001.jpg"]
    assert said(live) == (1, "none", "protocol3-train-0001", "real-protocol3-train-0001", 0, "train")
    assert said(wax)[:3] == (0, "wax", live.subject)
    assert not wax.subject_known
    assert said(faces["Protocol3/Dev/2_real.png"])[0::5] == (1, "dev")
    assert said(faces["Protocol3/Test/Wax_3.png"])[0::5] == (0, "test")


def test_wffd_protocols_1_and_2_are_kept_apart(tmp_path):
    touch(tmp_path, "Protocol1/Train/real/0001.jpg", "Protocol2/Train/real/0001.jpg")
    assert {face.subject for face in found("wffd", tmp_path).values()} == {
        "protocol1-train-0001",
        "protocol2-train-0001",
    }


def test_wffd_refuses_unmarked_pictures(tmp_path):
    touch(tmp_path, "Protocol3/Train/unreal.jpg", "Protocol3/Train/real/1.jpg", "Protocol3/Train/real/REAL_2.jpg")
    with pytest.raises(AgfasError, match=r"1 file is not called as in WFFD .*unreal"):
        found("wffd", tmp_path)
    touch(tmp_path, "Protocol3/Train/real/wax_1.jpg")
    with pytest.raises(AgfasError, match=r"2 files are not called as in WFFD"):
        found("wffd", tmp_path)


def test_threedmad_videos_and_frames(tmp_path):
    touch(tmp_path, "session01/Data/04_01_05.mp4", "session01/Data/04_01_05.hdf5")
    touch(tmp_path, *[f"session03/Data/17_03_01/frame_{number:04d}.png" for number in range(12)])
    faces = found("threedmad", tmp_path)
    assert said(faces["session01/Data/04_01_05.mp4"]) == (1, "none", "04", "04_01_05", 0, "train")
    assert said(faces["session03/Data/17_03_01/frame_0011.png"]) == (0, "mask", "17", "17_03_01", 11, "test")


def test_threedmad_counts_recordings_not_frames(tmp_path, monkeypatch):
    clients = range(1, 18)
    names = [f"session{s:02d}/Data/{c:02d}_{s:02d}_{t:02d}" for s in (1, 2, 3) for c in clients for t in range(1, 6)]
    names.remove("session03/Data/12_03_05")
    monkeypatch.setattr(layout.Layout, "_check_exported", lambda *_: None)
    pretend(monkeypatch, tmp_path, [f"{name}/{frame}.png" for name in names for frame in range(2)])
    counts = counted("threedmad", tmp_path)
    assert [(count.found, count.missing) for count in counts] == [(70, 0), (35, 0), (50, 0), (24, 1), (50, 0), (25, 0)]


def test_threedmad_says_how_to_export_hdf5(tmp_path):
    touch(tmp_path, "session01/Data/04_01_05.hdf5", "session01/Data/04_01_04.hdf5", "session01/Data/04_01_04.mp4")
    with pytest.raises(AgfasError, match=r"1 of the recordings of 3DMAD .*04_01_05.hdf5.*Color_Data.*04_01_05.mp4"):
        found("threedmad", tmp_path)


def test_recordings_of_every_ending_are_to_be_exported_as_their_format_says(tmp_path):
    streams = {
        "session01/Data/04_01_05.h5": ("threedmad", "(`Color_Data`, frames x 3 x 480 x 640 RGB)"),
        "bonafide/A/A_gen_i0_061.h5": (
            *("csmad", "(the group `data/sr300/color`, one height x width x 3 RGB array per frame)"),
        ),
        "face-station/100_03_015_2_10.hdf5": (
            *("wmca", "(group `Frame_N`, dataset `array`, 3 x height x width RGB, of the RGB archive)"),
        ),
    }
    for name, (importer, stream) in streams.items():
        path = touch(tmp_path / importer, name) / name
        with pytest.raises(AgfasError) as caught:
            found(importer, tmp_path / importer)
        assert f"as HDF5 only; the first is {path}. Export the colour stream of each {stream}" in str(caught.value)
        assert f"as a video {path.stem}.mp4 or as pictures {path.stem}/0000.png," in str(caught.value)


def test_threedmad_refuses_a_recording_in_another_sessions_folder(tmp_path):
    touch(tmp_path, "session01/Data/04_03_05.mp4")
    with pytest.raises(AgfasError, match="04_03_05"):
        found("threedmad", tmp_path)


def test_csmad(tmp_path):
    touch(tmp_path, "bonafide/A/A_gen_i0_061.mp4", "bonafide/N/N_genglasses_i3_002.mp4", "bonafide/A/portrait.JPG")
    touch(tmp_path, "attack/WEAR/A/E_atk_A1_i0_001.mp4", "attack/STAND/F/Mask_atk_F1_i2_007/0003.png")
    faces = found("csmad", tmp_path)
    assert len(faces) == 4
    assert said(faces["bonafide/A/A_gen_i0_061.mp4"]) == (1, "none", "A", "A_gen_i0_061", 0, "")
    assert said(faces["attack/WEAR/A/E_atk_A1_i0_001.mp4"]) == (
        (0, "flexible_mask", "A", "WEAR-E_atk_A1_i0_001", 0, "")
    )
    assert said(faces["attack/STAND/F/Mask_atk_F1_i2_007/0003.png"])[2:5] == ("F", "STAND-Mask_atk_F1_i2_007", 3)
    assert [count.missing for count in counted("csmad", tmp_path)] == [85, 157]


def test_csmad_refuses_an_attack_among_the_bona_fide(tmp_path):
    touch(tmp_path, "bonafide/A/E_atk_A1_i0_001.mp4")
    with pytest.raises(AgfasError, match="E_atk_A1"):
        found("csmad", tmp_path)


def wmca(folder):
    names = ["001_01_000_0_01", "001_01_000_1_01", "514_01_035_1_02", "505_01_000_2_06", "100_03_015_2_10"]
    names += ["101_01_000_2_99", "100_01_000_3_05", "100_01_000_3_01", "100_01_000_4_18", "100_01_000_1_09"]
    names += ["100_01_000_5_01"]
    return touch(folder, *[f"face-station/12.02.18/{name}.mp4" for name in names])


def test_wmca_instruments(tmp_path):
    faces = found("wmca", wmca(tmp_path))
    kinds = {face.video: face.attack_type for face in faces.values()}
    assert kinds == {
        "001_01_000_0_01": "none",
        "001_01_000_1_01": "partial",
        "514_01_035_1_02": "mask",
        "505_01_000_2_06": "head",
        "100_03_015_2_10": "paper_mask",
        "101_01_000_2_99": "flexible_mask",
        "100_01_000_3_05": "replay",
        "100_01_000_3_01": "print",
        "100_01_000_4_18": "replay",
        "100_01_000_1_09": "wig",
        "100_01_000_5_01": "makeup",
    }
    assert said(faces["face-station/12.02.18/100_03_015_2_10.mp4"])[::2] == (0, "100", 0)


@pytest.mark.parametrize("place", [".", "wmca-protocols-csv", "..", "../wmca-protocols-csv"])
def test_wmca_takes_the_splits_of_grandtest_and_leaves_wigs_and_make_up_out(tmp_path, place):
    tmp_path = wmca(tmp_path / "inner")
    listed = [path.stem for path in sorted((tmp_path / "face-station" / "12.02.18").iterdir())]
    listed = [name for name in listed if name not in ("100_01_000_1_09", "100_01_000_5_01")]
    ends = ("", ".hdf5")
    rows = [
        f"face-station/12.02.18/{name}{ends[n % 2]} ,{name[-4]},caf\u00e9, {('train', 'dev', 'eval')[n % 3]}"
        for n, name in enumerate(listed)
    ]
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "PROTOCOL-grandtest.csv").write_bytes(
        "\n".join(["path,label,attack,group", "", *rows]).encode("latin-1")
    )
    faces = {face.video: face.split for face in found("wmca", tmp_path).values()}
    assert faces == {name: ("train", "dev", "test")[n % 3] for n, name in enumerate(listed)}
    assert [count.missing for count in counted("wmca", tmp_path)] == [346, 199, 346, 121, 136, 378, 70, 74]


def test_wmca_expects_what_the_paper_counts():
    from pipelines.data.importers.wmca import EXPECTED

    assert sum(number.videos for number in EXPECTED) == 1679


def test_wmca_refuses_unlisted_recordings_and_other_protocols(tmp_path):
    wmca(tmp_path)
    path = tmp_path / "PROTOCOL-grandtest.csv"
    path.write_text("path,label,attack,group\nface-station/12.02.18/001_01_000_0_01,0,x,train\n")
    with pytest.raises(AgfasError, match=r"8 recordings are not in PROTOCOL-grandtest.csv"):
        found("wmca", tmp_path)
    path.write_text("something,else\n")
    with pytest.raises(AgfasError, match="names no recording"):
        found("wmca", tmp_path)


# By type, from instrument 0 on: [P]artial, [M]ask, [W]ig, [H]ead, p[A]per mask, [F]lexible mask, p[R]int, replay [S].
INSTRUMENTS = {
    "1": "-PMPPPPPWWWWWMMPP--",
    "2": "-HHHHHHHAAAAMMMMMMF" + "-" * 56 + "F" * 25 + "--",
    "3": "-RRRRSRRRRSRRRRS--",
}
LETTERS = {"P": "partial", "M": "mask", "W": "wig", "H": "head", "A": "paper_mask", "F": "flexible_mask", "R": "print"}


def test_wmca_knows_the_instruments_of_its_table_and_refuses_others(tmp_path):
    kinds = {
        f"100_01_000_{kind}_{number:02d}": {**LETTERS, "S": "replay"}.get(letter)
        for kind, letters in INSTRUMENTS.items()
        for number, letter in enumerate(letters)
    }
    known = [name for name, kind in kinds.items() if kind]
    faces = found("wmca", touch(tmp_path / "known", *[f"face-station/{name}.mp4" for name in known]))
    assert {face.video: face.attack_type for face in faces.values()} == {name: kinds[name] for name in known}
    touch(tmp_path / "all", *[f"face-station/{name}.mp4" for name in kinds])
    with pytest.raises(AgfasError, match=rf"{len(kinds) - len(known)} files are not called as in WMCA"):
        found("wmca", tmp_path / "all")


def test_msspoof(tmp_path):
    touch(
        tmp_path, "real/VS/train/02_0_1_3_1.pgm", "real/IR/test/13_1_1_3_1.png", "real/VS/enroll/train/02_0_1_7_1.pgm"
    )
    touch(tmp_path, "attack/VS/IR/dev/1_3_vs_ir_2_1.pgm")
    faces = found("msspoof", tmp_path)
    assert len(faces) == 3, "pictures for enrolment are no samples"
    assert said(faces["real/VS/train/02_0_1_3_1.pgm"]) == (1, "none", "02", "real-vs-02_0_1_3_1", 0, "train")
    assert said(faces["real/IR/test/13_1_1_3_1.png"])[2:6:3] == ("13", "test")
    assert said(faces["attack/VS/IR/dev/1_3_vs_ir_2_1.pgm"]) == (
        (0, "print", "01", "attack-vs-ir-1_3_vs_ir_2_1", 0, "dev")
    )
    assert [count.missing for count in counted("msspoof", tmp_path)] == [1251, 3009]


def test_msspoof_refuses_other_names(tmp_path):
    touch(tmp_path, "real/VS/train/face.png")
    with pytest.raises(AgfasError, match=r"face\.png"):
        found("msspoof", tmp_path)

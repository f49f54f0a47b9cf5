"""`agfas detect` and `agfas save-model`: every path an answer, in a table, in JSON, in CSV, and as a picture."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from verdict_run import PaintedFaces, paint, shared_run, write_face

from pipelines.data import detection


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return shared_run(tmp_path_factory.getbasetemp())


@pytest.fixture(autouse=True)
def painted(monkeypatch):
    """`painted` is a face detector like any other."""
    load = detection.load_detector

    def loading(name, weights=None, **options):
        return PaintedFaces() if name == "painted" else load(name, weights, **options)

    monkeypatch.setattr(detection, "load_detector", loading)


@pytest.fixture
def album(tmp_path) -> Path:
    """A folder of photos in folders, with files that are none."""
    folder = tmp_path / "album"
    pictures = {
        "b.png": paint(120, 90, [(10, 10, 60)]),
        "a/b.png": paint(160, 90, [(10, 10, 40), (80, 10, 70)], seed=1),
        "a/wall.png": paint(60, 60, [], seed=2),
    }
    for name, picture in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / name)
    (folder / "notes.txt").write_text("hello")
    (folder / "a" / "again.png").symlink_to(folder / "b.png")
    (folder / "round").symlink_to(folder)
    return folder


def test_table_says_verdict_score_threshold_s_origin_and_detector(root, agfas):
    face = write_face(root)
    code, text, _ = agfas("detect", face, "--run", root, "--label", "image_only", "--fold", "to_kiosk")
    lines = text.splitlines()
    assert code == 0
    assert lines[0].split() == ["verdict", "score", "faces", "source"]
    answer = json.loads(agfas("detect", face, "--run", root, "--label", "image_only", "--json")[1])
    result = answer["results"][0]
    assert lines[1].split(None, 3) == [result["verdict"], f"{result['score']:.4f}", "1", str(face)]
    assert f"live where the score is at least {answer['threshold']:.4f}: EER of" in text
    assert "held-out source videos (phone, webcam)" in text
    assert "detector: image_only, to_kiosk" in text
    assert lines[-1] == f"1 {result['verdict']}"


def test_folder_is_walked_in_order_without_links(root, agfas, album):
    code, text, _ = agfas(
        "detect", album, "--run", root, "--label", "image_only", "--face-detector", "painted", "--json"
    )
    answer = json.loads(text)
    assert code == 0
    assert [r["source"] for r in answer["results"]] == [str(album / n) for n in ("a/b.png", "a/wall.png", "b.png")]
    assert [r["verdict"] == "no face" for r in answer["results"]] == [False, True, False]
    assert answer["left_out"] == (
        "left out: 1 files that are neither pictures nor videos by name (.txt) and 2 links, which are not followed"
    )
    assert answer["refused"] == 0


def test_refused_files_are_counted_and_exit_with_1_after_the_others_were_judged(root, agfas, tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    (tmp_path / "void").mkdir()
    paths = [text, write_face(root), tmp_path / "absent.png", tmp_path / "void"]
    code, printed, error = agfas("detect", *paths, "--run", root, "--label", "image_only")
    assert code == 1
    assert error == "agfas: 3 could not be judged; the reason is beside each."
    rows = printed.splitlines()
    assert rows[1].split()[:3] == ["refused", "-", "-"]
    assert "text.jpg is not a picture" in rows[1]
    assert rows[2].split()[0] in ("live", "attack")
    assert "absent.png" in rows[3]
    assert "holds no picture and no video" in rows[4]
    assert printed.splitlines()[-1].endswith("3 refused")


def test_unreadable_folder_is_refused(root, album, monkeypatch):
    from pipelines.stages.detect import find_media

    scan = os.scandir

    def denying(path):
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denying)
    media = find_media([album]).media
    assert [medium.refused == "" for medium in media] == [True, False]
    assert media[1].refused == f"{album / 'a'} cannot be read (Permission denied)."


def test_all_faces_are_rows_of_table_and_csv(root, agfas, album, tmp_path):
    target = tmp_path / "new" / "answers.csv"
    options = ("--run", root, "--label", "image_only", "--face-detector", "painted", "--all-faces", "--csv", target)
    _, text, _ = agfas("detect", album, *options)
    assert "face at 80, 10, 70 x 70" in text
    rows = list(csv.DictReader(target.read_text(encoding="utf-8").splitlines()))
    assert [row["source"].removeprefix(f"{album}/") for row in rows] == ["a/b.png", "a/b.png", "a/wall.png", "b.png"]
    assert [row["face"] for row in rows] == ["1", "2", "", "1"]
    assert [float(row["width"]) for row in rows[:2]] == [70, 40]
    assert rows[0]["score"] == rows[1]["score"] == rows[0]["face_score"] != rows[1]["face_score"]
    assert rows[2]["verdict"] == "no face"


def test_overlays_mirror_the_folders_and_no_two_share_a_name(root, agfas, album, tmp_path):
    out = tmp_path / "seen"
    options = ("--run", root, "--label", "image_only", "--face-detector", "painted", "--save", out)
    _, text, _ = agfas("detect", album, album / "a" / "b.png", album / "b.png", *options)
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert names == ["a/b.png.png", "a/wall.png.png", "b.png-2.png", "b.png-3.png", "b.png.png"]
    assert f"overlays: 5 in {out}" in text
    for name in names:
        with Image.open(out / name) as overlay:
            assert overlay.format == "PNG"


def test_file_name_moves_no_cursor(root, agfas, tmp_path):
    path = tmp_path / "a\x1b[2Jb.png"
    path.write_bytes(write_face(root).read_bytes())
    _, text, _ = agfas("detect", path, "--run", root, "--label", "image_only")
    assert "\x1b" not in text
    assert "a?[2Jb.png" in text


def test_file_name_that_is_no_unicode_is_written_to_csv(root, agfas, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    path.write_bytes(write_face(root).read_bytes())
    code, _, _ = agfas("detect", path, "--run", root, "--label", "image_only", "--csv", tmp_path / "a.csv")
    assert code == 0
    assert "\\udcff.png" in (tmp_path / "a.csv").read_text()


def test_video_and_pictures_are_judged_in_one_run(root, agfas, album, tmp_path):
    from test_verdict_pictures import write_video

    write_video(album / "a" / "film.mkv", [paint(160, 120, [(20, 10, 80)], seed=n) for n in range(6)])
    options = ("--run", root, "--label", "image_only", "--face-detector", "painted", "--frames", 3)
    out = tmp_path / "seen"
    _, text, _ = agfas("detect", album, *options, "--json", "--save", out)
    results = json.loads(text)["results"]
    assert [Path(r["source"]).name for r in results] == ["b.png", "film.mkv", "wall.png", "b.png"]
    assert [frame["index"] for frame in results[1]["frames"]] == [1, 3, 5]
    assert results[1]["score"] == pytest.approx(np.mean([frame["score"] for frame in results[1]["frames"]]))
    assert results[1]["overlay"] == str(out / "a" / "film.mkv.png")
    assert "3 of 3 frames" in agfas("detect", album / "a" / "film.mkv", *options)[1]


def test_saved_model_answers_as_the_run(root, agfas, tmp_path):
    saved, face = tmp_path / "saved", write_face(root)
    code, text, _ = agfas("save-model", root, "--out", saved, "--label", "dfg", "--fold", "to_phone")
    assert code == 0
    assert text.startswith(f"dfg, to_phone: {saved} (")
    _, from_run, _ = agfas("detect", face, "--run", root, "--label", "dfg", "--fold", "to_phone", "--json")
    _, from_saved, _ = agfas("detect", face, "--model", saved, "--json")
    assert from_run == from_saved


def test_photo_without_a_face_detector_asks_for_one(root, agfas, album):
    code, text, _ = agfas("detect", album / "b.png", "--run", root)
    assert code == 1
    assert "120 x 90" in text
    assert "--face-detector yunet" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "either --run"),
        (["--run", "nowhere", "--model", "nowhere"], "either --run"),
        (["--run", "nowhere"], "plan.json"),
        (["--model", "nowhere"], "No folder at nowhere"),
        (["--model", "nowhere", "--label", "dfg"], "--label"),
        (["--run", "ROOT", "--face-detector", "yunnet"], "did you mean 'yunet'"),
        (["--run", "ROOT", "--weights", "yunet.onnx"], "--face-detector"),
        (["--run", "ROOT", "--frames", "0"], "--frames"),
        (["--run", "ROOT", "--label", "imageonly"], "did you mean 'image_only'"),
    ],
)
def test_wrong_options_are_answered_with_the_fix(root, agfas, options, words):
    given = [str(root) if option == "ROOT" else option for option in options]
    code, text, error = agfas("detect", write_face(root), *given)
    assert (code, text) == (1, "")
    assert words in error


def test_overlay_that_cannot_be_written_is_one_sentence(root, agfas, tmp_path):
    (tmp_path / "file").write_text("")
    options = ("--run", root, "--label", "image_only", "--save", tmp_path / "file" / "below")
    code, text, error = agfas("detect", write_face(root), *options)
    assert (code, text) == (1, "")
    assert "Not a directory" in error

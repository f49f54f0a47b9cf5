"""One picture to its records or refusals: the rule for several faces, filters, bad files."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from prepare_stubs import DEADLY, FAULTY, SquareDetector, face_at, png, save, save_video, scene
from prepare_worker import process, source_of, stored

from pipelines.data.leaks import signature
from pipelines.data.prepare import worker as worker_module
from pipelines.data.prepare.cutter import Cutter
from pipelines.data.prepare.dataset import TaskFiles, task_schema
from pipelines.data.prepare.pool import Task
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.prepare.sources import Refusal
from pipelines.data.prepare.worker import Worker
from pipelines.errors import AgfasError


def test_a_record_says_where_it_comes_from(tmp_path):
    path = save(tmp_path / "a.png", scene((40, 20, 70)))
    (record,) = process(path)
    assert (record["key"], record["frame"], record["split"]) == ("d/s/v/003", 3, "train")
    assert (record["source"], record["source_frame"], record["detector"]) == ("a.png", -1, "squares")
    assert record["box"] == [40, 20, 70, 70]
    assert record["detector_score"] == pytest.approx(0.78)
    assert stored(record).shape == (64, 64, 3)
    # The crop shows the square, and its landmarks are those of the template's fit, eyes above mouth.
    assert stored(record)[32, 32, 0] > 170
    assert record["landmarks"][0][1] < record["landmarks"][2][1] < record["landmarks"][3][1]
    assert record["points"][0] == pytest.approx([61, 44.5])
    assert np.isfinite(record["pose"]).all()
    assert 0 <= record["quality"] <= 1
    assert record["mask"] is None


def test_the_largest_face_or_all(tmp_path):
    path = save(tmp_path / "a.png", scene((5, 5, 30), (60, 40, 60), (130, 5, 20)))
    (only,) = process(path)
    assert only["box"] == [60, 40, 60, 60]
    faces = process(path, all_faces=True)
    assert [face["box"][2] for face in faces] == [60, 30, 20]
    assert [face["video"] for face in faces] == ["v", "v-face1", "v-face2"]
    assert [face["key"] for face in faces] == ["d/s/v/003", "d/s/v-face1/003", "d/s/v-face2/003"]


def test_no_face_and_too_unsure_ones(tmp_path):
    path = save(tmp_path / "a.png", scene())
    (refusal,) = process(path)
    assert refusal == Refusal("a.png", -1, "No face was found.", "the picture")
    path = save(tmp_path / "b.png", scene((5, 5, 30)))
    assert len(process(path, min_score=0.61)) == 1
    (refusal,) = process(path, min_score=0.63)
    assert refusal.reason == "No face was found with a score of at least 0.63."


def test_filters_refuse_with_the_measured_value(tmp_path):
    path = save(tmp_path / "a.png", scene((40, 20, 70)))
    (record,) = process(path)
    yaw, quality = abs(record["pose"][0]), record["quality"]
    assert 0 < quality < 0.99
    (refusal,) = process(path, min_quality=0.99)
    assert refusal.reason == f"The face's quality is {quality:.3f}, below the limit of 0.99."
    assert refusal.filtered
    pitch = record["pose"][1]
    (refusal,) = process(path, max_pitch=abs(pitch) - 0.5)
    assert f"The face's pitch is {pitch:.1f} degrees" in refusal.reason
    assert len(process(path, max_yaw=yaw + 1, max_pitch=abs(pitch) + 1, min_quality=quality - 0.01)) == 1


def test_a_rule_refuses_by_its_own_measures_and_released_looks_twice(tmp_path, monkeypatch):
    from pipelines.data.prepare import cutter
    from pipelines.data.quality import measure_quality

    path = save(tmp_path / "a.png", scene((40, 20, 70)))
    (plain,) = process(path)
    (refusal,) = process(path, quality="paper")
    assert refusal.reason == f"The face's score is {plain['quality']:.3f}, not above 0.65 (quality: paper)."
    assert refusal.filtered
    (record,) = process(path, min_quality=plain["quality"] - 0.01)
    assert record["quality"] == plain["quality"]  # without a rule: the paper's measure, and no limit of its own
    seen = []

    def measure(crop, rule, inside):
        seen.append(rule)
        refused = "contrast is 9.0, not above 15" if len(seen) == 2 else ""
        return replace(measure_quality(crop, rule, inside), refused=refused)

    monkeypatch.setattr(cutter, "measure_quality", measure)
    (record,) = process(path, quality="released")
    assert record["quality"] == pytest.approx(measure_quality(stored(record), "released").score)
    seen.clear()
    assert process(path, quality="paper", enhance="released")[0]["key"]
    assert seen == ["paper"]
    seen.clear()
    (refusal,) = process(path, quality="released", enhance="released")
    assert seen == ["released", "released"]
    assert refusal.reason == "The face's contrast is 9.0, not above 15 after the enhancement (quality: released)."


def test_an_unknown_pose_matters_only_to_a_limit(tmp_path, monkeypatch):
    from pipelines.data import pose

    def unknown(landmarks, size):
        raise AgfasError("No head fits these five landmarks.")

    monkeypatch.setattr(pose, "head_pose", unknown)
    path = save(tmp_path / "a.png", scene((40, 20, 70)))
    (record,) = process(path)
    assert np.isnan(record["pose"]).all()
    (refusal,) = process(path, max_yaw=45)
    assert "No head fits" in refusal.reason
    assert not refusal.filtered


def test_enhancement_comes_after_the_measurement(tmp_path):
    path = save(tmp_path / "a.png", scene((40, 20, 70)))
    (plain,), (enhanced,), (gentle,) = process(path), process(path, enhance=True), process(path, enhance={"gamma": 1.0})
    assert plain["quality"] == enhanced["quality"]
    assert len({record["image"] for record in (plain, enhanced, gentle)}) == 3


def test_aligned_pictures_must_be_nearly_square(tmp_path):
    """A pixel or two are cut off; a photograph is refused, as `agfas detect --aligned` refuses it."""
    picture = np.zeros((200, 203, 3), np.uint8)
    picture[:, 1:201] = 200
    (record,) = process(save(tmp_path / "a.png", picture), aligned=True)
    assert stored(record).min() > 150
    assert record["box"] is record["points"] is None
    assert record["detector"] == "none"
    assert np.isnan(record["landmarks"]).all()
    assert np.isnan([record["detector_score"], *record["pose"]]).all()
    (refusal,) = process(save(tmp_path / "b.png", picture[:150]), aligned=True)
    assert "203 x 150 pixels" in refusal.reason
    assert "--face-detector" in refusal.reason


def test_a_process_of_a_job_uses_one_core_and_writes_what_it_found(tmp_path, monkeypatch):
    import cv2
    import torch

    from pipelines import progress

    calls = []
    monkeypatch.setattr(progress, "hide_bars", lambda: calls.append("bars"))
    monkeypatch.setattr(cv2, "setNumThreads", lambda number: calls.append(("cv2", number)))
    monkeypatch.setattr(torch, "set_num_threads", lambda number: calls.append(("torch", number)))
    names = ("a.png", "deadly.png", "none.png")
    for name, faces in zip(names, ([(40, 20, 70)], [], []), strict=True):
        save(tmp_path / "in" / name, scene(*faces))
    Image.fromarray(scene((40, 20, 70))).save(
        tmp_path / "in" / "two.gif", save_all=True, append_images=[Image.new("RGB", (160, 160))]
    )
    files = TaskFiles(tmp_path / "work")
    files.make_folders()
    work = worker_module.begin_worker(PrepareRecipe(size=64), SquareDetector, tmp_path / "in", tmp_path / "work")
    assert calls == ["bars", ("cv2", 1), ("torch", 1)]
    items = [source_of(tmp_path / "in" / name, name) for name in (*names, "two.gif")]
    begun = []
    work(Task(7, items, {1: "It dies."}), begun.append)
    assert begun == [0, 1, 2, 3]
    assert files.is_done(7)
    assert files.refusals(7) == [
        Refusal("deadly.png", -1, "It dies.", "processing"),
        Refusal("none.png", -1, "No face was found.", "the picture"),
    ]
    assert [note.path for note in files.notes(7)] == ["two.gif"]
    with pa.memory_map(str(files.records(7))) as stream:
        assert pa.ipc.open_stream(stream).read_all().column("source").to_pylist() == ["a.png", "two.gif"]


def test_what_a_source_should_give():
    film, still = source_of(Path("a.mp4")), source_of(Path("a.png"))
    for recipe, wanted in (({}, 10), ({"frames": 3}, 3), ({"frame_rule": "released"}, 2), ({"frame_rule": "both"}, 12)):
        assert worker_module.expected_faces(film, PrepareRecipe(**recipe)) == wanted
        assert worker_module.expected_faces(still, PrepareRecipe(**recipe)) == 1


def test_a_record_has_every_column_of_its_face(tmp_path):
    face = replace(source_of(tmp_path / "a.png"), age=30, sex="f", ethnicity="e", subject_known=False)
    crop = Cutter.load(PrepareRecipe(size=64), SquareDetector).cut(scene((40, 20, 70)), face_at(40, 20, 70, 70))
    mask = np.zeros((64, 64), np.uint8)
    mask[3, 4] = 1
    place = worker_module.Place(5, 9, 2, "uniform")
    made = worker_module.record(face, "a.png", place, replace(crop, mask=mask), "squares", b"whole")
    assert set(made) == set(task_schema().names)
    assert {name: made[name] for name in ("label", "attack_type", "domain", "subject", "split", "age", "sex")} == {
        **{"label": 1, "attack_type": "none", "domain": "d", "subject": "s", "split": "train", "age": 30, "sex": "f"}
    }
    assert (made["ethnicity"], made["subject_known"], made["picture"]) == ("e", False, b"whole")
    assert (made["key"], made["video"], made["frame"]) == ("d/s/v-face2/005", "v-face2", 5)
    assert (made["source_frame"], made["frame_rule"], made["detector"]) == (9, "uniform", "squares")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(made["mask"]))), mask * 255)
    assert made["pose"] == list(crop.pose)
    code, thumbnail = signature(Image.fromarray(crop.picture))
    assert (made["hash"], made["thumbnail"]) == (code, thumbnail.tobytes())


def test_the_refusal_of_a_row_names_its_dataset(tmp_path):
    worker = Worker(Cutter.load(PrepareRecipe(size=64), SquareDetector), tmp_path, tmp_path)
    for number in (0, 1):
        row = replace(source_of(Path("SET")), row=number, column="photo")
        said = f"SET, row {number} of photo, is bad"
        assert worker.refused(row, said, "reading") == Refusal(f"photo[{number}]", -1, said, "reading")


def test_the_refusal_of_a_further_face_says_which(tmp_path):
    path = save(tmp_path / "a.png", scene((5, 5, 30), (60, 40, 60)))
    refusals = process(path, all_faces=True, min_quality=0.99)
    assert [(one.path, one.frame, one.tried, one.lost) for one in refusals] == [
        *(("a.png", -1, "the largest face", 1), ("a.png", -1, "face 1", 1))
    ]
    film = save_video(tmp_path / "a.mp4", [scene((40, 20, 64), seed=n, size=(96, 128)) for n in range(4)])
    assert [(one.frame, one.tried) for one in process(film, frames=2, min_quality=0.99)] == [
        *((1, "the largest face"), (3, "the largest face"))
    ]


# Bad files


def bomb() -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


GOOD = png(scene((40, 20, 70)))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "empty (0 bytes)"),
        ("text.jpg", b"this is not a picture\n" * 9, "not a picture"),
        ("half.png", GOOD[: len(GOOD) // 2], "a damaged "),
        ("start.jpg", b"\xff\xd8\xff\xe0", "a damaged "),
        ("bomb.png", bomb(), "60000 x 60000 pixels"),
        ("gif.png", b"GIF89a" + b"\x01\x00\x01\x00\x80\x00\x00" + b"\x00" * 30, "a damaged GIF picture"),
        ("zeros.bmp", b"\x00" * 500, "not a picture"),
        ("empty.mp4", b"", "empty (0 bytes)"),
        ("text.mp4", b"this is not a video\n" * 9, "not a video"),
        ("picture.avi", GOOD[:60], "not a video"),
        ("gone.png", None, "No such file"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    (refusal,) = process(tmp_path / name)
    assert isinstance(refusal, Refusal)
    assert reason in refusal.reason
    assert (refusal.path, refusal.tried) == (name, "reading")
    assert str(tmp_path) not in refusal.reason
    assert refusal.lost == (10 if name.endswith((".mp4", ".avi")) else 1)


def test_links_pipes_and_folders_are_refused(tmp_path):
    save(tmp_path / "real" / "a.png", scene((40, 20, 70)))
    os.symlink(tmp_path / "real" / "a.png", tmp_path / "link.png")
    os.symlink(tmp_path / "real", tmp_path / "folder")
    os.symlink(tmp_path / "loop.png", tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    wanted = {
        "link.png": "links are not followed",
        "folder/a.png": "through a link (folder)",
        "loop.png": "links are not followed",
        "pipe.png": "not a regular file",
        "folder.png": "not a regular file",
    }
    for name, reason in wanted.items():
        (refusal,) = process(tmp_path / name, root=tmp_path)
        assert reason in refusal.reason
        assert refusal.path == name
    assert not isinstance(process(tmp_path / "real" / "a.png", root=tmp_path / "folder")[0], Refusal)


def test_what_can_be_seen_but_not_read_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", scene((40, 20, 70)))
    monkeypatch.setattr(os, "access", lambda place, mode: mode != os.R_OK)
    (refusal,) = process(path)
    assert refusal.reason == "a.png cannot be read (Permission denied). Check its permissions."


def test_what_nobody_foresaw_costs_one_picture(tmp_path):
    (refusal,) = process(save(tmp_path / "a.png", scene((40, 20, 70), corner=FAULTY)))
    assert refusal.reason == "It could not be processed (ValueError: a matrix of the wrong shape)."
    assert refusal.tried == "processing"
    assert DEADLY != FAULTY


def test_a_failing_disk_ends_the_job_and_leaves_no_picture_out(tmp_path, monkeypatch):
    def failing(*_):
        try:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        except OSError:
            raise AgfasError("a.png is a damaged picture and cannot be decoded.") from None

    monkeypatch.setattr(worker_module, "read_still", failing)
    with pytest.raises(AgfasError, match=r"a\.png cannot be read now: the disk, or the connection to it, fails"):
        process(save(tmp_path / "a.png", scene((40, 20, 70))))


def test_names_that_are_no_unicode_can_be_written(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(b"nothing")
    (refusal,) = process(path)
    assert refusal.path == "caf\\udce9.png"
    refusal.reason.encode()

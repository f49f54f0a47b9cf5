"""The job whole: same bytes by any number of processes, after a kill, around a dead worker; what it writes and says."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import prepare_stubs
import pytest
from PIL import Image
from prepare_stubs import (
    DEADLY,
    FAULTY,
    BrokenDetector,
    SquareDetector,
    people,
    png,
    save,
    save_video,
    scene,
)

from pipelines.data.faces import open_faces
from pipelines.data.leaks import dataset_leaks, leaks_from_json
from pipelines.data.prepare import job as job_module
from pipelines.data.prepare import sources as sources_module
from pipelines.data.prepare import tasks as tasks_module
from pipelines.data.prepare.dataset import prepared_features
from pipelines.data.prepare.settings import Recipe
from pipelines.data.prepare.sources import find_sources
from pipelines.data.records import load_faces, read_card
from pipelines.errors import AgfasError
from pipelines.stages.prepare import run

REPOSITORY = Path(__file__).parents[2]
SMALL = {"size": 32, "workers": 1}


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(folder: Path) -> list[dict[str, str]]:
    with (folder / "refused.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


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
    assert run(crowd, out, Recipe(**SMALL), SquareDetector) == 1
    return out


# What is written


def test_the_dataset_has_its_columns_and_opens_for_training(made):
    faces = load_faces(made)
    assert faces.features == prepared_features()
    assert len(faces) == 24 + 10
    assert faces["key"][:] == sorted(faces["key"][:])
    opened = open_faces(made, 32)
    assert opened.images.shape == (34, 32, 32, 3)
    assert np.array_equal(opened.images[3], np.asarray(faces[3]["image"]))
    assert {faces[0][name] for name in ("mask", "sex", "ethnicity")} == {None, ""}
    film = [row["frame"] for row in faces if row["source"].endswith("film.mp4")]
    assert film == list(range(10))
    (made / "pixels-32.npy").unlink()


def test_what_is_said_beside_it(made, crowd):
    card = read_card(made)
    assert (card["faces"], card["asked"], card["refused"], card["refused_faces"]) == (34, 37, 3, 3)
    assert card["passed_over"] == {".txt, not taken by the importer": 1, "link, not followed": 1}
    counts = json.loads((made / "counts.json").read_text())
    assert sum(row["faces"] for row in counts["counts"]) == 34
    assert sum(card["counts"].values()) == 34
    text = (made / "README.md").read_text()
    assert text.startswith("---\npretty_name:")
    for wanted in (card["recipe_hash"], card["fingerprint"], card["licence"], "| size | `32` |", "squares"):
        assert wanted in text
    assert str(crowd.parent) not in text + (made / "refused.csv").read_text() + json.dumps(card)
    assert (made / "passed_over.csv").read_text().splitlines()[1:] == [
        'loop,"link, not followed"',
        'notes.txt,".txt, not taken by the importer"',
    ]


def test_every_refusal_has_its_line(made):
    lines = {line["path"]: line for line in refused(made)}
    assert set(lines) == {"attack/s1/faulty.png", "attack/s2/empty.png", "bonafide/s0/nobody.png"}
    assert "ValueError" in lines["attack/s1/faulty.png"]["reason"]
    assert "empty (0 bytes)" in lines["attack/s2/empty.png"]["reason"]
    assert lines["bonafide/s0/nobody.png"]["tried"] == "the picture"


def test_the_check_at_work_is_that_of_the_finished_dataset(made):
    written = json.loads((made / "leaks.json").read_text())
    assert leaks_from_json(written) == dataset_leaks(made)
    assert written["clean"] is True


def test_the_exit_code_is_of_the_refused_share(made, crowd, capsys):
    """Run again with a wider limit: nothing is made anew."""
    before = everything(made)
    assert run(crowd, made, Recipe(**SMALL, max_refused=0.2), SquareDetector) == 0
    assert "3 of 37 faces were refused (8.1%)" in capsys.readouterr().out
    assert run(crowd, made, Recipe(**SMALL, max_refused=0.08), SquareDetector) == 1
    assert "more than --max-refused 0.08" in capsys.readouterr().out
    assert everything(made) == before


# The same bytes, whatever happens


def test_bytes_do_not_depend_on_the_processes(made, crowd, tmp_path):
    assert run(crowd, tmp_path / "out", Recipe(size=32, workers=2), SquareDetector) == 1
    assert everything(tmp_path / "out") == everything(made)
    assert not (tmp_path / "out" / ".work").exists()


def start(source: Path, out: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(Path(__file__).parent)])}
    command = [sys.executable, prepare_stubs.__file__, str(source), str(out)]
    # A shell that runs the tests in the background lets its children ignore Ctrl-C.
    heard = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=environment, preexec_fn=heard, **silent)


def markers(out: Path) -> list[Path]:
    return sorted(out.glob(".work/*/tasks/*.json"))


def wait_for(condition, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_killed_and_run_again_it_ends_in_the_same_bytes(crowd, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks_module, "FACES_A_TASK", 4)
    whole, out = tmp_path / "whole", tmp_path / "out"
    recipe = Recipe(**SMALL, max_refused=1)
    assert run(crowd, whole, recipe, SquareDetector) == 0
    process = start(crowd, out)
    wait_for(lambda: len(markers(out)) >= 2)
    workers = children_of(process.pid)
    process.kill()
    process.wait()
    wait_for(lambda: not any(is_alive(worker) for worker in workers))  # nobody goes on without their parent
    assert len(workers) >= 2
    done = {path: path.stat().st_mtime_ns for path in markers(out)}
    assert not (out / "face_dataset.json").exists()
    assert len(done) < 8
    (out / ".work").joinpath("rubbish").mkdir()
    made = []
    monkeypatch.setattr(job_module, "Pool", counting(made))
    assert run(crowd, out, recipe, SquareDetector) == 0
    assert sum(made) == 8 - len(done)  # the finished tasks were found
    assert everything(out) == everything(whole)


def counting(made: list[int]):
    class CountingPool(job_module.Pool):
        def run(self, tasks):
            made.append(len(tasks))
            return super().run(tasks)

    return CountingPool


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def is_alive(pid: str) -> bool:
    """Whether a process runs; one that is only waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_stopped_while_it_is_put_together_it_ends_in_the_same_bytes(tmp_path, monkeypatch):
    source, whole, out = people(tmp_path / "in", subjects=1, pictures=1), tmp_path / "whole", tmp_path / "out"
    recipe = Recipe(**SMALL, aligned=True)
    assert run(source, whole, recipe) == 0
    replace = os.replace
    for moves in range(8):
        calls = iter(range(moves))

        def stopping(one, other, calls=calls):
            if Path(other).parent == out and next(calls, None) is None:
                raise KeyboardInterrupt
            replace(one, other)

        monkeypatch.setattr(os, "replace", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(source, out, recipe)
        assert not (out / "face_dataset.json").exists()
    monkeypatch.setattr(os, "replace", replace)
    assert run(source, out, recipe) == 0
    assert everything(out) == everything(whole)


def test_interrupted_it_leaves_a_state_that_goes_on(crowd, tmp_path):
    process = start(crowd, tmp_path / "out")
    wait_for(lambda: markers(tmp_path / "out"))
    process.send_signal(signal.SIGINT)
    process.wait(120)
    assert process.returncode != 0
    assert markers(tmp_path / "out")
    assert not (tmp_path / "out" / "face_dataset.json").exists()


def test_a_picture_that_kills_its_worker_is_named_and_left_out(tmp_path):
    source = people(tmp_path / "in", subjects=2, pictures=1)
    save(source / "bonafide" / "s0" / "deadly.png", scene((40, 20, 70), corner=DEADLY))
    assert run(source, tmp_path / "out", Recipe(**SMALL), SquareDetector) == 1
    assert len(load_faces(tmp_path / "out")) == 4
    (line,) = refused(tmp_path / "out")
    assert line["path"] == "bonafide/s0/deadly.png"
    assert line["reason"] == "Its worker process was killed by SIGKILL (out of memory?), 2 times."


def test_a_detector_that_cannot_be_loaded_ends_the_job_before_any_work(crowd, tmp_path):
    with pytest.raises(AgfasError, match=r"nowhere\.onnx"):
        run(crowd, tmp_path / "out", Recipe(**SMALL), BrokenDetector)
    assert not (tmp_path / "out").exists()


# What is refused before any work


def test_an_output_that_holds_something_else_is_left_alone(made, crowd, tmp_path):
    with pytest.raises(AgfasError, match="of another recipe"):
        run(crowd, made, Recipe(size=48, workers=1), SquareDetector)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    with pytest.raises(AgfasError, match="holds something else"):
        run(crowd, tmp_path / "mine", Recipe(**SMALL), SquareDetector)
    with pytest.raises(AgfasError, match="is a file"):
        run(crowd, tmp_path / "mine" / "diary.txt", Recipe(**SMALL), SquareDetector)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(AgfasError, match="is a link"):
        run(crowd, tmp_path / "link", Recipe(**SMALL), SquareDetector)
    with pytest.raises(AgfasError, match="which is only read"):
        run(crowd, crowd / "faces", Recipe(**SMALL), SquareDetector)
    assert everything(tmp_path / "mine") == {"diary.txt": b"dear diary"}


def test_missing_videos_end_it_before_any_work(tmp_path, capsys, monkeypatch):
    from pipelines.data.importers import folder
    from pipelines.data.importers.expected import Expected

    source = people(tmp_path / "in", subjects=2, pictures=1)
    monkeypatch.setattr(folder, "EXPECTED", (Expected(1, 70), Expected(0, 2, what="all")))
    assert run(source, tmp_path / "out", Recipe(**SMALL, aligned=True)) == 1
    printed = capsys.readouterr().out
    assert "bona fide: 2 of 70 videos, 68 MISSING" in printed
    assert "attack [all]: 2 of 2 videos, complete" in printed
    assert "--allow-missing" in printed
    assert not (tmp_path / "out").exists()
    assert run(source, tmp_path / "out", Recipe(**SMALL, aligned=True, allow_missing=True)) == 0
    assert "68 MISSING" in (tmp_path / "out" / "README.md").read_text()


def test_nothing_at_the_source(tmp_path):
    with pytest.raises(AgfasError, match="nothing at"):
        find_sources(tmp_path / "absent", Recipe())


def test_folders_that_cannot_be_read_and_pipes_are_refused(tmp_path, monkeypatch):
    source = people(tmp_path / "in", subjects=1, pictures=1)
    os.mkfifo(source / "bonafide" / "pipe.jpg")
    walk = os.walk

    def failing(folder, onerror):
        onerror(PermissionError(13, "Permission denied", str(source / "bonafide" / "locked")))
        return walk(folder)

    monkeypatch.setattr(sources_module.os, "walk", failing)
    found = find_sources(source, Recipe())
    assert [(line.path, line.reason) for line in found.unreadable] == [
        ("bonafide/locked", "The folder cannot be read (Permission denied); what lies in it is not known."),
        ("bonafide/pipe.jpg", "It is no regular file (a pipe, a socket or a device)."),
    ]


# Other sources and options


def test_names_that_climb_stay_in_the_dataset(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    save(source / "a.png", scene((40, 20, 70)))
    lines = ["path,label,subject,video,domain", "a.png,bonafide,../../s,../v,../../../d"]
    (source / "list.csv").write_text("\n".join(lines))
    run(source / "list.csv", tmp_path / "out", Recipe(importer="csv", **SMALL), SquareDetector)
    (row,) = load_faces(tmp_path / "out")
    assert row["key"] == "%2E.%2F..%2F..%2Fd/%2E.%2F..%2Fs/%2E.%2Fv/000"
    assert row["source"] == "a.png"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    assert {path.name for path in source.iterdir()} == {"a.png", "list.csv"}


def test_a_list_gives_splits_and_persons(tmp_path):
    source = people(tmp_path / "in", subjects=3, pictures=1)
    rows = ["path,label,subject,attack_type,split,age,sex"]
    for subject, split in enumerate(("train", "dev", "test")):
        rows.append(f"bonafide/s{subject}/0.png,bonafide,p{subject},,{split},{30 + subject},female")
        rows.append(f"attack/s{subject}/0.png,attack,p{subject},print,{split},,")
    (source / "list.csv").write_text("\n".join(rows))
    assert run(source / "list.csv", tmp_path / "out", Recipe(importer="csv", **SMALL), SquareDetector) == 0
    faces = load_faces(tmp_path / "out").to_pandas().drop(columns=["image"])
    assert dict(zip(faces["subject"], faces["split"], strict=True)) == {"p0": "train", "p1": "dev", "p2": "test"}
    assert sorted(faces["age"]) == [-1, -1, -1, 30, 31, 32]
    assert set(faces["attack_type"]) == {"none", "print"}


def test_rows_of_a_hugging_face_dataset(tmp_path):
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    pictures = [{"bytes": png(scene((40, 20, 70), seed=number)), "path": None} for number in range(6)]
    pictures[2] = {"bytes": pictures[2]["bytes"][:900], "path": None}
    pictures[3] = None
    rows = {"photo": pictures, "what": ["live", "spoof"] * 3, "who": ["a", "a", "b", "b", "c", "c"]}
    features = Features({"photo": ImageFeature(), "what": Value("string"), "who": Value("string")})
    Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "rows"))
    options = {"image": "photo", "label": "what", "bonafide": "live", "subject": "who"}
    out = tmp_path / "out"
    assert run(tmp_path / "rows", out, Recipe(importer="hf", options=options, **SMALL), SquareDetector) == 1
    faces = load_faces(out)
    assert sorted(faces["source"][:]) == ["photo[0]", "photo[1]", "photo[4]", "photo[5]"]
    assert {(row["source"], row["label"], row["subject"]) for row in faces} >= {
        ("photo[0]", 1, "a"),
        ("photo[5]", 0, "c"),
    }
    reasons = {line["path"]: line["reason"] for line in refused(out)}
    assert "damaged picture" in reasons["photo[2]"]
    assert "row-" not in reasons["photo[2]"]
    assert "no picture" in reasons["photo[3]"]


def test_the_ratio_leaves_the_worst_of_the_larger_class_out(tmp_path):
    source = people(tmp_path / "in", subjects=1, pictures=5)
    for number in (1, 2, 3, 4):
        (source / "attack" / "s0" / f"{number}.png").unlink()
    for number in (0, 3):  # flat and dark: of low quality
        save(source / "bonafide" / "s0" / f"{number}.png", np.full((60, 60, 3), 20 + number, np.uint8))
    recipe = Recipe(**SMALL, aligned=True, ratio=3)
    assert run(source, tmp_path / "out", recipe) == 0
    live = [row["source"] for row in load_faces(tmp_path / "out") if row["label"] == 1]
    assert live == [f"bonafide/s0/{number}.png" for number in (1, 2, 4)]
    assert len((tmp_path / "out" / "left_out.csv").read_text().split()) == 3
    card = read_card(tmp_path / "out")
    assert (card["faces"], card["left_out"], card["asked"], card["refused"]) == (4, 2, 6, 0)


def test_what_a_limit_keeps_out_is_listed_and_no_fault(tmp_path, capsys):
    source = people(tmp_path / "in", subjects=1, pictures=2)
    save(source / "bonafide" / "s0" / "0.png", np.full((60, 60, 3), 20, np.uint8))  # flat and dark
    assert run(source, tmp_path / "out", Recipe(**SMALL, aligned=True, min_quality=0.3)) == 0
    (line,) = refused(tmp_path / "out")
    assert "below the limit of 0.3" in line["reason"]
    card = read_card(tmp_path / "out")
    assert (card["faces"], card["asked"], card["refused_faces"], card["filtered_faces"]) == (3, 4, 0, 1)
    assert "1 sound faces are beyond" in capsys.readouterr().out


def test_where_no_face_comes_through_it_says_so(tmp_path):
    source = people(tmp_path / "in", subjects=1, pictures=1)
    for path in source.rglob("*.png"):
        Image.new("RGB", (50, 50)).save(path)
    assert run(source, tmp_path / "out", Recipe(**SMALL, max_refused=0.99), SquareDetector) == 1
    assert len(refused(tmp_path / "out")) == 2

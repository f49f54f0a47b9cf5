"""`agfas detect` of streams on loopback, by a model of the drawn benchmark: lines, files, refusals, and every end."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from loopback import MOTION_JPEG, http, in_pieces, motion_jpeg, paced, rtsp, serving, transport_stream
from verdict_run import PaintedFaces, shared_run

from pipelines import ending
from pipelines.data import detection, newest
from pipelines.errors import AgfasError
from pipelines.stages import watch as stage
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.sightings import FollowedFace, Sighting
from pipelines.verdict.watching import Pace

BLOCKS = np.kron(np.random.default_rng(0).integers(60, 200, (6, 8)), np.ones((20, 20))).astype(np.uint8)
SCENE = np.repeat(BLOCKS[..., None], 3, axis=2)
SCENE[20:23, 20:80] = SCENE[20:80, 20:23] = (255, 0, 0)
FRAMES = [np.roll(SCENE, step, axis=1) for step in range(6)]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return shared_run(tmp_path_factory.getbasetemp())


class Found(PaintedFaces):
    """Finds the painted face in pictures that were compressed, which keep no pure red."""

    def __call__(self, picture: np.ndarray) -> list:
        red = (picture[..., 0] > 180) & (picture[..., 1] < 90) & (picture[..., 2] < 90)
        clean = np.full_like(picture, 100)
        clean[red] = (255, 0, 0)
        return super().__call__(clean)[-1:]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    load = detection.load_detector
    monkeypatch.setattr(
        detection, "load_detector", lambda name, *more, **options: Found() if name == "painted" else load(name, *more)
    )
    monkeypatch.setattr(newest, "_SECONDS_TO_CLOSE", 0.05)


def options(root: Path) -> tuple[object, ...]:
    return "--run", root, "--label", "image_only", "--fold", "to_kiosk", "--face-detector", "painted", "--rate", 50


def endless():
    return motion_jpeg(cycle(FRAMES), 0.01)


def test_json_lines_of_a_stream_and_their_rows(root, agfas, tmp_path):
    table = tmp_path / "new" / "answers.csv"
    with serving(http(endless, MOTION_JPEG, login="user:SECRET")) as server:
        address = f"http://user:SECRET@127.0.0.1:{server.port}/live"
        times = ("--every", 0.1, "--for", 1)
        code, text, said = agfas("detect", address, *options(root), *times, "--json", "--csv", table)
    answers = [json.loads(line) for line in text.splitlines()]
    assert code == 0
    assert [answer["state"] for answer in answers[:3]] == ["connecting", "connected", "verdict"]
    assert answers[-1]["state"] == "end"
    assert "SECRET" not in text + said + table.read_text()
    (face,) = answers[-2]["tracks"]
    assert face["verdict"] == ("live" if face["score"] >= face["threshold"] else "attack")
    assert face["box"][2] == pytest.approx(60, abs=4)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["state"] for row in rows] == [answer["state"] for answer in answers]
    assert (float(rows[-2]["score"]), rows[-2]["id"]) == (face["score"], str(face["id"]))
    assert float(rows[-2]["seconds"]) == answers[-2]["seconds"]
    assert (rows[0]["left"], rows[0]["latency"]) == ("", "")


def opened(root: Path) -> FaceAntiSpoofing:
    return FaceAntiSpoofing.from_run(root, "image_only", "to_kiosk", face_detector="painted")


def test_scores_are_those_of_the_pictures(root):
    model = opened(root)
    with serving(rtsp(lambda: paced(cycle(in_pieces(transport_stream(FRAMES[:1] * 8))), 0.01))) as server:
        watched = model.watch(f"rtsp://127.0.0.1:{server.port}/live", Pace(seconds=20.0))
        seen = next(sighting for sighting in watched if sighting.tracks)
        watched.close()
    assert seen.photo is not None
    verdict = model(seen.photo)[0]
    assert (seen.tracks[0].newest_score, seen.tracks[0].verdict) == (verdict.score, verdict.verdict)


def test_a_server_that_dies_and_comes_back(root, monkeypatch):
    monkeypatch.setattr("pipelines.verdict.watching.LONGEST_PAUSE", 0.05)
    short = http(lambda: motion_jpeg(FRAMES, 0.01), MOTION_JPEG)
    found: list[Sighting] = []
    with serving(short, http(status="404 Not Found"), lambda connection: None, http(endless, MOTION_JPEG)) as server:
        for sighting in opened(root).watch(f"http://127.0.0.1:{server.port}/live", Pace(every=0.01, seconds=20.0)):
            found.append(sighting)
            if "reconnected" in [each.state for each in found] and sighting.tracks:
                break
    lost = [each.reason for each in found if each.state == "lost"]
    assert len(lost) == 3
    assert "404" in lost[1]
    before = {face.id for each in found[:-1] for face in each.tracks}
    assert before
    assert {face.id for face in found[-1].tracks}.isdisjoint(before)


def test_a_stream_that_cannot_be_opened_is_one_sentence(root, agfas):
    with serving(http(status="404 Not Found")) as server:
        address = f"http://user:SECRET@127.0.0.1:{server.port}/live"
        code, text, said = agfas("detect", address, *options(root), "--json")
    assert code == 1
    assert [json.loads(line)["state"] for line in text.splitlines()] == ["connecting", "end"]
    assert said == (
        f"agfas: http://***@127.0.0.1:{server.port}/live cannot be opened: 404; the server has no such stream, so check"
        " the path."
    )
    assert "SECRET" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["0", "photo.jpg"], "camera 0 is one of 2. Start a command for each."),
        (["rtsp://u:SECRET@h/a", "0"], "rtsp://***@h/a is one of 2"),
        (["rtsp://h/a", "--save", "out"], "--save is for files"),
        (["rtsp://h/a", "--aligned"], "--aligned is for files"),
        (["rtsp://h/a", "--frames", "3"], "--frames is for files"),
        (["rtsp://h/a", "--frames", "10"], "--frames is for files"),  # as many as without the option
        (["photo.jpg", "--every", "2"], "--every is for a camera or stream; these are files."),
        (["photo.jpg", "--for", "2"], "--for is for a camera or stream"),
        (["0", "--every", "0"], "every must be a number above 0, not 0.0."),
        (["gopher://h/a"], "the scheme 'gopher'"),
    ],
)
def test_what_does_not_go_together(agfas, words, said):
    code, text, error = agfas("detect", *words, "--run", "nowhere")
    assert (code, text) == (1, "")
    assert said in error
    assert "SECRET" not in error


def test_faces_must_be_found(root):
    model = FaceAntiSpoofing.from_run(root, "image_only", "to_kiosk")
    with pytest.raises(AgfasError, match="faces in a camera's pictures must be found first: name a face detector"):
        model.watch(0)


def sighting(state: str = "no face", notes: tuple[str, ...] = ()) -> Sighting:
    return Sighting("2026-11-29T07:01:02.345+00:00", 1.0, state, "camera 0", "", (), "EER", None, 1, 0, notes)


class Model:
    """Answers by a script."""

    def __init__(self, answers) -> None:
        from verdict_facts import SETTINGS

        self.settings, self.answers = SETTINGS, answers

    def watch(self, source, pace, *, stop):
        yield from self.answers(stop)


def test_a_note_is_said_once(capsys):
    model = Model(lambda stop: [sighting(notes=("dark",)), sighting(notes=("dark", "small"))])
    stage.run("0", model, Pace())
    assert capsys.readouterr().err.splitlines()[2:] == ["note: dark", "note: small"]


FACE = FollowedFace(3, "live", 0.75, 0.5, 4, 0.25, (1.0, 2.0, 30.0, 40.0), 1.5)


def test_verdicts_go_to_stdout_and_the_connection_to_stderr(capsys):
    seen = replace(sighting("verdict"), tracks=(FACE, replace(FACE, id=4, box=None)))
    stage.run("0", Model(lambda stop: [sighting("connecting"), seen, sighting(), sighting("end")]), Pace())
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "07:01:02  live     0.7500  face 3 at 1, 2, 30 x 40, mean of 4 frames, newest 0.5000",
        "07:01:02  live     0.7500  face 4, mean of 4 frames, newest 0.5000",
        "07:01:02  no face",
    ]
    assert err.splitlines()[0].startswith("live where the score is at least ")
    assert err.splitlines()[2:] == ["07:01:02  connecting: camera 0"]


def test_rows_are_appended_one_for_each_face(tmp_path):
    table = tmp_path / "answers.csv"
    seen = replace(sighting("verdict"), tracks=(FACE, replace(FACE, id=4, box=None)))
    for _ in range(2):
        stage.run("0", Model(lambda stop: [sighting("connecting"), seen]), Pace(), table=table)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["state"], row["id"], row["width"]) for row in rows] == 2 * [
        ("connecting", "", ""), ("verdict", "3", "30.0"), ("verdict", "4", ""),
    ]  # fmt: skip
    assert {row["seconds"] for row in rows} == {"1.0"}


def test_a_table_of_others_is_left_alone(tmp_path):
    table = tmp_path / "answers.csv"
    table.write_text("source,verdict\n")
    with pytest.raises(AgfasError, match="is another table: rows of a watch are appended to their own"):
        stage.run("0", Model(lambda stop: [sighting()]), Pace(), table=table)
    assert table.read_text() == "source,verdict\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, None), (signal.SIGTERM, 75)])
def test_ctrl_c_is_an_end_and_a_scheduler_is_asked_back(number, code, capsys):
    def answers(stop):
        yield sighting()
        os.kill(os.getpid(), number)
        assert stop()
        yield sighting("end")

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    ending.watch_signals()
    try:
        if code is None:
            stage.run("0", Model(answers), Pace(), as_json=True)
        else:
            with pytest.raises(ending.Stopped) as stopped:
                stage.run("0", Model(answers), Pace(), as_json=True)
            assert stopped.value.code == code
    finally:
        ending._watch.code = None
        for each, handler in before.items():
            signal.signal(each, handler)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["state"] == "end"


def test_a_reader_that_closes_the_pipe_is_an_end(monkeypatch):
    reading, writing = os.pipe()
    asked = []

    def answers(stop):
        for _ in range(3):
            asked.append(stop())
            yield sighting()

    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        os.close(reading)
        stage.run("0", Model(answers), Pace(), as_json=True)
        stream.flush()  # as Python does at its end
    assert asked == [False]

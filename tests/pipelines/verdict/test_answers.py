"""What an answer says, letter by letter: on the terminal, as JSON, as CSV, and as plain values."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from pipelines.verdict import ANSWERS, FaceVerdict, FrameVerdict, Verdict
from pipelines.verdict.answers import as_csv, as_json, as_table, count_refused
from pipelines.verdict.settings import FaceSettings, ModelSettings, ThresholdSettings

POINTS = ((1.0, 2.0), (3.0, 4.0))
FACE = np.zeros((2, 2, 3), np.uint8)
LARGE = FaceVerdict("live", 0.75, (10.4, 20.6, 30.0, 40.5), POINTS, 0.9, panels={"face": FACE})
SMALL = FaceVerdict("attack", 0.25, (1.0, 2.0, 3.0, 4.0), POINTS, 0.8, (0.6, 0.15))
SETTINGS = ModelSettings(
    label="ours",
    fold="to_phone",
    detector="oanet",
    face=FaceSettings(size=32, crop_size=48, template="agfas", template_known=True),
    cue=None,
    threshold=ThresholdSettings(value=0.5, rule="source_dev_eer", selection="last", step=4, origin="EER of 9"),
)
TWO = Verdict(
    "two.png", "live", "score 0.7500 >= threshold 0.5000", 0.75, 0.5, "EER of 9", (LARGE, SMALL), notes=("dark",)
)
CROP = Verdict(
    "crop.png", "attack", "score 0.1000 < threshold 0.5000", 0.1, 0.5, "EER of 9", (FaceVerdict("attack", 0.1),)
)
FILM = Verdict(
    "film.mkv",
    "live",
    "score 0.7500 >= threshold 0.5000, the mean of 1 frames",
    0.75,
    0.5,
    "EER of 9",
    frames=(FrameVerdict(0, 0.0, 0.75, (LARGE,), FACE), FrameVerdict(7, None, None, ())),
    notes=("dark",),
)
WALL = Verdict("wall.png", "no face", "painted found no face", None, 0.5, "EER of 9")
BAD = Verdict("bad\x1b.png", "refused", "it is no picture", None, 0.5, "EER of 9")
NAMED = Verdict("text.png", "refused", "text.png is not a picture", None, 0.5, "EER of 9")
ALL = [TWO, CROP, FILM, WALL, BAD, NAMED]


def test_the_table_line_by_line():
    assert as_table(ALL, SETTINGS, ["overlays: 2 in seen"]).splitlines() == [
        "verdict   score   faces          source",
        "live      0.7500  2              two.png",
        "  live    0.7500                   face at 10, 21, 30 x 40",
        "  attack  0.2500                   face at 1, 2, 3 x 4",
        "attack    0.1000  1              crop.png",
        "live      0.7500  1 of 2 frames  film.mkv",
        "no face   -       0              wall.png",
        "refused   -       -              bad?.png: it is no picture",
        "refused   -       -              text.png is not a picture",
        "",
        "live where the score is at least 0.5000: EER of 9",
        "detector: ours, to_phone",
        "note: dark (2 of 6)",
        "overlays: 2 in seen",
        "2 live, 1 attack, 1 no face, 2 refused",
    ]
    assert as_table([TWO], SETTINGS).splitlines()[-3:] == ["detector: ours, to_phone", "note: dark", "1 live"]
    assert ANSWERS == ("live", "attack", "no face", "refused")
    assert count_refused(ALL) == 2


def test_the_json_key_by_key():
    assert json.loads(as_json([TWO, FILM, BAD], SETTINGS, "left out: 1", ["two.png.png", None, None])) == {
        "label": "ours",
        "fold": "to_phone",
        "threshold": 0.5,
        "threshold_origin": "EER of 9",
        "refused": 1,
        "left_out": "left out: 1",
        "results": [
            {
                "source": "two.png",
                "verdict": "live",
                "reason": "score 0.7500 >= threshold 0.5000",
                "score": 0.75,
                "threshold": 0.5,
                "threshold_origin": "EER of 9",
                "faces": [plain(LARGE), {**plain(SMALL), "attack_classes": [0.6, 0.15]}],
                "frames": [],
                "notes": ["dark"],
                "overlay": "two.png.png",
            },
            {
                "source": "film.mkv",
                "verdict": "live",
                "reason": "score 0.7500 >= threshold 0.5000, the mean of 1 frames",
                "score": 0.75,
                "threshold": 0.5,
                "threshold_origin": "EER of 9",
                "faces": [],
                "frames": [
                    {"index": 0, "seconds": 0.0, "score": 0.75, "faces": [plain(LARGE)]},
                    {"index": 7, "seconds": None, "score": None, "faces": []},
                ],
                "notes": ["dark"],
                "overlay": None,
            },
            {
                "source": "bad\x1b.png",
                "verdict": "refused",
                "reason": "it is no picture",
                "score": None,
                "threshold": 0.5,
                "threshold_origin": "EER of 9",
                "faces": [],
                "frames": [],
                "notes": [],
                "overlay": None,
            },
        ],
    }
    assert as_json([], SETTINGS, "", []).startswith('{\n  "label"')  # one key a line


def plain(face: FaceVerdict) -> dict[str, object]:
    return {
        "verdict": face.verdict,
        "score": face.score,
        "box": list(face.box or ()),
        "landmarks": [[1.0, 2.0], [3.0, 4.0]],
        "detection_score": face.detection_score,
    }


def test_the_csv_cell_by_cell():
    strange = Verdict("\udcff.png", "refused", "\udcff.png is empty", None, 0.5, "EER of 9")
    common = {"threshold": "0.5", "threshold_origin": "EER of 9", "frames": "", "frames_judged": ""}
    no_box = {"left": "", "top": "", "width": "", "height": ""}
    no_face = {"face": "", "face_verdict": "", "face_score": "", **no_box}
    large = {"left": "10.4", "top": "20.6", "width": "30.0", "height": "40.5"}
    small = {"left": "1.0", "top": "2.0", "width": "3.0", "height": "4.0"}
    both = {"source": "two.png", "verdict": "live", "score": "0.75", **common, "reason": TWO.reason}
    crop = {"source": "crop.png", "verdict": "attack", "score": "0.1", **common, "reason": CROP.reason, **no_box}
    film = {"source": "film.mkv", "verdict": "live", "score": "0.75", **common, "reason": FILM.reason, **no_face}
    refused = {"source": "\\udcff.png", "verdict": "refused", "score": "", **common, "reason": "\\udcff.png is empty"}
    text = as_csv([TWO, CROP, FILM, strange])
    assert list(csv.DictReader(io.StringIO(text))) == [
        {**both, "face": "1", "face_verdict": "live", "face_score": "0.75", **large},
        {**both, "face": "2", "face_verdict": "attack", "face_score": "0.25", **small},
        {**crop, "face": "1", "face_verdict": "attack", "face_score": "0.1"},
        {**film, "frames": "2", "frames_judged": "1"},
        {**refused, **no_face},
    ]
    assert text.splitlines()[0] == (
        "source,verdict,score,threshold,threshold_origin,frames,frames_judged,face,face_verdict,face_score,"
        "left,top,width,height,reason"
    )


def test_an_answer_sheds_its_pixels_and_keeps_the_rest():
    seen = Verdict("a", "live", "because", 0.75, 0.5, "dev", (LARGE,), FILM.frames, photo=FACE)
    bare = seen.without_pixels()
    assert bare == seen
    assert bare.photo is None
    assert [frame.photo for frame in bare.frames] == [None, None]
    assert [face.panels for face in (*bare.faces, *bare.frames[0].faces)] == [{}, {}]
    assert seen.panels is LARGE.panels
    assert (WALL.panels, bare.panels) == ({}, {})


@pytest.mark.parametrize("answer", [LARGE, FILM.frames[0]])
def test_no_pixels_are_printed_or_compared(answer):
    assert "uint8" not in repr(answer)
    assert "array" not in repr(answer)

"""What a worker does with files, without and with its process; its verdicts are those of `FaceAntiSpoofing`."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from exported_models import SIZE, some_faces, untrained
from PIL import Image
from verdict_run import PaintedFaces
from video_files import write_video

from pipelines.errors import AgfasError
from pipelines.serve import answers
from pipelines.serve.judge import FAULT, NOT_PROCESSED, Judge, Options, Upload, as_json
from pipelines.serve.settings import Limits, Serving
from pipelines.serve.worker import ProcessWorker, Unopened
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.answers import Verdict
from pipelines.verdict.crops import Loaded

LIMITS = Limits(pixels=5000, video_seconds=10, frames=4)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


PICTURES = [png(face) for face in some_faces(SIZE, 3).crops]


@pytest.fixture(scope="module")
def detector(exported) -> FaceAntiSpoofing:
    return FaceAntiSpoofing.from_pretrained(exported)


def uploads(*contents: bytes, **options: Any) -> list[Upload]:
    return [Upload(f"{place}.png", content, Options(**options)) for place, content in enumerate(contents)]


def test_verdicts_are_those_of_the_model_on_the_same_bytes(detector):
    files = [*uploads(*PICTURES, b"no picture", png(np.zeros((80, 80, 3), np.uint8))), Upload("", b"", Options())]
    files.insert(1, Upload("a.png", png(np.zeros((40, 60, 3), np.uint8)), Options()))
    found = [answer["verdict"] for answer in Judge(detector, LIMITS)(files)]
    for place, content in zip((0, 2, 3), PICTURES, strict=True):
        expected = detector(np.asarray(Image.open(io.BytesIO(content))))[0].to_dict()
        assert {**found[place], "score": None, "faces": []} == {
            **expected, "source": files[place].name, "score": None, "faces": [],
        }  # fmt: skip
        assert found[place]["score"] == pytest.approx(expected["score"], abs=1e-6)
    oblong, *reasons = [each["reason"] for each in found if each["verdict"] == "refused"]
    assert oblong == "The picture has 60 x 40 pixels, so it is not an aligned face crop: those are square (within 2%)."
    assert reasons[0].startswith("3.png is not a picture.")
    assert reasons[1].startswith("4.png has 80 x 80 pixels; at most 0.005 million are read.")
    assert reasons[2] == "The file is empty (0 bytes). Send it again."
    for each in found:
        answers.VerdictOf.model_validate({**each, "label": ""})


def test_a_video_is_judged_as_by_the_model_and_a_long_one_is_refused(detector, tmp_path):
    model = untrained("livenessnet")
    finding = FaceAntiSpoofing(model.settings, model.scorer, model.about, Loaded(PaintedFaces()))
    path = write_video(tmp_path / "a.mp4", count=30, rate=10)
    clip = path.read_bytes()
    (answer,) = Judge(finding, LIMITS)([Upload("a.mp4", clip, Options(all_faces=True, frames=9))])
    assert answer["verdict"] == {**finding.judge_video(path, 4, all_faces=True).to_dict(), "source": "a.mp4"}
    assert len(answer["verdict"]["frames"]) == 4
    for pixels, verdict in ((6144, "no face"), (6143, "refused")):  # ten frames of 64 x 48
        judge = Judge(finding, replace(LIMITS, pixels=pixels, frames=10))
        (answer,) = judge([Upload("a.mp4", clip, Options(frames=20))])
        assert answer["verdict"]["verdict"] == verdict
    judge = Judge(detector, replace(LIMITS, video_seconds=2))
    (answer,) = judge([Upload("", clip, Options())])
    assert answer["verdict"]["reason"] == "The file lasts 3 seconds; at most 2 are taken. Cut it."
    assert answer["verdict"]["source"] == "video"


class Faulty:
    """Judges bright files, fails on others."""

    def __call__(self, pictures, **options):
        if any(b"fail" in picture.content for picture in pictures):
            raise AgfasError("/srv/model is broken.")
        words = "it could not be processed (error: /srv/cv2.cpp:1)"
        return [Verdict("", "refused", words, None, 0.5, "") for _ in pictures]

    def judge_video(self, file, *given, **options):
        raise ValueError("/srv/video")


def test_a_fault_of_the_model_is_said_without_its_words_and_costs_the_others_nothing(capsys):
    files = uploads(b"one", b"fail", b"two", b"\x1a\x45\xdf\xa3")
    found = Judge(Faulty(), LIMITS)(files)
    assert [answer.get("fault") for answer in found] == [None, FAULT, None, FAULT]
    assert found[0]["verdict"]["reason"] == NOT_PROCESSED
    said = capsys.readouterr().err
    assert "a file was not judged: AgfasError: /srv/model is broken." in said
    assert "ValueError: /srv/video" in said
    with pytest.raises(ValueError, match="JSON"):
        as_json({"score": float("nan")})


def test_the_facts_are_those_of_the_card():
    facts = Judge(untrained("livenessnet"), LIMITS).facts()
    model = answers.ModelOf.model_validate({**facts, "limits": {}, "version": ""})
    assert (model.label, model.face_detector, model.takes_aligned) == ("untrained", None, True)
    assert model.warnings[0].startswith("It was trained on computer-drawn faces")
    json.dumps(facts, allow_nan=False)


def test_a_process_judges_as_this_one_and_its_end_is_heard(exported, detector):
    serving = Serving(str(exported))
    worker = ProcessWorker(serving, LIMITS, {"OMP_NUM_THREADS": "1"})
    broken = ProcessWorker(Serving(str(exported.parent)), LIMITS, {})
    try:
        assert worker.opened() == json.loads(json.dumps(Judge(detector, LIMITS).facts()))
        given = uploads(*PICTURES, b"\x1a\x45\xdf\xa3 no video")
        assert worker.exchange(given) == Judge(detector, LIMITS)(given)
        worker.kill()
        worker.wait()
        with pytest.raises((EOFError, OSError)):
            worker.exchange(given)
        with pytest.raises(Unopened, match=r"Give a folder of|is not"):
            broken.opened()
        broken.wait()  # it has said so, and ends
    finally:
        worker.close()
        broken.close()

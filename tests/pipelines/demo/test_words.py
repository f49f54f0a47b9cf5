"""What the page says and shows, of a detector that answers what the test wants."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from verdict_facts import ABOUT, SETTINGS

from pipelines.demo.answer import FAULT, NOT_CUT, Answer, Judge, answer_html, explain_panels, limits, what_it_takes
from pipelines.demo.gate import Bounds
from pipelines.errors import AgfasError
from pipelines.verdict import FaceVerdict, Verdict
from pipelines.verdict.settings import PublishedFacts

PANEL = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
FACE = FaceVerdict("live", 0.75, (1.0, 2.0, 3.0, 4.0), ((1.0, 2.0),) * 5, 0.9, panels={"face": PANEL, "cue": PANEL})


class Answers:
    """In a detector's place: remembers what it is asked and gives one answer."""

    def __init__(self, sees: str = "crop", finds: bool = True) -> None:
        self.settings = SETTINGS.model_copy(update={"sees": sees})
        self.loaded = SimpleNamespace(detector="yunet" if finds else None)
        self.asked: list[tuple[np.ndarray, dict[str, Any]]] = []
        self.answer: Verdict | Exception = Verdict(
            "picture 0", "live", "because", 0.75, 0.5, "dev", (FACE,), notes=("n",)
        )

    def __call__(self, photo: np.ndarray, **options: Any) -> list[Verdict]:
        self.asked.append((photo, options))
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer]

    def rehearse(self) -> FaceVerdict:
        return FACE

    def refusal(self, source: str, reason: str) -> Verdict:
        return Verdict(source, "refused", reason, None, 0.5, "dev")


def pixels(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data.split(",", 1)[1])))


@pytest.fixture
def photo(tmp_path) -> Path:
    Image.fromarray(np.full((30, 40, 3), 99, np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_the_detector_is_asked_for_every_face_that_the_bounds_allow(photo):
    detector = Answers()
    answer = Judge(detector, bounds=Bounds(faces=5))(photo)
    (asked, options) = detector.asked[0]
    assert (asked == 99).all()
    assert options == {"all_faces": True, "most_faces": 5, "aligned": False, "panels": True}
    assert (answer.verdict.source, answer.verdict.notes) == ("photo.png", ("n",))
    assert 0 < answer.seconds < 5
    Judge(detector)(photo)
    assert detector.asked[1][1]["most_faces"] == 12


@pytest.mark.parametrize(
    ("sees", "finds", "aligned", "takes_photos"),
    [("crop", True, False, True), ("crop", True, True, False), ("crop", False, False, False),
     ("picture", False, False, True)],
)  # fmt: skip
def test_whole_photographs_are_judged_where_faces_are_found_or_not_needed(sees, finds, aligned, takes_photos, photo):
    detector = Answers(sees, finds)
    judge = Judge(detector, aligned)
    assert judge.finds_faces is takes_photos
    assert judge.warm_up() == ["face", "cue"]
    grey, options = detector.asked.pop()
    assert grey.shape == (256, 256, 3)
    assert (grey == 128).all()
    assert options == {"aligned": aligned or not takes_photos}
    verdict = judge(photo).verdict
    if takes_photos:
        assert verdict.verdict == "live"
    else:
        assert detector.asked == []
        assert verdict.reason == (
            "it has 40 x 30 pixels, and this page judges square crops of a face. Cut a square out of it, with the face"
            " upright and filling it"
        )


def test_a_fault_is_logged_and_not_told(photo, capsys):
    detector = Answers()
    detector.answer = AgfasError("--weights are of another network")
    judge = Judge(detector)
    assert judge(photo).verdict.reason == FAULT
    error = capsys.readouterr().err
    assert error.startswith(
        "agfas demo: a picture was not judged: RuntimeError: --weights are of another network\nTraceback"
    )
    detector.answer = detector.refusal("picture 0", "two points coincide")
    assert judge(photo).verdict.reason == NOT_CUT
    assert "a picture was not judged: RuntimeError: two points coincide" in capsys.readouterr().err
    assert judge(photo).verdict.source == "photo.png"


def test_a_refusal_names_the_file_alone_and_what_the_file_holds_is_noted_first(tmp_path):
    judge = Judge(Answers(), bounds=Bounds(pixels=1_000_000))
    (tmp_path / "text.png").write_text("hello")
    refused = judge(tmp_path / "text.png").verdict
    assert refused.reason.startswith("text.png is not a picture")
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x1cftypcrx \0\0\0\0crx isom")
    assert judge(tmp_path / "a.heic").verdict.reason.endswith(", which is not read here; export it as JPEG")
    Image.new("L", (1001, 1000)).save(tmp_path / "large.png")
    assert "1001 x 1000 pixels; at most 1 million" in judge(tmp_path / "large.png").verdict.reason
    first = Image.new("RGB", (20, 20))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (20, 20), (9, 9, 9))])
    assert judge(tmp_path / "a.gif").verdict.notes == ("it is animated; its first frame is read", "n")


def test_a_large_photo_is_shown_smaller_and_its_numbers_are_as_large_as_its_letters():
    photo = np.full((1100, 2200, 3), (200, 10, 10), np.uint8)
    faces = (FACE, FaceVerdict("attack", 0.25, (1000.0, 500.0, 300.0, 300.0), ((1.0, 2.0),) * 5, 0.9))
    html = answer_html(Answer(Verdict("a", "live", "because", 0.75, 0.5, "dev", faces, photo=photo), 1.234))
    assert '<svg viewBox="0 0 2200 1100"' in html
    assert '<image width="2200" height="1100"' in html
    assert 'font-size="100.0">2</text>' in html
    assert "Judged in 1.23 s." in html
    shown = pixels(html.split('href="')[1].split('"')[0])
    assert (shown.format, shown.size) == ("JPEG", (1280, 640))
    again = io.BytesIO()
    Image.new("RGB", (8, 8)).save(again, "JPEG", quality=90)
    assert shown.quantization == Image.open(again).quantization
    panels = [part.split('"')[0] for part in html.split('<img src="')[1:]]
    assert [np.asarray(pixels(panel)).tolist() for panel in panels] == [PANEL.tolist()] * 2


def test_without_a_box_or_a_photo_there_is_no_photo():
    crop = FaceVerdict("live", 0.75, panels={"face": PANEL})
    photo = np.zeros((8, 8, 3), np.uint8)
    for verdict in (
        Verdict("a", "live", "because", 0.75, 0.5, "dev", (crop,), photo=photo),
        Verdict("a", "live", "because", 0.75, 0.5, "dev", (FACE,)),
    ):
        assert "<svg" not in answer_html(Answer(verdict, 0.0))
    assert "<svg" in answer_html(Answer(Verdict("a", "no face", "none", None, 0.5, "dev", photo=photo), 0.0))


def test_panels_are_explained_once_each_and_a_control_says_so():
    names = ["face", "restoration", "cue, part 1", "cue, part 2", "attention"]
    ours = explain_panels(SETTINGS, names)
    assert ours == {
        "face": "the face as the detector sees it.",
        "restoration": "that face as redrawn by the generator, which was trained on live faces alone.",
        "cue": "what the restoration changed: the detector's second input. Grey is no change.",
        "attention": "where the detector looks in the cue, laid on the face: bright is more.",
    }
    assert list(explain_panels(SETTINGS, ["cue", "face, crop 2"])) == ["face", "cue"]
    control = SETTINGS.model_copy(update={"cue": SETTINGS.cue.model_copy(update={"source": "autoencoder"})})
    assert explain_panels(control, names) == {
        **ours,
        "restoration": "that face after an autoencoder, which knows nothing of real faces.",
        "cue": "the detector's second input, which is a control's here. Grey is 0.",
    }


def test_limits_in_full():
    score = "The score ranks faces; it is not the probability of being live."
    trained = (
        "It was trained on 1,234 faces of the faces of a test (kiosk and webcam): live ones and the attacks print."
        " Other attacks, and better ones, may pass."
    )
    measured = (
        "On the test videos of phone it called 13.0 % of 8 live videos attacks and 12.0 % of 31 attack videos live."
        " These rates change with camera and light."
    )
    assert limits(SETTINGS, ABOUT) == [trained, measured, score]
    drawn = ABOUT.model_copy(update={"drawn": True, "measured": None})
    assert limits(SETTINGS, drawn) == [
        "It was trained on computer-drawn faces: its verdict on a photograph of a person means nothing.",
        trained,
        "Its error rates were not measured here.",
        score,
    ]
    published = drawn.model_copy(update={"published": PublishedFacts(title="MiniFASNet", trained_on="photos")})
    assert limits(SETTINGS, published) == [
        "It is MiniFASNet, as published: trained on photos.",
        "Its error rates were not measured here.",
        score,
    ]


def test_what_the_page_takes():
    assert what_it_takes(True).startswith("Upload a photo with a face in it, or take one with the webcam.")
    assert what_it_takes(False).startswith("Upload a square crop of a face")

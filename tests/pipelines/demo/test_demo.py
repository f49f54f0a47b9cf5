"""`agfas demo`: what the page says of a picture and shows of it."""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from demo_parts import PANELS, blocks, save, with_face
from PIL import Image
from verdict_run import paint

from pipelines.demo.answer import FAULT, NOT_CUT, Judge, answer_html, explain_panels, limits
from pipelines.demo.gate import Bounds
from pipelines.errors import AgfasError
from pipelines.verdict import FaceAntiSpoofing


class Seen(HTMLParser):
    """The text, the headings, and the attributes of every element by its name."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: dict[str, list[dict[str, str]]] = {}
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(chain.from_iterable(self.texts.values())).split())

    def handle_starttag(self, tag, attrs):
        self.elements.setdefault(tag, []).append(dict(attrs))
        if tag not in ("img", "image", "rect"):
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data):
        if self._open:
            self.texts[self._open[-1]][-1] += data


def shown(judge: Judge, path: Path) -> Seen:
    return Seen(answer_html(judge(path)))


def pixels(data: str) -> np.ndarray:
    kind, coded = data.split(",", 1)
    assert kind in ("data:image/png;base64", "data:image/jpeg;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(coded))))


def test_answer_says_verdict_score_and_threshold_and_shows_every_panel(judge, drawn, tmp_path):
    path = save(tmp_path / "photo.png", with_face(drawn))
    verdict = judge.detector(path, panels=True)[0]
    seen = shown(judge, path)
    assert seen.texts["h2"] == [verdict.verdict]
    assert verdict.reason in seen.text
    assert f"The threshold is the {verdict.threshold_origin}." in seen.text
    assert "held-out source videos" in seen.text
    assert seen.texts["figcaption"] == PANELS == list(verdict.panels)
    for image, panel in zip(seen.elements["img"], verdict.panels.values(), strict=True):
        assert np.array_equal(pixels(image["src"]), panel)
    photo = pixels(seen.elements["image"][0]["href"])
    assert photo.shape == (240, 320, 3)
    assert np.abs(blocks(photo) - blocks(verdict.photo)).max() < 12  # a JPEG keeps what noise is on the mean
    rect = seen.elements["rect"][0]
    assert [rect[name] for name in ("x", "y", "width", "height")] == ["100.0", "60.0", "96.0", "96.0"]
    assert str(tmp_path) not in seen.text


def test_picture_without_a_face_is_said_plainly(judge, tmp_path):
    seen = shown(judge, save(tmp_path / "wall.png", paint(160, 120, [])))
    assert seen.texts["h2"] == ["no face"]
    assert "No face was found in this picture, so there is nothing to judge" in seen.text
    assert "img" not in seen.elements
    assert "rect" not in seen.elements


def test_every_face_is_listed_and_numbered(judge, tmp_path):
    photo = paint(300, 200, [(10, 20, 40), (120, 30, 90), (240, 20, 30)])
    seen = shown(judge, save(tmp_path / "three.png", photo))
    faces = judge.detector(photo, all_faces=True)[0].faces
    assert "the largest face decides" in seen.text
    assert [rect["width"] for rect in seen.elements["rect"]] == ["90.0", "40.0", "30.0"]
    assert [text.strip() for text in seen.texts["text"]] == ["1", "2", "3"]
    assert len(seen.texts["h3"]) == 3
    assert len(seen.elements["img"]) == 3 * len(PANELS)
    assert [word.strip() for word in seen.texts["strong"]] == [face.verdict for face in faces]
    for face in faces:
        assert f"score {face.score:.4f}" in seen.text


def test_of_a_crowd_the_largest_are_judged(judge, tmp_path):
    places = [(20 + 60 * column, 20 + 70 * row, 20 + 2 * (5 * row + column)) for row in range(2) for column in range(5)]
    few = Judge(judge.detector, bounds=Bounds(faces=3))
    seen = shown(few, save(tmp_path / "crowd.png", paint(340, 240, places)))
    assert [rect["width"] for rect in seen.elements["rect"]] == ["38.0", "36.0", "34.0"]
    assert "10 faces were found; the 3 largest were judged" in seen.text


def huge_png(side: int) -> bytes:
    """The header of a PNG of side x side pixels, and nothing of them."""
    body = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("text.png", b"hello", "text.png is not a picture"),
        ("empty.jpg", b"", "empty.jpg is empty (0 bytes)"),
        ("huge.png", huge_png(40_000), "40000 x 40000 pixels; at most 25 million"),
        ("large.png", huge_png(9400), "9400 x 9400 pixels; at most 25 million"),
        ("phone.heic", b"\0\0\0\x1cftypcrx \0\0\0\0crx isom", "which is not read here; export it as JPEG"),
        ("cut.jpg", b"\xff\xd8\xff\xe0", "damaged"),
    ],
)
def test_bad_input_is_refused_in_words_that_name_no_place(judge, tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    seen = shown(judge, tmp_path / name)
    assert seen.texts["h2"][0].startswith("refused: ")
    assert reason in seen.texts["h2"][0]
    assert re.search(r"--\w|pip |data\.|agfas|AgfasError|Traceback|/", seen.texts["h2"][0]) is None
    assert str(tmp_path) not in seen.text
    assert "img" not in seen.elements


def test_turned_grey_and_cmyk_pictures_are_answered(judge, tmp_path):
    photo = Image.fromarray(paint(160, 120, [(30, 20, 80)]))
    orientation = Image.Exif()
    orientation[274] = 6  # to be turned by 90 degrees
    photo.rotate(90, expand=True).save(tmp_path / "turned.png", exif=orientation)
    assert shown(judge, tmp_path / "turned.png").elements["svg"][0]["viewbox"] == "0 0 160 120"
    crops = Judge(judge.detector, aligned=True)
    square = photo.crop((0, 0, 100, 100))
    for mode, name in (("L", "grey.png"), ("CMYK", "print.jpg")):
        square.convert(mode).save(tmp_path / name)
        seen = shown(crops, tmp_path / name)
        assert seen.texts["h2"][0] in ("live", "attack")
        assert "svg" not in seen.elements  # a crop is its own face panel
        assert len(seen.elements["img"]) == len(PANELS)
    wide = shown(crops, save(tmp_path / "wide.png", paint(90, 40, []))).texts["h2"][0]
    assert wide.startswith("refused: it has 90 x 40 pixels, and this page judges square crops of a face")


def test_file_name_is_text_and_nothing_else(judge, tmp_path):
    path = tmp_path / "<b onclick=alert(1)>{{ 7*7 }}.png"
    path.write_text("hello")
    html = answer_html(judge(path))
    assert "<b " not in html
    assert "&lt;b onclick=alert(1)&gt;{{ 7*7 }}.png is not a picture" in html


@pytest.mark.parametrize(
    "error", [MemoryError("no room"), AgfasError("give --aligned, or data.size=96 for /srv/model")]
)
def test_fault_of_the_service_is_said_to_be_one_and_logged(judge, tmp_path, capsys, error):
    class Broken:
        settings, loaded, refusal = judge.detector.settings, judge.detector.loaded, judge.detector.refusal

        def __call__(self, *_, **__):
            raise error

    path = save(tmp_path / "photo.png", paint(90, 40, []))
    seen = Seen(answer_html(Judge(Broken())(path)))  # type: ignore[arg-type]
    assert seen.texts["h2"][0] == f"refused: {FAULT}"
    assert str(error) not in seen.text
    assert str(error) in capsys.readouterr().err


def test_face_that_cannot_be_cut_is_said_in_the_visitors_words(judge, tmp_path, capsys, monkeypatch):
    def refused(*_, **__):
        return [judge.detector.refusal("picture 0", "landmarks are outside: use --face-detector retinaface")]

    monkeypatch.setattr(type(judge.detector), "__call__", refused)
    seen = shown(judge, save(tmp_path / "photo.png", paint(90, 40, [])))
    assert seen.texts["h2"][0] == f"refused: {NOT_CUT}"
    assert "--face-detector retinaface" in capsys.readouterr().err


def test_warm_up_names_the_panels_that_the_page_explains(judge, root):
    assert judge.warm_up() == PANELS
    texts = explain_panels(judge.detector.settings, PANELS)
    assert list(texts) == ["face", "restoration", "cue", "attention"]
    assert "live faces alone" in texts["restoration"]
    control = FaceAntiSpoofing.from_run(root, "zero")
    assert not Judge(control).finds_faces
    assert not Judge(judge.detector, aligned=True).finds_faces
    texts = explain_panels(control.settings, Judge(control).warm_up())
    assert "restoration" not in texts
    assert "control" in texts["cue"]


def test_limits_say_what_was_learnt_and_how_it_errs(judge, root):
    detector, about = judge.detector, judge.detector.about()
    said = " ".join(limits(detector.settings, about))
    assert " and ".join([", ".join(about.train_domains[:-1]), about.train_domains[-1]]) in said
    assert "the attacks mask, print and replay" in said
    assert f"{100 * about.measured.bpcer:.1f} % of {about.measured.live_videos} live videos" in said
    assert "computer-drawn faces" not in said
    assert "computer-drawn faces" in limits(detector.settings, about.model_copy(update={"drawn": True}))[0]
    assert "control" in limits(FaceAntiSpoofing.from_run(root, "zero").settings, about)[0]
    threshold = detector.settings.threshold.model_copy(update={"rule": "target_eer"})
    flattered = detector.settings.model_copy(update={"threshold": threshold})
    assert "are optimistic" in limits(flattered, about)[0]

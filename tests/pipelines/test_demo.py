"""`agfas demo`: what the page says and shows, what it keeps, and the page itself in a real browser."""

from __future__ import annotations

import base64
import io
import re
import shutil
import socket
import struct
import sys
import time
import zlib
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from verdict_run import PaintedFaces, paint, shared_run

from pipelines import cli
from pipelines.data.synthetic.benchmark import plan_videos, render_faces
from pipelines.data.synthetic.settings import SyntheticSettings
from pipelines.demo import words
from pipelines.demo.address import bracketed, check_address
from pipelines.demo.judge import WITH_PICTURES, Judge, answer_html
from pipelines.demo.server import load_page, serving
from pipelines.demo.uploads import Uploads
from pipelines.errors import AgfasError
from pipelines.verdict import FaceAntiSpoofing

PANELS = ["face", "restoration", "cue, part 1", "cue, part 2", "attention"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return shared_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def judge(root) -> Judge:
    """Finds painted faces and has every panel."""
    return Judge(FaceAntiSpoofing.from_run(root, "dfg", face_detector=PaintedFaces()))


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """A face of the built-in benchmark, (96, 96, 3) uint8."""
    settings = SyntheticSettings(subjects=5, live_videos=1, attack_videos=2, frames=2, corpus_subjects=3)
    return render_faces(plan_videos(settings)[:1], settings.seed, 96)[0][0]


def save(path: Path, photo: np.ndarray) -> Path:
    Image.fromarray(photo).save(path)
    return path


def with_face(face: np.ndarray, seed: int = 0) -> np.ndarray:
    """A photo of 320 x 240 that shows a face, in the frame by which `PaintedFaces` finds it."""
    photo = paint(320, 240, [], seed)
    photo[60:156, 100:196] = face
    framed = paint(320, 240, [(100, 60, 96)])
    red = (framed == (255, 0, 0)).all(axis=2)
    photo[red] = (255, 0, 0)
    return photo


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


def blocks(picture: np.ndarray) -> np.ndarray:
    """Means over 8 x 8 pixels."""
    height, width = picture.shape[:2]
    return picture.reshape(height // 8, 8, width // 8, 8, 3).mean(axis=(1, 3))


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


def test_crowd_is_listed_whole_with_pictures_of_the_largest(judge, tmp_path):
    places = [(20 + 60 * column, 20 + 70 * row, 20 + 2 * (5 * row + column)) for row in range(3) for column in range(5)]
    seen = shown(judge, save(tmp_path / "crowd.png", paint(340, 240, places)))
    assert len(seen.texts["h3"]) == 15 > WITH_PICTURES
    assert len(seen.elements["img"]) == WITH_PICTURES * len(PANELS)
    assert f"Pictures are shown of the {WITH_PICTURES} largest faces." in seen.text


def huge_png(side: int) -> bytes:
    """The header of a PNG of side x side pixels, and nothing of them."""
    body = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("text.png", b"hello", "text.png is not a picture"),
        ("empty.jpg", b"", "empty.jpg is empty (0 bytes)"),
        ("huge.png", huge_png(40_000), "40000 x 40000 pixels"),
        ("cut.jpg", b"\xff\xd8\xff\xe0", "damaged picture"),
    ],
)
def test_bad_input_is_refused_in_words_that_name_no_place(judge, tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    seen = shown(judge, tmp_path / name)
    assert seen.texts["h2"][0].startswith("refused: ")
    assert reason in seen.texts["h2"][0]
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
    assert "refused: " in shown(crops, save(tmp_path / "wide.png", paint(90, 40, []))).texts["h2"][0]


def test_file_name_is_text_and_nothing_else(judge, tmp_path):
    path = tmp_path / "<b onclick=alert(1)>{{ 7*7 }}.png"
    path.write_text("hello")
    html = answer_html(judge(path))
    assert "<b " not in html
    assert "&lt;b onclick=alert(1)&gt;{{ 7*7 }}.png is not a picture" in html


def test_fault_of_the_program_is_a_refusal_and_printed(judge, tmp_path, capsys):
    class Broken:
        refusal = judge.detector.refusal

        def __call__(self, *_, **__):
            raise MemoryError("no room")

    seen = Seen(answer_html(Judge(Broken())(tmp_path / "photo.png")))  # type: ignore[arg-type]
    assert seen.texts["h2"][0].startswith("refused: the program failed on it (MemoryError)")
    assert "no room" not in seen.text
    assert "MemoryError: no room" in capsys.readouterr().err


def test_warm_up_names_the_panels_that_the_page_explains(judge, root):
    assert judge.warm_up() == PANELS
    told = words.pictures(judge.detector.settings, PANELS)
    assert list(told) == ["face", "restoration", "cue", "attention"]
    assert "live faces alone" in told["restoration"]
    control = FaceAntiSpoofing.from_run(root, "zero")
    assert not Judge(control).finds_faces
    assert not Judge(judge.detector, aligned=True).finds_faces
    told = words.pictures(control.settings, Judge(control).warm_up())
    assert "restoration" not in told
    assert "control" in told["cue"]


def test_limits_say_what_was_learnt_and_how_it_errs(judge, root):
    detector, about = judge.detector, judge.detector.about()
    said = " ".join(words.limits(detector.settings, about))
    assert " and ".join([", ".join(about.train_domains[:-1]), about.train_domains[-1]]) in said
    assert "the attacks mask, print and replay" in said
    assert f"{100 * about.measured.bpcer:.1f} % of {about.measured.live_videos} live videos" in said
    assert "a program drew" not in said
    assert "a program drew" in words.limits(detector.settings, about.model_copy(update={"drawn": True}))[0]
    assert "control" in words.limits(FaceAntiSpoofing.from_run(root, "zero").settings, about)[0]
    threshold = detector.settings.threshold.model_copy(update={"rule": "target_eer"})
    flattered = detector.settings.model_copy(update={"threshold": threshold})
    assert "they flatter" in words.limits(flattered, about)[0]


def test_uploads_are_found_inside_the_folder_alone(tmp_path):
    uploads = Uploads(tmp_path / "in")
    inside, outside = tmp_path / "in" / "hash" / "a.png", tmp_path / "secret.png"
    inside.parent.mkdir(parents=True)
    for path in (inside, outside):
        path.write_bytes(b"x")
    (tmp_path / "in" / "link.png").symlink_to(outside)
    assert uploads.find({"path": str(inside)}) == inside.resolve()
    for payload in (
        None, "a.png", {}, {"path": None}, {"path": str(outside)}, {"path": str(inside.parent)}, {"path": "a\0b"},
        {"path": str(tmp_path / "in" / ".." / "secret.png")}, {"path": str(tmp_path / "in" / "link.png")},
    ):  # fmt: skip
        assert uploads.find(payload) is None


def gone(path: Path, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    return not path.exists()


def test_upload_goes_after_its_answer_unless_it_is_sent_again(tmp_path):
    uploads = Uploads(tmp_path)
    judged, again = tmp_path / "one" / "a.png", tmp_path / "two" / "b.png"
    for path in (judged, again):
        path.parent.mkdir()
        path.write_bytes(b"x")
        uploads.remove_soon(path, 0.1)
    (tmp_path / "new").write_bytes(b"x")
    (tmp_path / "new").replace(again)
    assert gone(judged.parent, 5)
    time.sleep(0.1)
    assert again.read_bytes() == b"x"
    uploads.sweep(oldest=60)
    assert again.exists()
    time.sleep(0.05)
    uploads.sweep(oldest=0.01)
    assert list(tmp_path.iterdir()) == []


def test_address_is_checked_before_anything_is_loaded():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AgfasError, match=f"Port {port} of 127.0.0.1 is taken.*--port"):
            check_address("127.0.0.1", port)
    assert check_address("127.0.0.1", port)
    assert check_address("localhost", port)
    assert not check_address("0.0.0.0", port)
    with pytest.raises(AgfasError, match="between 1 and 65535, not 0"):
        check_address("127.0.0.1", 0)
    for host in ("no.such.host.invalid", "203.0.113.7", "a" * 80):
        with pytest.raises(AgfasError, match=r"--host .*0\.0\.0\.0"):
            check_address(host, port)
    assert [bracketed(host) for host in ("::1", "[::1]", "127.0.0.1")] == ["[::1]", "[::1]", "127.0.0.1"]


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def test_command_without_the_extra_teaches_its_install_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "pipelines.demo.page", raising=False)
    monkeypatch.setattr(sys, "argv", ["agfas", "demo", "--run", "nowhere", "--port", str(free_port())])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    error = capsys.readouterr().err.strip()
    assert stop.value.code == 1
    assert error.startswith("agfas: The page needs Gradio")
    assert error.endswith("Run: pip install 'agfas[demo]'")


class TimedJudge(Judge):
    """Remembers how long the model took."""

    seconds = 0.0

    def __call__(self, path):
        answer = super().__call__(path)
        self.seconds = answer.seconds
        return answer


@pytest.fixture(scope="module")
def page(judge):
    """The page's address in a browser, its uploads, and the judge behind it."""
    pytest.importorskip("gradio", reason="the extra `demo` is not installed")
    timed = TimedJudge(judge.detector)
    with serving(timed, "127.0.0.1", free_port()) as (url, uploads):
        yield url, uploads, timed


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as driver:
        place = found or driver.chromium.executable_path
        if not Path(place).is_file():
            pytest.skip("there is no Chromium: install it with the system's packages or with `playwright install`")
        browser = driver.chromium.launch(executable_path=place, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A visitor's tab, which remembers all that it asked for."""

    def __init__(self, browser, url: str, width: int = 1200) -> None:
        self.asked: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": 800})
        self.tab = self.context.new_page()
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(url, wait_until="networkidle")

    def send(self, path: Path) -> float:
        """Upload a file as a visitor does, and wait for its answer, which must differ from the last one.

        Returns:
            The seconds that it took.
        """
        self.tab.evaluate("document.querySelector('#answer .answer')?.remove()")
        begin = time.perf_counter()
        self.tab.locator("#picture input[type=file]").set_input_files(path)
        self.tab.wait_for_selector("#answer .answer h2")
        return time.perf_counter() - begin

    def read(self, selector: str) -> str:
        return " ".join(self.tab.locator(selector).inner_text().split())


@pytest.mark.slow
def test_upload_in_a_browser_is_answered_with_words_and_pictures(page, chromium, drawn, tmp_path):
    url, uploads, timed = page
    paths = [save(tmp_path / f"me {seed}.png", with_face(drawn, seed)) for seed in range(3)]
    expected = timed.detector(paths[-1])[0]
    visit = Visit(chromium, url)
    assert "not a security product" in visit.read("#head")
    assert "What a verdict is worth" in visit.read("#foot")
    beyond = [visit.send(path) - timed.seconds for path in paths]
    assert min(beyond) < 1.0
    assert visit.read("#answer h2") == expected.verdict
    assert expected.reason in visit.read("#answer")
    assert expected.threshold_origin in visit.read("#answer")
    assert visit.tab.locator("#answer figcaption").all_inner_texts() == PANELS
    widths = visit.tab.eval_on_selector_all("#answer img", "all => all.map(each => each.naturalWidth)")
    assert widths == [timed.detector.settings.face.size] * len(PANELS)
    assert visit.tab.locator("#answer svg rect").count() == 1
    assert [asked for asked in visit.asked if not re.match(f"{url}|data:|blob:", asked)] == []
    assert gone(uploads.folder / next(uploads.folder.iterdir(), Path("gone")).name, 20)
    assert list(uploads.folder.iterdir()) == []
    print(f"beyond the model's own time: {', '.join(f'{seconds:.2f}' for seconds in beyond)} s")
    visit.context.close()


@pytest.mark.slow
def test_browser_is_told_of_no_face_and_of_what_is_no_picture(page, chromium, tmp_path):
    visit = Visit(chromium, page[0], width=360)
    visit.send(save(tmp_path / "wall.png", paint(160, 120, [])))
    assert visit.read("#answer h2") == "no face"
    assert "No face was found in this picture" in visit.read("#answer")
    (tmp_path / "text.png").write_text("hello")
    visit.send(tmp_path / "text.png")
    assert visit.read("#answer h2").startswith("refused: text.png is not a picture")
    visit.send(save(tmp_path / "two.png", paint(300, 200, [(10, 20, 40), (120, 30, 90)])))
    assert visit.tab.locator("#answer h3").count() == 2
    assert visit.tab.evaluate("document.documentElement.scrollWidth") <= 360
    visit.context.close()


@pytest.mark.slow
def test_page_of_crops_has_no_webcam_and_closing_leaves_nothing(root):
    pytest.importorskip("gradio", reason="the extra `demo` is not installed")
    crops = Judge(FaceAntiSpoofing.from_run(root, "image_only"))
    with serving(crops, "127.0.0.1", free_port()) as (_, uploads):
        built = load_page().build_page(crops, uploads)
        assert next(block for block in built.blocks.values() if block.elem_id == "picture").sources == ["upload"]
        assert uploads.folder.stat().st_mode & 0o077 == 0
        (uploads.folder / "left.png").write_bytes(b"x")
    assert not uploads.folder.exists()

"""`agfas demo`: what the page keeps, where it is served, and the page itself in a real browser."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import sys
import time
from functools import partial
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import pytest
from demo_parts import PANELS, save, with_face
from verdict_run import paint

from pipelines import cli
from pipelines.asgi import bracketed, check_address
from pipelines.demo import uploads as uploads_module
from pipelines.demo.answer import Judge
from pipelines.demo.gate import Bounds
from pipelines.demo.server import load_page, serving
from pipelines.demo.uploads import Uploads
from pipelines.errors import AgfasError
from pipelines.verdict import FaceAntiSpoofing


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


class HeldTimer:
    """A timer that runs out when the test lets it."""

    started: ClassVar[list[HeldTimer]] = []

    def __init__(self, seconds, function, arguments):
        self.run_out = partial(function, *arguments)

    def start(self):
        self.started.append(self)


def test_upload_goes_after_its_answer_unless_it_is_sent_again(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads_module, "Timer", HeldTimer)
    monkeypatch.setattr(HeldTimer, "started", [])
    uploads = Uploads(tmp_path)
    judged, again = tmp_path / "one" / "a.png", tmp_path / "two" / "b.png"
    for path in (judged, again):
        path.parent.mkdir()
        path.write_bytes(b"x")
        uploads.remove_soon(path)
    (tmp_path / "new").write_bytes(b"x")
    (tmp_path / "new").replace(again)
    for timer in HeldTimer.started:
        timer.run_out()
    assert not judged.parent.exists()
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
    """A visitor's tab, which records all its requests."""

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


def gone(path: Path, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    return not path.exists()


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
def test_browser_shows_no_face_and_refusals(page, chromium, tmp_path):
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


def upload(url: str, body: bytes, **headers: str) -> tuple[int, str]:
    """Post a form to the page; returns the status and the text."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
    kind = {"Content-Type": "multipart/form-data; boundary=xyz"}
    connection.request("POST", "/gradio_api/upload", body, {**kind, **headers})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def form(*pictures: bytes) -> bytes:
    head = b'--xyz\r\nContent-Disposition: form-data; name="files"; filename="../../a.png"\r\n\r\n'
    return b"".join(head + picture + b"\r\n" for picture in pictures) + b"--xyz--\r\n"


@pytest.mark.slow
def test_server_stands_behind_the_gate(judge, monkeypatch):
    pytest.importorskip("gradio", reason="the extra `demo` is not installed")
    monkeypatch.setattr(load_page(), "_HEADER_SECONDS", 0.2)
    small = Judge(judge.detector, bounds=Bounds(file_bytes=100_000, seconds=1))
    with serving(small, "127.0.0.1", free_port(), ["demo.example.org"]) as (url, uploads):
        place = urlsplit(url)
        assert upload(url, form(b"x"), Host="evil.org")[0] == 421
        assert upload(url, form(b"x"), Origin="https://evil.org")[0] == 403
        assert upload(url, form(b"x" * 200_000))[0] == 413
        assert upload(url, form(b"x", b"y"))[0] == 400
        for given in ("GET /gradio_api/file=https://example.org/ HTTP/1.1", "GET /gradio_api/info HTTP/1.1"):
            with socket.create_connection((place.hostname, place.port), timeout=20) as stranger:
                stranger.sendall(f"{given}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                assert stranger.recv(100).startswith(b"HTTP/1.1 404")
        with socket.create_connection((place.hostname, place.port), timeout=20) as gone_away:
            gone_away.sendall(b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n"
                              b"Content-Type: multipart/form-data; boundary=xyz\r\n\r\n" + form(b"x")[:60])  # fmt: skip
        with socket.create_connection((place.hostname, place.port), timeout=20) as silent:
            silent.sendall(b"GET / HTTP/1.1\r\nHost: loc")
            assert silent.recv(1) == b""  # closed, not waited for
        assert list(uploads.folder.rglob("*")) == []
        status, text = upload(url, form(b"x"), Host="demo.example.org")
        assert status == 200
        assert uploads.find({"path": json.loads(text)[0]}) is not None


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

"""The page as Gradio is asked to build and to serve it, on a recorder in Gradio's place."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from recorded_gradio import recorded_page
from verdict_facts import ABOUT, SETTINGS

from pipelines.asgi import check_address
from pipelines.demo import server
from pipelines.demo import uploads as uploads_module
from pipelines.demo.answer import FAULT, Answer, explain_panels, limits
from pipelines.demo.gate import Bounds, Gate
from pipelines.demo.server import load_page, serving
from pipelines.demo.uploads import Uploads
from pipelines.errors import AgfasError
from pipelines.verdict import Verdict

BOUNDS = Bounds(waiting=7, requests=3, file_bytes=1234)
GONE = "This picture is no longer on the server: it was sent twice, or its upload was lost on the way. Send it again."


class FakeJudge:
    """Finds faces or not; answers `live` or raises."""

    def __init__(self, finds_faces: bool = True, error: Exception | None = None) -> None:
        self.finds_faces, self.bounds, self.error = finds_faces, BOUNDS, error
        self.detector = SimpleNamespace(settings=SETTINGS, about=lambda: ABOUT)
        self.judged: list[Path] = []

    def warm_up(self) -> list[str]:
        return ["face", "cue"]

    def __call__(self, path: Path) -> Answer:
        self.judged.append(path)
        if self.error:
            raise self.error
        return Answer(Verdict(path.name, "live", "because", 0.75, 0.5, "dev"), 0.5)


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with recorded_page() as page:
        yield page


@pytest.fixture
def uploads(tmp_path) -> Uploads:
    return Uploads(tmp_path)


def paragraph(style: str, text: str) -> str:
    return f'<p class="{style}">{text}</p>'


@pytest.mark.parametrize(
    ("finds_faces", "lead", "sources"),
    [
        (True, "Upload a photo with a face in it, or take one with the webcam. Several faces are judged one by one.",
         ["upload", "webcam"]),
        (False, "Upload a square crop of a face, upright and filling it. This page does not judge whole photographs.",
         ["upload"]),
    ],
)  # fmt: skip
def test_the_page_from_top_to_bottom(page, uploads, finds_faces, lead, sources):
    built = page.build_page(FakeJudge(finds_faces), uploads)
    title = "<h1>Live, or a print, a screen, a mask?</h1>"
    warning = "A research demonstration, not a security product: do not let it decide who gets in."
    private = (
        "Your picture is judged on the computer that serves this page. Its file is deleted there seconds after the"
        " answer; nothing is sent elsewhere, counted or shared."
    )
    empty = paragraph("empty", "The verdict will appear here.")
    listed = "".join(f"<li>{limit}</li>" for limit in limits(SETTINGS, ABOUT))
    pictures = explain_panels(SETTINGS, ["face", "cue"])
    read = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in pictures.items()).replace("'", "&#x27;")
    foot = f"<h2>What a verdict is worth</h2><ul>{listed}</ul><h2>The pictures</h2><dl>{read}</dl>"
    image = {
        "label": "Picture", "sources": sources, "height": 320, "buttons": [], "elem_id": "picture",
        "webcam_options": ("webcam", {"mirror": False}),
    }  # fmt: skip
    note = paragraph("note", private) + paragraph("note", BOUNDS.in_words)
    columns = [
        ("Column", (), {"scale": 2, "min_width": 300}, [("Image", (), image, []), ("HTML", (note,), {}, [])]),
        ("Column", (), {"scale": 3, "min_width": 300}, [
            ("HTML", (empty,), {"elem_id": "answer", "min_height": 120}, []),
        ]),
    ]  # fmt: skip
    head = title + paragraph("lead", lead) + paragraph("lead", warning)
    assert built.tree() == (
        "Blocks",
        (),
        {"title": "AG-FAS", "analytics_enabled": False},
        [
            ("HTML", (head,), {"elem_id": "head"}, []),
            ("Row", (), {"equal_height": False}, columns),
            ("HTML", (foot,), {"elem_id": "foot"}, []),
        ],
    )
    assert built.calls == [("queue", {"max_size": 7})]
    picture, answer = built.parts[1].parts[0].parts[0], built.parts[1].parts[1].parts[0]
    ((_, (_, source, targets), options),) = picture.calls
    assert (source, targets) == (picture, [picture, answer])
    assert options == {
        "preprocess": False, "concurrency_limit": 1, "show_progress_on": answer, "api_visibility": "private",
    }  # fmt: skip


def test_an_upload_is_answered_and_goes(page, uploads, monkeypatch, capsys):
    removed: list[Path] = []
    monkeypatch.setattr(uploads, "remove_soon", removed.append)
    judge = FakeJudge()
    (picture,) = (part for part in page.build_page(judge, uploads).parts[1].parts[0].parts if part.kind == "Image")
    respond = picture.calls[0][1][0]
    assert respond(None) == (None, paragraph("empty", "The verdict will appear here."))
    assert respond({"path": "/etc/passwd"}) == (None, paragraph("empty", GONE))
    assert (judge.judged, removed) == ([], [])
    path = uploads.folder / "a.png"
    path.write_bytes(b"x")
    cleared, html = respond({"path": str(path)})
    assert cleared is None
    assert '<h2 class="live">live</h2>' in html
    assert (judge.judged, removed) == ([path], [path])
    judge.error = RuntimeError("out of memory")
    said = f"The picture was not judged: {FAULT}.".replace("'", "&#x27;")
    assert respond({"path": str(path)}) == (None, paragraph("empty", said))
    assert removed == [path, path]
    assert "RuntimeError: out of memory" in capsys.readouterr().err


def test_the_page_fetches_nothing_and_stands_behind_its_gate(page, uploads):
    assert page.THEME.options == {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    assert page.STYLE.is_file()
    gate = page.gate(uploads, ["demo.example.org"], BOUNDS)
    assert gate.kind is Gate
    assert gate.options == {"uploads": uploads, "names": ["demo.example.org"], "bounds": BOUNDS}


class Connection:
    """Uvicorn's protocol of one connection, as far as it is looked at."""

    def __init__(self) -> None:
        self.cycle: Any = None
        self.log: list[Any] = []
        self.closing = False
        self.transport = SimpleNamespace(abort=lambda: self.log.append("abort"), is_closing=lambda: self.closing)
        self.loop = SimpleNamespace(call_later=lambda *later: self.log.append(later))

    def connection_made(self, transport: Any) -> None:
        self.log.append(transport)

    def look(self) -> Any:
        """What is done at the next look."""
        seconds, watch, before = self.log.pop()
        assert seconds == 10.0
        watch(before)
        return self.log[-1]


def test_connections_that_say_nothing_are_closed_and_those_that_work_are_not(page):
    config = SimpleNamespace(http_protocol_class=Connection, limit_concurrency=None)
    page.hurry(SimpleNamespace(config=config), 6)
    assert config.limit_concurrency == 6
    silent = config.http_protocol_class()
    silent.connection_made("transport")
    assert silent.log[0] == "transport"
    assert silent.look() == "abort"
    busy = config.http_protocol_class()
    busy.cycle = SimpleNamespace(response_complete=False)
    busy.connection_made("transport")
    assert busy.look()[0] == busy.look()[0] == 10.0  # however long an answer takes
    busy.cycle.response_complete = True
    assert busy.look()[0] == 10.0  # it has just been answered
    busy.cycle = SimpleNamespace(response_complete=True, request=2)
    assert busy.look()[0] == 10.0  # and again
    assert busy.look() == "abort"
    gone = config.http_protocol_class()
    gone.closing = True
    gone.connection_made("transport")
    assert gone.log == ["transport"]


class Served:
    """A page that is launched."""

    local_url = "http://127.0.0.1:7861/"
    server = "uvicorn"

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.launched, self.closed = error, {}, []

    def launch(self, **options: Any) -> None:
        if self.error:
            raise self.error
        self.launched = {**options, "environment": {name: os.environ.get(name) for name in NAMES}}

    def close(self, **options: Any) -> None:
        self.closed.append(options)


NAMES = ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED")


def module(served: Served, log: list[Any]) -> Any:
    return SimpleNamespace(
        build_page=lambda judge, uploads: log.append(uploads) or served,
        gate=lambda uploads, names, bounds: ("gate", uploads, names, bounds),
        hurry=lambda *given: log.append(given),
        THEME="theme",
        STYLE="style",
    )


def test_the_page_is_served_privately_and_leaves_nothing(monkeypatch):
    served, log = Served(), []
    monkeypatch.setattr(server, "load_page", lambda: module(served, log))
    monkeypatch.setenv("GRADIO_TEMP_DIR", "before")
    monkeypatch.delenv("GRADIO_ANALYTICS_ENABLED", raising=False)
    with serving(FakeJudge(), "::1", 7861, ["demo.example.org"]) as (url, uploads):
        assert url == "http://127.0.0.1:7861/"
        assert log == [uploads, ("uvicorn", 6)]
        assert stat.S_IMODE(uploads.folder.stat().st_mode) == 0o700
        assert uploads.folder.name.startswith("agfas-demo-")
        (uploads.folder / "left.png").write_bytes(b"x")
    assert not uploads.folder.exists()
    assert served.closed == [{"verbose": False}]
    gate = ("gate", uploads, {"::1", socket.gethostname(), "demo.example.org"}, BOUNDS)
    assert served.launched == {
        "server_name": "[::1]", "server_port": 7861, "share": False, "inbrowser": False, "prevent_thread_lock": True,
        "quiet": True, "show_error": False, "footer_links": [], "run_history": False, "enable_monitoring": False,
        "ssr_mode": False, "mcp_server": False, "pwa": False, "max_file_size": 1234, "state_session_capacity": 64,
        "app_kwargs": {"middleware": [gate]}, "theme": "theme", "css_paths": "style",
        "environment": {"GRADIO_TEMP_DIR": str(uploads.folder), "GRADIO_ANALYTICS_ENABLED": "False"},
    }  # fmt: skip
    assert os.environ["GRADIO_TEMP_DIR"] == "before"
    assert "GRADIO_ANALYTICS_ENABLED" not in os.environ


@pytest.mark.parametrize("error", [OSError("taken meanwhile"), ValueError("a proxy")])
def test_a_page_that_cannot_be_served_says_why(monkeypatch, error):
    monkeypatch.setattr(server, "load_page", lambda: module(Served(error), []))
    with (
        pytest.raises(AgfasError, match=f"cannot be served at 127.0.0.1:7861: {error}"),
        serving(FakeJudge(), "127.0.0.1", 7861),
    ):
        pass


def test_the_page_is_loaded_with_gradio_alone(page, monkeypatch):
    assert load_page() is page


def test_a_port_that_is_none_is_refused():
    for port in (0, -1, 65536):
        with pytest.raises(AgfasError, match=f"--port must be between 1 and 65535, not {port}"):
            check_address("127.0.0.1", port)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EADDRINUSE, "Port 80 of localhost is taken"),
        (errno.EACCES, "Port 80 is reserved for the system"),
        (errno.EADDRNOTAVAIL, r"--host localhost cannot be used \(because\)\. Allowed are 127\.0\.0\.1"),
    ],
)
def test_an_address_that_is_refused_says_what_to_do(monkeypatch, code, words):
    def refuse(self: object, address: object) -> None:
        raise OSError(code, "because")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(AgfasError, match=words):
        check_address("localhost", 80)


def test_every_port_and_both_spellings_of_an_address_are_tried(monkeypatch):
    bound: list[Any] = []
    monkeypatch.setattr(socket.socket, "bind", lambda self, address: bound.append((address, self.getsockopt(
        socket.SOL_SOCKET, socket.SO_REUSEADDR
    ))))  # fmt: skip
    for port in (1, 65535):
        assert check_address("127.0.0.1", port)
        assert not check_address("192.0.2.7", port)
    assert check_address("[::1]", 80)
    assert [(address[:2], again) for address, again in bound] == [
        *((("127.0.0.1", 1), 1), (("192.0.2.7", 1), 1), (("127.0.0.1", 65535), 1), (("192.0.2.7", 65535), 1)),
        (("::1", 80), 1),
    ]


class Waiting:
    """A timer that waits for the test."""

    def __init__(self, *given: Any) -> None:
        self.given, self.daemon, self.begun = given, False, False
        timers.append(self)

    def start(self) -> None:
        self.begun = True


timers: list[Waiting] = []


def test_what_was_answered_goes_in_three_seconds_and_what_was_not_in_five_minutes(uploads, monkeypatch):
    monkeypatch.setattr(uploads_module, "Timer", Waiting)
    monkeypatch.setitem(globals(), "timers", [])
    one, other = uploads.folder / "one.png", uploads.folder / "kept" / "other.png"
    other.parent.mkdir()
    for path in (one, other):
        path.write_bytes(b"abc")
    assert uploads.size() == 6 + other.parent.stat().st_size
    uploads.remove_soon(one)
    (timer,) = timers
    assert (timer.given[0], timer.daemon, timer.begun) == (3.0, True, True)
    timer.given[1](*timer.given[2])
    assert sorted(path.name for path in uploads.folder.iterdir()) == ["kept"]  # a file of its own alone
    timer.given[1](*timer.given[2])  # it is gone already
    assert sorted(path.name for path in uploads.folder.iterdir()) == ["kept"]
    now = time.time()
    os.utime(other.parent, (now, now - 290))
    uploads.sweep()
    assert other.is_file()
    os.utime(other.parent, (now, now - 310))
    uploads.sweep()
    assert list(uploads.folder.iterdir()) == []
    assert uploads.size() == 0
    assert uploads.find({"path": 5}) is None

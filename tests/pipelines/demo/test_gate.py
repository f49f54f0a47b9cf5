"""What stands before the page: bounded bodies, few paths, served names; driven as a server drives it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pipelines.asgi import is_served
from pipelines.demo.gate import UPLOAD, Bounds, Gate
from pipelines.demo.uploads import Uploads

BOUNDS = Bounds(file_bytes=50_000, form_bytes=1000, seconds=0.2, uploads=1, stored_bytes=100_000, requests=2)
FORM = [("content-type", "multipart/form-data; boundary=xyz")]
JSON = [("content-type", "application/json")]


def form(*pictures: bytes) -> bytes:
    head = b'--xyz\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    return b"".join(head + picture + b"\r\n" for picture in pictures) + b"--xyz--\r\n"


class Page:
    """The application behind the gate: it remembers what reaches it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope, receive, send):
        self.bodies.append((await receive())["body"] if scope["method"] == "POST" else b"")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
        await send({"type": "http.response.body", "body": b"page"})


class Visitor:
    """Sends requests through a gate."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.page, self.folder = Page(), folder
        self.gate = Gate(self.page, Uploads(folder), names, BOUNDS)

    async def asking(
        self, method: str, path: str, headers=(), chunks: tuple[Any, ...] = (b"",), host: str | None = "127.0.0.1:7860"
    ) -> tuple[int, str, dict[str, str]]:
        """A chunk is bytes, None for a visitor who goes away, or seconds to wait; returns status, text and headers."""
        given, answer = list(chunks), []

        async def receive():
            while given and isinstance(given[0], float):
                await asyncio.sleep(given.pop(0))
            if not given or given[0] is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": given.pop(0), "more_body": bool(given)}

        async def send(message):
            answer.append(message)

        named = [*([("host", host)] if host is not None else []), *headers]
        scope = {"type": "http", "method": method, "path": path}
        scope["headers"] = [(name.encode(), value.encode()) for name, value in named]
        await self.gate(scope, receive, send)
        if not answer:
            return 0, "", {}
        found = {name.decode(): value.decode() for name, value in answer[0]["headers"]}
        return answer[0]["status"], answer[1]["body"].decode(), found

    def ask(self, *given, **named) -> tuple[int, str, dict[str, str]]:
        return asyncio.run(self.asking(*given, **named))


@pytest.fixture
def visitor(tmp_path) -> Visitor:
    return Visitor(tmp_path.resolve(), "demo.example.org")


def test_a_bounded_upload_reaches_the_page_whole(visitor):
    body = form(b"picture")
    status, text, headers = visitor.ask("POST", "/gradio_api/upload", FORM, (body[:20], body[20:]))
    assert (status, text) == (200, "page")
    assert visitor.page.bodies == [body]
    assert headers == {
        "x-own": "1", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "x-frame-options": "DENY",
    }  # fmt: skip
    assert visitor.ask("POST", "/gradio_api/queue/join", JSON, (b"{}",))[0] == 200


@pytest.mark.parametrize(
    ("path", "headers", "chunks", "status"),
    [
        (UPLOAD, FORM, (b"x" * 40_000, b"x" * 40_000), 413),  # no length was given
        (UPLOAD, [*FORM, ("content-length", "999999999")], (b"",), 413),
        (UPLOAD, [*FORM, ("content-length", "-1")], (b"",), 413),
        (UPLOAD, [*FORM, ("content-length", "many")], (b"",), 413),
        (UPLOAD, FORM, (b"x", 0.5, b"x"), 408),
        (UPLOAD, FORM, (form(b"one", b"two"),), 400),
        (UPLOAD, JSON, (b"{}",), 415),
        (UPLOAD, [("content-type", "multipart/form-data")], (b"",), 415),
        (UPLOAD, [], (b"",), 415),
        ("/gradio_api/queue/join", JSON, (b'{"data": ["data:image/png;base64,' + b"A" * 2000,), 413),
        ("/gradio_api/queue/join", FORM, (form(b"one"),), 415),
    ],
)
def test_a_body_out_of_bounds_never_reaches_the_page(visitor, path, headers, chunks, status):
    answered, text, named = visitor.ask("POST", path, headers, chunks)
    assert answered == status
    assert text.endswith(".")
    assert named == {
        "content-type": "text/plain; charset=utf-8", "content-length": str(len(text.encode())), "connection": "close",
        "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "x-frame-options": "DENY",
    }  # fmt: skip
    assert visitor.page.bodies == []


def test_bodies_of_exactly_the_bound_are_taken_and_one_byte_more_is_not(visitor):
    around = form(b"")
    most = BOUNDS.file_bytes + 16 * 2**10
    largest = form(b"x" * (most - len(around)))
    assert len(largest) == most
    assert visitor.ask("POST", UPLOAD, [*FORM, ("content-length", str(most))], (largest[:9], largest[9:]))[0] == 200
    too_large = form(b"x" * (most - len(around) + 1))
    assert visitor.ask("POST", UPLOAD, FORM, (too_large,))[:2] == (
        413,
        "That is larger than the 0 MB that are taken. Make the picture smaller.",
    )
    assert visitor.ask("POST", UPLOAD, [*FORM, ("content-length", str(most + 1))], (form(b"x"),))[0] == 413
    join = "/gradio_api/queue/join"
    assert visitor.ask("POST", join, [*JSON, ("content-length", "1000")], (b"x" * 1000,))[0] == 200
    assert visitor.ask("POST", join, JSON, (b"x" * 1001,))[0] == 413
    kind = [("content-type", 'Multipart/Form-Data; boundary="xyz"; charset=utf-8')]
    assert visitor.ask("POST", UPLOAD, kind, (form(b"x"),))[0] == 200
    assert visitor.ask("POST", UPLOAD, kind, (form(b"x", b"y"),))[:2] == (400, "One picture at a time.")
    assert visitor.ask("POST", join, [("content-type", " application/JSON; charset=utf-8")], (b"{}",))[0] == 200


def test_a_visitor_who_goes_away_leaves_nothing(visitor):
    assert visitor.ask("POST", UPLOAD, FORM, (b"x", None))[0] == 0
    assert visitor.page.bodies == []
    assert visitor.ask("POST", UPLOAD, FORM, (form(b"x"),))[0] == 200  # and nobody's place


def test_uploads_and_requests_at_once_are_bounded_and_so_is_what_is_kept(visitor):
    async def crowd() -> list[int]:
        slow = [asyncio.create_task(visitor.asking("POST", UPLOAD, FORM, (0.05, form(b"x")))) for _ in range(3)]
        return [(await task)[0] for task in slow]

    assert sorted(asyncio.run(crowd())) == [200, 503, 503]

    async def readers() -> list[int]:
        open_ = [asyncio.create_task(visitor.asking("POST", UPLOAD, FORM, (0.05, form(b"x"))))]
        await asyncio.sleep(0.01)
        open_ += [asyncio.create_task(visitor.asking("POST", "/gradio_api/queue/join", JSON, (0.03, b"{}")))]
        await asyncio.sleep(0.01)
        late = (await visitor.asking("GET", "/"))[:2]
        assert late == (503, "Too many visitors at once. Try again in a minute.")
        return [(await task)[0] for task in open_]

    assert asyncio.run(readers()) == [200, 200]  # two at once are allowed
    assert visitor.ask("GET", "/")[0] == 200
    (visitor.folder / "kept").mkdir()
    kept = visitor.folder / "kept" / "a.png"
    kept.write_bytes(bytes(BOUNDS.stored_bytes - kept.parent.stat().st_size))
    assert visitor.ask("POST", UPLOAD, FORM, (form(b"x"),))[0] == 200
    kept.write_bytes(bytes(BOUNDS.stored_bytes - kept.parent.stat().st_size + 1))
    status, text, _ = visitor.ask("POST", UPLOAD, FORM, (form(b"x"),))
    assert (status, text) == (503, "Too many pictures at once. Try again in a minute.")


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/file=https://example.org/a.png", "/gradio_api/file=HTTP://10.0.0.1/", "/gradio_api/file=/etc/passwd",
     "/gradio_api/file=FOLDER/../../etc/passwd", "/gradio_api/proxy=https://example.org/", "/proxy=https://example.org",
     "/gradio_api/run/predict", "/gradio_api/stream/a", "/file=/etc/passwd", "/assets/../../secret", "/monitoring",
     "/gradio_api/vibe-code", "/docs", "/openapi.json"],
)  # fmt: skip
def test_other_paths_are_closed(visitor, path):
    path = path.replace("FOLDER", str(visitor.folder))
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        assert visitor.ask(method, path, JSON)[0] == 404
    assert visitor.page.bodies == []


def test_paths_of_the_page_are_open_and_an_upload_is_shown_as_no_page(visitor):
    for path in (
        *("/", "/config", "/favicon.ico", "/manifest.json", "/theme.css", "/assets/index.js", "/static/a/b.css"),
        *("/gradio_api/startup-events", "/gradio_api/upload_progress", "/gradio_api/queue/data"),
        "/gradio_api/heartbeat/abc1",
    ):
        for method in ("GET", "HEAD"):
            assert visitor.ask(method, path)[0] == 200
        for method in ("POST", "PUT"):
            assert visitor.ask(method, path, JSON)[:2] == (404, "There is no such page here.")
    _, _, headers = visitor.ask("GET", f"/gradio_api/file={visitor.folder}/abc/evil.html")
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("127.0.0.1:7860", True), ("localhost", True), ("[::1]:7860", True), ("192.0.2.7", True),
        ("demo.example.org", True), ("Demo.Example.org:443", True), ("evil.example.org", False),
        ("localhost.evil.org", False), ("127.0.0.1.evil.org", False), ("", False), ("evil@localhost.org", False),
        ("x/localhost", False),
    ],
)  # fmt: skip
def test_only_served_names_are_answered(visitor, host, served):
    assert is_served(host, {"demo.example.org"}) is served
    status, text, _ = visitor.ask("GET", "/", host=host)
    assert status == (200 if served else 421)
    assert served or text == "This page is not served under that name. Ask the one who runs it for its address."


def test_no_name_and_a_forwarded_foreign_one_are_refused(visitor):
    assert visitor.ask("GET", "/", host=None)[0] == 421
    assert visitor.ask("GET", "/", [("x-forwarded-host", "evil.org")])[0] == 421
    assert visitor.ask("GET", "/", [("x-forwarded-host", "demo.example.org")])[0] == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.1:7860", 200), ("https://demo.example.org", 200), ("null", 403), ("https://evil.org", 403),
     ("http://127.0.0.1:9999", 403), ("http://203.0.113.9", 403), ("HTTP://127.0.0.1:7860", 200),
     ("https://demo.example.org:8443", 200)],
)  # fmt: skip
def test_no_other_web_page_sends_pictures(visitor, origin, status):
    answered, text, _ = visitor.ask("POST", UPLOAD, [*FORM, ("origin", origin)], (form(b"x"),))
    assert answered == status
    assert status == 200 or text == "Another web page may not send pictures here."
    assert visitor.ask("GET", "/", [("origin", origin)])[0] == 200


def test_bounds_are_said_in_words():
    assert Bounds().in_words == (
        "A file may have 20 MB and 25 million pixels, and must arrive within 60 seconds; the 12 largest faces in it"
        " are judged. 32 pictures may wait."
    )
    bounds = Bounds()
    assert (bounds.form_bytes, bounds.uploads, bounds.stored_bytes, bounds.requests) == (65536, 4, 268435456, 200)


def test_what_is_no_request_is_handed_on_or_closed(visitor):
    seen: list[Any] = []

    async def page(*given: Any) -> None:
        seen.extend(given)

    async def send(message: Any) -> None:
        seen.append(message)

    async def nothing() -> dict[str, Any]:
        return {}

    lifespan = {"type": "lifespan"}
    asyncio.run(Gate(page, Uploads(visitor.folder))(lifespan, nothing, send))
    assert seen == [lifespan, nothing, send]
    seen.clear()
    asyncio.run(visitor.gate({"type": "websocket"}, nothing, send))
    assert seen == [{"type": "websocket.close", "code": 1008}]


def test_after_the_body_the_page_hears_what_the_connection_says(visitor):
    heard: list[Any] = []

    async def page(scope, receive, send):
        heard.extend([await receive(), await receive()])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"page"})

    visitor.gate.app = page
    assert visitor.ask("POST", UPLOAD, FORM, (form(b"x"),))[0] == 200
    assert heard == [
        {"type": "http.request", "body": form(b"x"), "more_body": False}, {"type": "http.disconnect"},
    ]  # fmt: skip

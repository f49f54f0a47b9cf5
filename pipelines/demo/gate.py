"""What stands before the page: requests are bounded in size, time and number before a web framework sees them.

`Gate` is plain ASGI and knows no framework. A body is read whole, within `Bounds`, and only then handed on: an upload
that is too large, too slow or broken off leaves no file. Only the paths that the page uses are open, so nothing fetches
an address that a visitor names; and only the names that are served are answered, so that no other web page can use this
one through a visitor's browser (DNS rebinding, cross-site requests).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from pipelines.demo.uploads import Uploads

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Bounds:
    """What one visitor, and all together, may ask for.

    Attributes:
        pixels: of a picture, width times height in its header.
        faces: judged in a picture, the largest first.
        file_bytes: of an upload.
        form_bytes: of any other request.
        seconds: from a request's first byte to its last.
        uploads: read at the same time.
        stored_bytes: of all uploads that wait for their answer.
        waiting: pictures in the queue; one is judged at a time.
        requests: open at the same time, those included that wait for an answer.
    """

    pixels: int = 25_000_000
    faces: int = 12
    file_bytes: int = 20 * 2**20
    form_bytes: int = 64 * 2**10
    seconds: float = 60.0
    uploads: int = 4
    stored_bytes: int = 256 * 2**20
    waiting: int = 32
    requests: int = 200

    @property
    def in_words(self) -> str:
        """What the page tells a visitor."""
        return (
            f"A file may have {self.file_bytes // 2**20} MB and {self.pixels // 10**6} million pixels, and must arrive"
            f" within {self.seconds:.0f} seconds; the {self.faces} largest faces in it are judged. {self.waiting}"
            " pictures may wait."
        )


UPLOAD = "/gradio_api/upload"
SHOWN = "/gradio_api/file="
_READ = re.compile(
    r"/|/config|/favicon\.ico|/manifest\.json|/theme\.css|/(assets|static)/.*"
    r"|/gradio_api/(startup-events|upload_progress|queue/data|heartbeat/\w+)"
)
_WRITTEN = re.compile(rf"{UPLOAD}|/gradio_api/queue/join")
_FORM, _JSON = "multipart/form-data", "application/json"
_BOUNDARY = re.compile(r'boundary="?([^";,\s]+)')
# Beside the file, a form holds its boundary and the headers of its one part.
_AROUND = 16 * 2**10

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
# An upload is shown as the picture that it is, never run as a page of this address.
_OF_UPLOADS = [*_HEADERS, (b"content-security-policy", b"default-src 'none'; sandbox")]


class Refused(Exception):
    """A request that is answered here, with a status and a sentence for the visitor."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


class Gate:
    """An ASGI application that lets bounded requests through to another.

    Args:
        app: the page.
        uploads: the visitors' files, the only ones that are shown.
        names: hosts that are served beside addresses and `localhost`.
        bounds: of a request.
    """

    def __init__(self, app: App, uploads: Uploads, names: Iterable[str] = (), bounds: Bounds | None = None) -> None:
        self.app, self.uploads, self.bounds = app, uploads, bounds or Bounds()
        self.names = {name.lower() for name in names}
        self._open = self._uploading = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer or hand on one request."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # the page uses no WebSockets
            return await send({"type": "websocket.close", "code": 1008})
        self._open += 1
        try:
            self._check(scope)
            body = await self._body(scope, receive) if scope["method"] == "POST" else b""
            if body is not None:
                await self.app(scope, _given(body, receive), _guarded(scope, send))
        except Refused as refusal:
            await _say(send, refusal)
        finally:
            self._open -= 1

    def _check(self, scope: Message) -> None:
        """Check what is known before the body."""
        headers = _headers(scope)
        hosts = headers.get("host", []) + headers.get("x-forwarded-host", [])
        if not hosts or not all(is_served(host, self.names) for host in hosts):
            raise Refused(421, "This page is not served under that name. Ask the one who runs it for its address.")
        method, path = scope["method"], scope["path"]
        if not self._is_open(method, path):
            raise Refused(404, "There is no such page here.")
        if method == "POST" and not all(self._is_own(origin, hosts) for origin in headers.get("origin", [])):
            raise Refused(403, "Another web page may not send pictures here.")
        if self._open > self.bounds.requests:
            raise Refused(503, "Too many visitors at once. Try again in a minute.")

    def _is_open(self, method: str, path: str) -> bool:
        """Whether the page uses a path. No other is: some fetch what a visitor names, or run what he writes."""
        if ".." in path.split("/"):
            return False
        if method == "POST":
            return _WRITTEN.fullmatch(path) is not None
        if method in ("GET", "HEAD"):
            return _READ.fullmatch(path) is not None or path.startswith(f"{SHOWN}{self.uploads.folder.as_posix()}/")
        return False

    def _is_own(self, origin: str, hosts: list[str]) -> bool:
        parts = urlsplit(origin)
        return parts.netloc.lower() in [host.lower() for host in hosts] or (parts.hostname or "") in self.names

    async def _body(self, scope: Message, receive: Receive) -> bytes | None:
        """The whole body; None if the visitor has gone."""
        kind = " ".join(_headers(scope).get("content-type", [])).lower()
        if scope["path"] != UPLOAD:
            if kind.split(";")[0].strip() != _JSON:
                raise Refused(415, "This address takes JSON.")
            return await self._read(scope, receive, self.bounds.form_bytes)
        boundary = _BOUNDARY.search(" ".join(_headers(scope).get("content-type", [])))
        if not kind.startswith(_FORM) or boundary is None:
            raise Refused(415, "A picture is sent as a form with one file.")
        if self._uploading >= self.bounds.uploads or self.uploads.size() > self.bounds.stored_bytes:
            raise Refused(503, "Too many pictures at once. Try again in a minute.")
        self._uploading += 1
        try:
            body = await self._read(scope, receive, self.bounds.file_bytes + _AROUND)
        finally:
            self._uploading -= 1
        if body is not None and body.count(b"--" + boundary[1].encode("latin-1")) > 2:
            raise Refused(400, "One picture at a time.")
        return body

    async def _read(self, scope: Message, receive: Receive, most: int) -> bytes | None:
        limit = f"{self.bounds.file_bytes // 2**20} MB"
        too_large = Refused(413, f"That is larger than the {limit} that are taken. Make the picture smaller.")
        length = _headers(scope).get("content-length", ["0"])[0]
        if not length.isdecimal() or int(length) > most:
            raise too_large
        body, end = bytearray(), asyncio.get_running_loop().time() + self.bounds.seconds
        while True:
            try:
                message = await asyncio.wait_for(receive(), end - asyncio.get_running_loop().time())
            except asyncio.TimeoutError:
                raise Refused(408, f"The picture did not arrive within {self.bounds.seconds:.0f} seconds.") from None
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > most:
                raise too_large
            if not message.get("more_body"):
                return bytes(body)


def is_served(host: str, names: Iterable[str]) -> bool:
    """Whether a Host header names an address, `localhost`, or one of `names`: what no stranger's DNS can claim."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return name == "localhost" or name in names


def _headers(scope: Message) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _given(body: bytes, receive: Receive) -> Receive:
    """`receive` of a body that was read already; afterwards what the connection says, such as that it is closed."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again


def _guarded(scope: Message, send: Send) -> Send:
    """`send` with headers that keep a browser from taking an upload for a page."""
    added = _OF_UPLOADS if scope["path"].startswith(SHOWN) else _HEADERS

    async def send_guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return send_guarded


async def _say(send: Send, refusal: Refused) -> None:
    body = refusal.words.encode()
    headers = [
        *((b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())),
        # What is left of a refused body is not read.
        *((b"connection", b"close"), *_HEADERS),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

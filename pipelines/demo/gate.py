"""What stands before the page: requests are bounded in size, time and number before a web framework sees them.

`Gate` is plain ASGI and knows no framework. A body is read whole, within `Bounds`, and only then handed on: an upload
that is too large, too slow or broken off leaves no file. Only the paths that the page uses are open, so nothing fetches
an address that a visitor names; and only the names that are served are answered, so that no other web page can use this
one through a visitor's browser (DNS rebinding, cross-site requests).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.asgi import (
    SAFE_HEADERS,
    App,
    Message,
    Receive,
    Refused,
    Send,
    answer,
    check_host,
    given,
    guarded,
    headers_of,
    is_own,
    read_body,
)
from pipelines.demo.uploads import Uploads


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
_FORM, _JSON, _TEXT = "multipart/form-data", "application/json", "text/plain; charset=utf-8"
_BOUNDARY = re.compile(r'boundary="?([^";,\s]+)')
# Beside the file, a form holds its boundary and the headers of its one part.
_AROUND = 16 * 2**10

# An upload is shown as the picture that it is, never run as a page of this address.
_OF_UPLOADS = [*SAFE_HEADERS, (b"content-security-policy", b"default-src 'none'; sandbox")]


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
                added = _OF_UPLOADS if scope["path"].startswith(SHOWN) else SAFE_HEADERS
                await self.app(scope, given(body, receive), guarded(send, added))
        except Refused as refusal:
            await answer(send, refusal.status, _TEXT, refusal.words.encode())
        finally:
            self._open -= 1

    def _check(self, scope: Message) -> None:
        """Check what is known before the body."""
        headers = headers_of(scope)
        hosts = check_host(headers, self.names)
        method, path = scope["method"], scope["path"]
        if not self._is_open(method, path):
            raise Refused(404, "There is no such page here.")
        if method == "POST" and not all(is_own(origin, hosts, self.names) for origin in headers.get("origin", [])):
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

    async def _body(self, scope: Message, receive: Receive) -> bytes | None:
        """The whole body; None if the visitor has gone."""
        kind = " ".join(headers_of(scope).get("content-type", [])).lower()
        if scope["path"] != UPLOAD:
            if kind.split(";")[0].strip() != _JSON:
                raise Refused(415, "This address takes JSON.")
            return await self._read(scope, receive, self.bounds.form_bytes)
        boundary = _BOUNDARY.search(" ".join(headers_of(scope).get("content-type", [])))
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
        too_large = f"That is larger than the {limit} that are taken. Make the picture smaller."
        return await read_body(scope, receive, most, self.bounds.seconds, too_large)

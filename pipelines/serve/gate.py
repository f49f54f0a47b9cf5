"""What stands before the API: names, keys, and bodies that are read whole, within limits, before a framework sees them.

Every answer is counted, and every refusal is JSON: `{"error": {"code", "message"}}`.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable

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
from pipelines.serve.forms import too_large
from pipelines.serve.metrics import Metrics
from pipelines.serve.settings import Limits

ONE, MANY, MODEL, METRICS = "/v1/verdict", "/v1/verdicts", "/v1/model", "/metrics"
HEALTH, READY, OPENAPI, DOCS = "/v1/health", "/v1/ready", "/openapi.json", "/docs"
OPEN = (HEALTH, READY, OPENAPI, DOCS)
"""What is answered without a key."""
PATHS = (ONE, MANY, MODEL, METRICS, *OPEN)

JSON = "application/json"
CODES = {
    400: "bad_request", 401: "no_key", 403: "wrong_page", 404: "not_found", 405: "wrong_method", 408: "too_slow",
    413: "too_large", 415: "wrong_kind", 421: "wrong_name", 422: "refused", 429: "too_busy", 500: "fault",
    503: "not_ready", 504: "too_late",
}  # fmt: skip
"""Of an error, by its status."""
FAULT = "The server has a fault, which is not your request's; its log has the reason."

_RETRY = [(b"retry-after", b"2")]
MOST_HEADER_BYTES = 16 * 2**10
"""Of a request's address and headers."""

# Beside the file, a form holds its boundary and the headers of its parts.
_AROUND = 64 * 2**10


def problem(status: int, words: str) -> bytes:
    """The body of an error."""
    return json.dumps({"error": {"code": CODES.get(status, "bad_request"), "message": words}}).encode()


class Gate:
    """An ASGI application that lets bounded requests through to the API.

    Args:
        app: the API.
        limits: of requests.
        metrics: counts.
        keys: that are accepted; none: everyone is let in.
        names: hosts that are served beside addresses and `localhost`.
    """

    def __init__(
        self, app: App, limits: Limits, metrics: Metrics, keys: Iterable[str] = (), names: Iterable[str] = ()
    ) -> None:
        self.app, self.limits, self.metrics = app, limits, metrics
        self.keys = [key.encode() for key in keys]
        self.names = {name.lower() for name in names}
        self._open = self._held = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer or hand on one request."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # the API uses no WebSockets
            return await send({"type": "websocket.close", "code": 1008})
        self._open += 1
        try:
            await self._answer(scope, receive, self._counted(scope, send))
        finally:
            self._open -= 1

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            held += size
            self._held += size
            if self._held > self.limits.bytes_of("held_mb"):
                raise Refused(429, "Too many large files at once. Try again in some seconds.")

        try:
            self._check(scope)
            body = await self._body(scope, receive, hold)
            if body is None:
                return
            await _while_connected(self.app(scope, given(body, receive), guarded(send, SAFE_HEADERS)), receive, body)
        except Refused as refusal:
            await refuse(send, refusal.status, refusal.words)
        except Exception as error:  # the API has answered it already
            print(f"agfas serve: a request was not answered: {type(error).__name__}: {error}", file=sys.stderr)
            traceback.print_exception(error)
        finally:
            self._held -= held

    def _check(self, scope: Message) -> None:
        """Check what is known before the body."""
        sizes = [len(name) + len(value) for name, value in scope["headers"]]
        if sum(sizes) + len(scope["path"]) + len(scope["query_string"]) > MOST_HEADER_BYTES:
            raise Refused(400, "The address and the headers are too long.")
        headers, path = headers_of(scope), scope["path"]
        hosts = check_host(headers, self.names)
        if not all(is_own(origin, hosts, self.names) for origin in headers.get("origin", [])):
            raise Refused(403, "A web page of another address may not ask here. Let that page's own server ask.")
        if self.keys and path not in OPEN and not self._has_key(headers):
            raise Refused(401, "A key is needed: send the header Authorization: Bearer KEY, or X-API-Key: KEY.")
        if self._open > self.limits.requests and path in (ONE, MANY):
            raise Refused(429, "Too many requests at once. Try again in some seconds.")

    def _has_key(self, headers: dict[str, list[str]]) -> bool:
        """Whether whatever is sent is a right key; the time does not depend on how much of it is."""
        bearers = [value[7:] if value[:7].lower() == "bearer " else "" for value in headers.get("authorization", [])]
        asked = [value.strip().encode("latin-1") for value in (*bearers, *headers.get("x-api-key", []))]
        right = [any([hmac.compare_digest(key, value) for key in self.keys]) for value in asked]  # noqa: C419
        return bool(right) and all(right)

    async def _body(self, scope: Message, receive: Receive, hold: Callable[[int], None]) -> bytes | None:
        """The whole body of what takes one; None if the client has gone."""
        if scope["method"] != "POST" or scope["path"] not in (ONE, MANY):
            return b""
        name = "file_mb" if scope["path"] == ONE else "request_mb"
        most = self.limits.bytes_of(name)
        words = too_large(most) if scope["path"] == ONE else f"All files together may have {most / 2**20:.3g} MB."
        return await read_body(scope, receive, most + _AROUND, self.limits.arrive_seconds, words, hold)

    def _counted(self, scope: Message, send: Send) -> Send:
        """`send` that counts the answer."""
        begin, path = time.perf_counter(), scope["path"] if scope["path"] in PATHS else "other"

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.requests.labels(path, message["status"]).inc()
                self.metrics.seconds.labels(path).observe(time.perf_counter() - begin)
            await send(message)

        return send_counted


async def refuse(send: Send, status: int, words: str) -> None:
    """Answer with an error; the connection ends, and what is left of a body is not read."""
    added = {401: [(b"www-authenticate", b"Bearer")], 429: _RETRY, 503: _RETRY}.get(status, [])
    await answer(send, status, JSON, problem(status, words), added)


async def _while_connected(work: Awaitable[None], receive: Receive, body: bytes) -> None:
    """Answer a request, and stop when its client hangs up: what waits for him is not judged."""
    task = asyncio.ensure_future(work)
    if not body:
        return await task
    gone = asyncio.ensure_future(receive())  # after the body, a connection says only that it is closed
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

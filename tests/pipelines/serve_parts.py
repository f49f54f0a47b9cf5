"""A server's parts without processes: workers that do what a file's bytes say, and a client that speaks ASGI."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pipelines.serve.app import build_app
from pipelines.serve.dispatcher import Dispatcher
from pipelines.serve.gate import Gate
from pipelines.serve.judge import Upload
from pipelines.serve.metrics import Metrics
from pipelines.serve.settings import Limits, Serving
from pipelines.serve.worker import Unopened

PICTURE = b"\x89PNG\r\n\x1a\n"
VIDEO = b"\x1a\x45\xdf\xa3"
PNG = [("content-type", "image/png")]
FORM = [("content-type", "multipart/form-data; boundary=xyz")]
FACTS = {
    "label": "recorded", "fold": "all", "detector": "none", "sees": "crop", "face_detector": None,
    "threshold": {"value": 0.5, "rule": "r", "selection": "s", "origin": "o", "words": "w", "by_class": False},
    "trained_on": {}, "takes_aligned": True, "measured": None, "parts": [], "warnings": [],
}  # fmt: skip


def form(*files: bytes, name: str = "a.png") -> bytes:
    head = f'--xyz\r\nContent-Disposition: form-data; name="f"; filename="{name}"\r\n\r\n'.encode()
    return b"".join(head + content + b"\r\n" for content in files) + b"--xyz--\r\n"


def verdict(upload: Upload, word: str = "live", **other: Any) -> dict[str, Any]:
    score = None if word in ("refused", "no face") else 0.75
    return {
        "source": upload.name or "picture", "verdict": word, "reason": "of a test.", "score": score, "threshold": 0.5,
        "threshold_origin": "o", "faces": [], "frames": [], "notes": [], **other,
    }  # fmt: skip


class RecordedWorker:
    """Answers `live`; does what a file says: die, stall, refuse, fail, or hold until `go` is set."""

    def __init__(self, opening: str = "well") -> None:
        self.opening, self.batches, self.gone = opening, list[list[Upload]](), threading.Event()
        self.go = threading.Event()

    def opened(self) -> dict[str, Any]:
        if self.opening == "dies":
            raise EOFError
        if self.opening == "broken":
            raise Unopened("The model is broken. Copy it again.")
        if self.opening == "slow":
            self.gone.wait(5)
            raise EOFError
        return FACTS

    def exchange(self, uploads: Sequence[Upload]) -> list[dict[str, Any]]:
        self.batches.append(list(uploads))
        contents = [upload.content for upload in uploads]
        if any(b"die" in content for content in contents):
            self.gone.set()
            raise EOFError
        if any(b"stall" in content for content in contents) and self.gone.wait(5):
            raise EOFError
        if any(b"hold" in content for content in contents):
            self.go.wait(5)
        return [self._answer(upload) for upload in uploads]

    @staticmethod
    def _answer(upload: Upload) -> dict[str, Any]:
        if b"fail" in upload.content:
            return {"fault": "The model failed."}
        return {"verdict": verdict(upload, "refused" if b"refuse" in upload.content else "live")}

    def wait(self) -> None:
        self.gone.wait()

    def kill(self) -> None:
        self.gone.set()

    close = kill


class Client:
    """Sends requests through the gate to the API."""

    def __init__(self, gate: Gate, dispatcher: Dispatcher, workers: list[RecordedWorker]) -> None:
        self.gate, self.dispatcher, self.workers = gate, dispatcher, workers

    async def __call__(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
        host: str | None = "127.0.0.1",
        chunks: Sequence[Any] | None = None,
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, content (JSON decoded) and headers; (0, None, {}) without an answer. In `chunks`, a number is seconds
        to wait, and None a client who hangs up."""
        path, _, query = target.partition("?")
        given, said = list([body] if chunks is None else chunks), []

        async def receive() -> Any:
            while given and isinstance(given[0], float):
                await asyncio.sleep(given.pop(0))
            if given and given[0] is not None:
                return {
                    "type": "http.request",
                    "body": given.pop(0),
                    "more_body": bool(given) and given[-1] is not None,
                }
            if given:
                return {"type": "http.disconnect"}
            await asyncio.sleep(60)

        async def send(message: Any) -> None:
            said.append(message)

        named = [*([("host", host)] if host is not None else []), *headers]
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in named], "root_path": "",
            "scheme": "http", "server": ("127.0.0.1", 80), "http_version": "1.1", "asgi": {"version": "3.0"},
        }  # fmt: skip
        await self.gate(scope, receive, send)
        if not said:
            return 0, None, {}
        found = {name.decode(): value.decode() for name, value in said[0]["headers"]}
        content = b"".join(message.get("body", b"") for message in said[1:])
        json_ = found.get("content-type") == "application/json"
        return said[0]["status"], json.loads(content) if json_ else content.decode(), found


@asynccontextmanager
async def serving(
    *openings: str, keys: Sequence[str] = (), batch: int = 4, wait_ms: float = 0.0, ready: bool = True, **limits: Any
) -> AsyncIterator[Client]:
    """A server of recorded workers, one for each of `openings` (default: one)."""
    workers: list[RecordedWorker] = []

    def starter(opening: str) -> Any:
        ways = iter((*opening.split(" then "),))

        def start() -> RecordedWorker:
            workers.append(RecordedWorker(next(ways, "well")))
            return workers[-1]

        return start

    given, metrics = Limits(**limits), Metrics()
    serving = Serving("model", len(openings) or 1, batch, wait_ms)
    dispatcher = Dispatcher(serving, given, [starter(opening) for opening in openings or ("well",)], metrics)
    gate = Gate(build_app(dispatcher, bool(keys)), given, metrics, keys, ["api.example.org"])
    dispatcher.start()
    try:
        while ready and not dispatcher.ready:
            await asyncio.sleep(0.001)
        yield Client(gate, dispatcher, workers)
    finally:
        await dispatcher.close()

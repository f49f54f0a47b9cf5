"""uvicorn on loopback with recorded workers: what is heard before there is a request, and how it ends."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from serve_parts import PICTURE, RecordedWorker

from pipelines.errors import AgfasError
from pipelines.serve import server
from pipelines.serve.settings import Limits, Serving


@pytest.fixture
def started(monkeypatch) -> list[uvicorn.Server]:
    """The servers that were made; their workers are recorded, and open as their model is called."""
    made: list[uvicorn.Server] = []

    class Kept(uvicorn.Server):
        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            made.append(self)

    monkeypatch.setattr(uvicorn, "Server", Kept)
    monkeypatch.setattr(server, "ProcessWorker", lambda serving, *given: RecordedWorker(serving.model))
    return made


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


@contextmanager
def running(started: list[uvicorn.Server], **limits: Any) -> Iterator[Callable[..., bytes]]:
    """A server that is ready; yields what asks it with raw bytes."""
    ready, port = threading.Event(), free_port()
    given = (Serving("well", 1), Limits(**limits), "127.0.0.1", port, [], [], lambda dispatcher: ready.set())
    thread = threading.Thread(target=server.serve, args=given)
    thread.start()
    assert ready.wait(10)
    while not started[0].started:  # a recorded worker may be there before its server listens
        time.sleep(0.001)

    def ask(said: bytes, before_the_answer: Callable[[], Any] | None = None) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(said)
            if before_the_answer is not None:
                return before_the_answer()
            return b"".join(iter(lambda: connection.recv(65536), b""))

    try:
        yield ask
    finally:
        started[0].should_exit = True
        thread.join(10)
    assert not thread.is_alive()


def error(answer: bytes) -> tuple[int, str]:
    """Status and code."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    return int(head.split()[1]), json.loads(body)["error"]["code"]


def request(head: str, body: bytes = b"") -> bytes:
    return f"{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".encode() + body


def test_requests_are_answered_and_rubbish_is_refused_as_json(started):
    with running(started) as ask:
        picture = b"Content-Type: image/png\r\nContent-Length: %d\r\n\r\n%s" % (len(PICTURE), PICTURE)
        answer = ask(request("POST /v1/verdict", picture))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"server:" not in answer.partition(b"\r\n\r\n")[0].lower()
        for rubbish in (
            *(b"GET /\r\n\r\n", b"\0" * 100, request("GET /\xff", b"\r\n"), request("GET /" + "a" * 20_000, b"\r\n")),
            request("GET /v1/health", b"a: b\r\n" * 10_000 + b"\r\n"),
            request("POST /v1/verdict", b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        ):
            assert error(ask(rubbish)) == (400, "bad_request"), rubbish[:40]
        assert error(ask(request("GET /nothing", b"\r\n"))) == (404, "not_found")


def test_connections_are_bounded(started):
    with running(started, connections=2) as ask:
        whole = request("GET /v1/health", b"\r\n")
        answer = ask(b"GET", lambda: ask(b"GET", lambda: ask(whole)))
        assert error(answer) == (503, "not_ready")
        assert b"retry-after: 2" in answer
        for _ in range(100):  # until the server has seen that the others are gone
            if ask(whole).startswith(b"HTTP/1.1 200"):
                return
            time.sleep(0.01)
        pytest.fail("no connection became free")


def test_a_model_that_does_not_open_ends_the_server_with_its_sentence(started):
    with pytest.raises(AgfasError, match=r"^The model is broken\. Copy it again\.$"):
        server.serve(Serving("broken", 1), Limits(), "127.0.0.1", free_port(), [], [], lambda dispatcher: None)

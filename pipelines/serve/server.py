"""Serving the API with uvicorn: connections that are bounded and hurried, errors as JSON before there is a request."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipelines.asgi import hurried
from pipelines.errors import AgfasError
from pipelines.serve.app import build_app
from pipelines.serve.dispatcher import Dispatcher
from pipelines.serve.gate import JSON, MOST_HEADER_BYTES, Gate, problem
from pipelines.serve.metrics import Metrics
from pipelines.serve.settings import Limits, Serving
from pipelines.serve.worker import ProcessWorker

_LAST_SECONDS = 1.0
_SHORTEST_KEY = 16
_VARIABLE = "AGFAS_API_KEY"
_BAD_REQUEST = "That is no request of HTTP/1.1, or its headers are too large."
_TOO_MANY = "Too many connections at once. Try again in some seconds."


def keys_of(file: Path | None) -> list[str]:
    """The accepted keys: the lines of a file, or the environment's one.

    Raises:
        AgfasError: no such file, no key in it, or one that is too short or holds spaces.
    """
    if file is None:
        found = os.environ.get(_VARIABLE, "").splitlines()
        if not found:
            return []
    else:
        try:
            found = file.read_text(encoding="ascii").splitlines()
        except UnicodeDecodeError:
            raise AgfasError(f"{file} holds other letters than ASCII. Give a key a line.") from None
        except OSError as error:
            raise AgfasError(f"{file} cannot be read ({error.strerror}). Give a file with a key a line.") from None
    keys = [line.strip() for line in found if line.strip()]
    where = file or f"The environment variable {_VARIABLE}"
    if not keys or any(len(key) < _SHORTEST_KEY or not key.isascii() or " " in key for key in keys):
        raise AgfasError(
            f"{where} must hold a key a line, each of at least {_SHORTEST_KEY} ASCII letters without spaces. Make one:"
            " openssl rand -hex 32"
        )
    return keys


def serve(
    serving: Serving,
    limits: Limits,
    host: str,
    port: int,
    keys: Sequence[str],
    names: Iterable[str],
    say_ready: Callable[[Dispatcher], None],
) -> None:
    """Serve until SIGINT or SIGTERM; what is in flight is finished first.

    Args:
        serving: the model and its workers.
        limits: of requests.
        host, port: to listen at; checked before.
        keys: that are accepted; none: everyone is let in.
        names: hosts that are served beside addresses and `localhost`.
        say_ready: called when the first worker is ready.

    Raises:
        AgfasError: the model cannot be opened.
        KeyboardInterrupt: it was stopped, by the signals' handlers of before.
    """
    metrics = Metrics()
    starters = [partial(ProcessWorker, serving, limits, environment) for environment in serving.environments()]
    dispatcher = Dispatcher(serving, limits, starters, metrics)
    gate = Gate(build_app(dispatcher, bool(keys)), limits, metrics, keys, names)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    server = uvicorn.Server(
        uvicorn.Config(
            gate,
            host=host.strip("[]"),
            port=port,
            http=protocol(limits.connections),
            ws="none",
            lifespan="on",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=MOST_HEADER_BYTES,
            timeout_graceful_shutdown=int(limits.arrive_seconds + limits.answer_seconds) + 1,
        )
    )

    def changed() -> None:
        if dispatcher.failed is not None:
            server.should_exit = True
        else:
            say_ready(dispatcher)

    dispatcher.on_change = changed
    server.run()
    if dispatcher.failed is not None:
        raise AgfasError(dispatcher.failed)


def protocol(connections: int) -> Any:
    """uvicorn's HTTP/1.1 on h11, which bounds headers, with so many connections and with errors as JSON."""

    class Bounded(hurried(H11Protocol)):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._is_one_too_many, self._is_refused = len(self.connections) > connections, False

        def data_received(self, data: bytes) -> None:
            if self._is_one_too_many and not self._is_refused:
                self._refuse(503, _TOO_MANY)
            elif not self._is_refused:
                super().data_received(data)

        def handle_events(self) -> None:
            try:
                super().handle_events()
            except UnicodeDecodeError:  # of a path that is not ASCII
                self.send_400_response(_BAD_REQUEST)

        def send_400_response(self, msg: str) -> None:
            self._refuse(400, _BAD_REQUEST)

        def _refuse(self, status: int, words: str) -> None:
            """Answer, and hear the rest for a moment: whoever hangs up on what is unread takes the answer with it."""
            self._is_refused = True
            if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # an answer is on its way
                return self.transport.close()
            body, retry = problem(status, words), "retry-after: 2\r\n" if status == 503 else ""
            head = f"HTTP/1.1 {status} \r\ncontent-type: {JSON}\r\ncontent-length: {len(body)}\r\n{retry}"
            self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
            self.transport.write_eof()
            self.loop.call_later(_LAST_SECONDS, self.transport.close)

    return Bounded

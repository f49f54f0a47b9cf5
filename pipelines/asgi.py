"""What stands between strangers and a web framework: bounded bodies, served names, addresses, impatient connections.

Plain ASGI, which knows no framework. `pipelines.demo` and `pipelines.serve` put their own rules on top.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from pipelines.errors import AgfasError

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

SAFE_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
"""Of every answer: a browser takes nothing for a page that is none."""

_HEADER_SECONDS = 10.0
_HOSTS = "Allowed are 127.0.0.1 (this computer alone), 0.0.0.0 (everyone who reaches it), or an address that it has."


class Refused(Exception):
    """A request that is answered with a status and a sentence for the visitor."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


def headers_of(scope: Message) -> dict[str, list[str]]:
    """The headers of a request, by their names in lower case."""
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def is_served(host: str, names: Iterable[str]) -> bool:
    """Whether a Host header names an address, `localhost`, or one of `names`: what no stranger's DNS can claim."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return name == "localhost" or name in names


def check_host(headers: dict[str, list[str]], names: Iterable[str]) -> list[str]:
    """The hosts that a request names.

    Raises:
        Refused: none, or one that is not served.
    """
    hosts = headers.get("host", []) + headers.get("x-forwarded-host", [])
    try:
        served = bool(hosts) and all(is_served(host, names) for host in hosts)
    except ValueError:  # half an IPv6 address
        served = False
    if not served:
        raise Refused(421, "This page is not served under that name. Ask the one who runs it for its address.")
    return hosts


def is_own(origin: str, hosts: Collection[str], names: Collection[str]) -> bool:
    """Whether an Origin header is of the page itself: of a host that the request names, or of one of `names`."""
    try:
        parts = urlsplit(origin)
        return parts.netloc.lower() in [host.lower() for host in hosts] or (parts.hostname or "") in names
    except ValueError:
        return False


async def read_body(
    scope: Message,
    receive: Receive,
    most: int,
    seconds: float,
    too_large: str,
    count: Callable[[int], None] = lambda size: None,
) -> bytes | None:
    """The whole body of a request; None if the visitor has gone.

    Args:
        scope: of the request.
        receive: its messages.
        most: bytes.
        seconds: to its last byte.
        too_large: what is said of a larger one.
        count: is called with the bytes of every piece that arrives; it may raise.

    Raises:
        Refused: too large (413) or too slow (408).
    """
    length = headers_of(scope).get("content-length", ["0"])[0]
    if not length.isdecimal() or int(length) > most:
        raise Refused(413, too_large)
    body, end = bytearray(), asyncio.get_running_loop().time() + seconds
    while True:
        try:
            message = await asyncio.wait_for(receive(), end - asyncio.get_running_loop().time())
        except asyncio.TimeoutError:
            raise Refused(408, f"The picture did not arrive within {seconds:.0f} seconds.") from None
        if message["type"] == "http.disconnect":
            return None
        count(len(message.get("body", b"")))
        body += message.get("body", b"")
        if len(body) > most:
            raise Refused(413, too_large)
        if not message.get("more_body"):
            return bytes(body)


def given(body: bytes, receive: Receive) -> Receive:
    """`receive` of a body that was read already; afterwards what the connection says, such as that it is closed."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again


def guarded(send: Send, added: list[tuple[bytes, bytes]]) -> Send:
    """`send` with further headers."""

    async def send_guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return send_guarded


async def answer(
    send: Send, status: int, kind: str, body: bytes, added: Iterable[tuple[bytes, bytes]] = (), close: bool = True
) -> None:
    """Answer a request with a whole body.

    Args:
        send: of the request.
        status: of the answer.
        kind: its Content-Type.
        body: its bytes.
        added: further headers.
        close: whether the connection ends, so that what is left of a refused body is not read.
    """
    headers = [
        *((b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())),
        *([(b"connection", b"close")] if close else []),
        *SAFE_HEADERS,
        *added,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def hurried(protocol: Any) -> Any:
    """A protocol of uvicorn that closes connections that send no whole request; it waits for headers without end."""

    class Hurried(protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch(None)

        def _watch(self, before: object) -> None:
            """Close a connection that answers nothing and has begun nothing since the last look."""
            cycle = self.cycle
            idle = cycle is None or cycle.response_complete
            now = (idle, cycle)
            if idle and before == now:
                self.transport.abort()
            elif not self.transport.is_closing():
                self.loop.call_later(_HEADER_SECONDS, self._watch, now)

    return Hurried


def check_address(host: str, port: int) -> bool:
    """Check that a server can listen at an address, before a model is loaded.

    Args:
        host: a name or an address; an IPv6 address with or without brackets.
        port: from 1 to 65535.

    Returns:
        Whether only this computer can reach the address.

    Raises:
        AgfasError: the port is taken or not allowed, or the host is not an address of this computer.
    """
    if not 1 <= port <= 65535:
        raise AgfasError(f"--port must be between 1 and 65535, not {port}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise AgfasError(f"--host {host} is not an address. {_HOSTS}") from None
    with socket.socket(family, kind, protocol) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(address)
        except OSError as error:
            raise _unavailable(host, port, error) from None
    return ipaddress.ip_address(str(address[0])).is_loopback


def bracketed(host: str) -> str:
    """A host as URLs write it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _unavailable(host: str, port: int, error: OSError) -> AgfasError:
    if error.errno == errno.EADDRINUSE:
        return AgfasError(f"Port {port} of {host} is taken. Stop the program that uses it, or choose another --port.")
    if error.errno == errno.EACCES:
        return AgfasError(f"Port {port} is reserved for the system. Choose a --port of 1024 or above.")
    return AgfasError(f"--host {host} cannot be used ({error.strerror}). {_HOSTS}")

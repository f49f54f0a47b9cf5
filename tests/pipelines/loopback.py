"""Streams on loopback: servers that send drawn frames over HTTP and RTSP, and die, stall or lie as a test wants."""

from __future__ import annotations

import base64
import io
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
from PIL import Image

TS_PACKET = 188
Body = Iterable[bytes]


def transport_stream(frames: list[np.ndarray], rate: int = 25, start: int = 0) -> bytes:
    """Frames (H, W, 3) uint8 as MPEG-2 video in an MPEG transport stream, each a key frame."""
    import av

    target = io.BytesIO()
    with av.open(target, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        stream.codec_context.gop_size = 1
        for number, picture in enumerate(frames, start):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return target.getvalue()


def jpeg(picture: np.ndarray) -> bytes:
    target = io.BytesIO()
    Image.fromarray(picture).save(target, "JPEG", quality=92)
    return target.getvalue()


def paced(parts: Iterable[bytes], seconds: float) -> Iterator[bytes]:
    """The parts with a pause after each."""
    for part in parts:
        yield part
        time.sleep(seconds)


def silence(seconds: float) -> Iterator[bytes]:
    """Send nothing for so long."""
    time.sleep(seconds)
    yield b""


def motion_jpeg(frames: Iterable[np.ndarray], seconds: float = 0.02) -> Iterator[bytes]:
    """The body of an HTTP answer `multipart/x-mixed-replace; boundary=frame`."""
    for part in paced(map(jpeg, frames), seconds):
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(part)}\r\n\r\n"
        yield head.encode() + part + b"\r\n"


MOTION_JPEG = "multipart/x-mixed-replace; boundary=frame"


class Server:
    """Answers every connection with the next of its answers, in threads; the last answer is for all that follow.

    Args:
        answers: each is called with the connection, after it was accepted.
        port: 0 for a free one.
    """

    def __init__(self, answers: list[Callable[[socket.socket], None]], port: int = 0) -> None:
        self.answers, self.asked = answers, 0
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening, and break off what is being sent."""
        for each in (self._listening, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._open.append(connection)
                answer = self.answers[min(self.asked, len(self.answers) - 1)]
                self.asked += 1
                threading.Thread(target=self._answer, args=(answer, connection), daemon=True).start()

    @staticmethod
    def _answer(answer: Callable[[socket.socket], None], connection: socket.socket) -> None:
        with suppress(OSError), connection:
            answer(connection)


@contextmanager
def serving(*answers: Callable[[socket.socket], None]) -> Iterator[Server]:
    server = Server(list(answers))
    try:
        yield server
    finally:
        server.close()


def read_request(connection: socket.socket) -> tuple[str, dict[str, str]]:
    """First line and headers, by lower-case name; an empty line at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(4096)
        if not more:
            return "", {}
        data += more
    first, *lines = data.split(b"\r\n\r\n")[0].decode().split("\r\n")
    return first, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def http(
    body: Callable[[], Body] = tuple, kind: str = "video/mp2t", status: str = "200 OK", login: str = ""
) -> Callable[[socket.socket], None]:
    """An answer of an HTTP server: status, type and body, for those who know `login` (user:password)."""

    def answer(connection: socket.socket) -> None:
        _, headers = read_request(connection)
        wanted = f"Basic {base64.b64encode(login.encode()).decode()}"
        if login and headers.get("authorization") != wanted:
            connection.sendall(b'HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm="camera"\r\n\r\n')
            return
        connection.sendall(f"HTTP/1.0 {status}\r\nContent-Type: {kind}\r\n\r\n".encode())
        for part in body():
            connection.sendall(part)

    return answer


_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=drawn\r\nt=0 0\r\na=control:*\r\n"
    "m=video 0 RTP/AVP 33\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:33 MP2T/90000\r\na=control:track0\r\n"
)


def rtsp(body: Callable[[], Body], login: str = "") -> Callable[[socket.socket], None]:
    """An RTSP server that plays a transport stream as RTP of payload type 33, interleaved in its TCP connection."""

    def answer(connection: socket.socket) -> None:
        while True:
            line, headers = read_request(connection)
            if not line:
                return
            method = line.split()[0]
            reply, content = {"cseq": headers.get("cseq", "0")}, ""
            wanted = f"Basic {base64.b64encode(login.encode()).decode()}"
            status = "200 OK"
            if login and headers.get("authorization") != wanted:
                status, reply["WWW-Authenticate"] = "401 Unauthorized", 'Basic realm="camera"'
            elif method == "OPTIONS":
                reply["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
            elif method == "DESCRIBE":
                content, reply["Content-Type"] = _SDP, "application/sdp"
            elif method == "SETUP":
                reply |= {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1", "Session": "1"}
            head = "".join(f"{name}: {value}\r\n" for name, value in {**reply, "Content-Length": len(content)}.items())
            connection.sendall(f"RTSP/1.0 {status}\r\n{head}\r\n{content}".encode())
            if method == "TEARDOWN":
                return
            if method == "PLAY":
                for packet in _rtp(body()):
                    connection.sendall(packet)
                return

    return answer


def _rtp(body: Body) -> Iterator[bytes]:
    """Transport packets in groups of seven, each with an RTP header and the frame of an interleaved connection."""
    number = 0
    for part in body:
        for start in range(0, len(part), 7 * TS_PACKET):
            payload = part[start : start + 7 * TS_PACKET]
            header = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, number * 900, 7) + payload
            yield struct.pack(">cBH", b"$", 0, len(header)) + header
            number += 1


def in_pieces(stream: bytes, packets: int = 7) -> list[bytes]:
    """A transport stream in pieces of whole packets."""
    return [stream[start : start + packets * TS_PACKET] for start in range(0, len(stream), packets * TS_PACKET)]

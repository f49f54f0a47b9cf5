"""Cameras and streams: which words name one, how it is named to people, and its pictures as they come.

OpenCV opens cameras, since a number means the same camera on every system. PyAV opens streams: it gives the reason why
one does not open, and bounds what an address may lead to.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

import numpy as np

from pipelines.data.containers import picture_streams
from pipelines.data.images import MAX_PIXELS
from pipelines.data.video import upright
from pipelines.errors import AgfasError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

SCHEMES = ("rtsp", "rtsps", "http", "https", "udp", "tcp", "rtmp", "rtmps", "srt")
PictureMaker: TypeAlias = "Callable[[], np.ndarray]"
"""Makes a picture (H, W, 3) uint8 RGB, upright; not made early, since most pictures of a stream are never looked at."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_DEVICE = re.compile(r"/dev/video(\d+)")
# What an address may lead to: a redirection or a playlist must not open files of this machine.
_PROTOCOLS = "http,https,httpproxy,tcp,tls,udp,rtp,srtp,rtmp,rtmps,rtmpt,ffrtmphttp,srt,crypto"
_STREAMS = "rtsp,mpegts,mpjpeg,mjpeg,flv,matroska,webm,mov,mp4,mpeg,mpegvideo,h264,hevc,asf,ogg,hls,live_flv"
# Opened to be refused by name.
_STILL = "image2,jpeg_pipe,png_pipe,webp_pipe,gif,gif_pipe,bmp_pipe,tiff_pipe,svg_pipe,ppm_pipe,pgm_pipe"
_HINTS = {
    "ConnectionRefusedError": "refused; nothing listens at this port, so check it, and whether the sender is on",
    "HTTPUnauthorizedError": "401; give its user and password as scheme://user:password@host",
    "HTTPForbiddenError": "403; this user may not see it",
    "HTTPNotFoundError": "404; the server has no such stream, so check the path",
    "InvalidDataError": "what it sends is no video that is known here",
    "ProtocolNotFoundError": "the FFmpeg of this installation does not have this protocol",
}


@dataclass(frozen=True)
class LiveSource:
    """A camera or a stream.

    Attributes:
        address: as given, perhaps with a password; never shown.
        shown: the address without user, password and query.
        camera: its number; None for a stream.
    """

    address: str = field(repr=False)
    shown: str
    camera: int | None = None


def live_source(text: str) -> LiveSource | None:
    """The camera or stream that a word names; None if it is the path of a file or folder.

    A number, `/dev/videoN` or an address `scheme://...`. A file or folder named like a number is itself.

    Raises:
        AgfasError: an address with another scheme, or without a host.
    """
    if device := _DEVICE.fullmatch(text):
        return LiveSource(text, text, int(device[1]))
    if re.fullmatch(r"\d{1,3}", text) and not Path(text).exists():
        return LiveSource(text, f"camera {int(text)}", int(text))
    found = _ADDRESS.match(text)
    if found is None:
        return None
    source = LiveSource(text, masked(text))
    if found[1].lower() not in SCHEMES:
        raise AgfasError(
            f"{source.shown} has the scheme '{found[1]}'. Allowed are {', '.join(SCHEMES)}; name a file by its path."
        )
    if not _has_host(text):
        raise AgfasError(
            f"{source.shown} is no address: it needs scheme://host, and a port, if any, from 1 to 65535. In a password,"
            " write / ? # and @ as %2F, %3F, %23 and %40."
        )
    return source


def _has_host(address: str) -> bool:
    try:
        parts = urlsplit(address)
        # A multicast group to listen at is written udp://@239.0.0.1:1234, and any sender as udp://:1234 or udp://@:1234.
        return parts.port != 0 and bool(parts.hostname or (parts.scheme == "udp" and parts.port))
    except ValueError:
        return False


def masked(address: str) -> str:
    """An address as it may be shown: `***` for user and password, and for the query, which may hold them too."""
    scheme, _, rest = address.partition("://")
    # A password may hold any character that nobody encoded, so all before the last @ is taken for one.
    user, at, rest = rest.rpartition("@")
    rest, query, _ = rest.partition("?")
    return f"{scheme}://{'***' if user else ''}{at}{rest}{'?***' if query else ''}"


def pictures_of(source: LiveSource, timeout: float) -> Iterator[PictureMaker]:
    """The pictures of a camera or stream, one after another, until it ends.

    Args:
        source: of `live_source`.
        timeout: seconds to wait for the connection, and for each packet.

    Raises:
        AgfasError: it cannot be opened, shows no live video, or breaks off.
    """
    return _of_stream(source, timeout) if source.camera is None else _of_camera(source)


def _of_stream(source: LiveSource, timeout: float) -> Iterator[PictureMaker]:
    import av

    options = {"protocol_whitelist": _PROTOCOLS, "format_whitelist": f"{_STREAMS},{_STILL}"}
    # Packets that are read to know the stream are few: the rate of its frames is not asked for.
    options |= {"rtsp_transport": "tcp", "fpsprobesize": "0", "analyzeduration": "2000000"}
    try:
        container = av.open(source.address, options=options, timeout=(timeout, timeout), metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        # The cause is left out of the traceback: it names the address with its password.
        raise AgfasError(f"{source.shown} cannot be opened: {_why(error, source, timeout)}.") from None
    with container:
        stream = _live_stream(container, source)
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        try:
            for packet in container.demux(stream):
                yield from _decoded(stream, packet)
        except (av.FFmpegError, OSError) as error:
            raise AgfasError(f"{source.shown} broke off: {_why(error, source, timeout)}.") from None


def _decoded(stream: VideoStream, packet: object) -> Iterator[PictureMaker]:
    """The sound frames of a packet; a player goes on after damaged ones."""
    import av

    try:
        frames = stream.codec_context.decode(packet)  # type: ignore[arg-type]
    except (av.FFmpegError, OSError):
        return
    for frame in frames:
        if not frame.is_corrupt:
            yield partial(upright, frame)


def _live_stream(container: InputContainer, source: LiveSource) -> VideoStream:
    """The largest stream of moving pictures.

    Raises:
        AgfasError: a still picture, a recording, or no video.
    """
    download = "Download it, and give the file's path"
    if container.format.name in _STILL.split(","):
        raise AgfasError(f"{source.shown} is a still picture, not a stream. {download}.")
    if container.duration and source.address.lower().startswith(("http:", "https:")):
        seconds = container.duration / 1e6
        raise AgfasError(f"{source.shown} is a recording of {seconds:.0f} s, not a live stream. {download}.")
    streams = [stream for stream in picture_streams(container) if stream.codec_context is not None]
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise AgfasError(f"{source.shown} has no video that can be decoded, only {kinds}.")
    return max(streams, key=lambda stream: stream.codec_context.width * stream.codec_context.height)


def _why(error: Exception, source: LiveSource, timeout: float) -> str:
    """What FFmpeg says, without the address, and what to do."""
    name = type(error).__name__
    if name in ("ExitError", "TimeoutError"):
        return f"no answer within {timeout:g} s"
    host = urlsplit(source.address).hostname or ""
    if getattr(error, "errno", None) == errno.EIO:
        if host and not _is_known(host):
            return f"there is no host {host}" if host in source.shown.lower() else "there is no such host"
        return "the connection was closed"
    return _HINTS.get(name) or str(getattr(error, "strerror", None) or name).split(":")[0].rstrip(".")


def _is_known(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None))
    except (OSError, UnicodeError):
        return False


def _of_camera(source: LiveSource) -> Iterator[PictureMaker]:
    import cv2

    assert source.camera is not None
    if sys.platform == "linux":
        _check_device(source.camera)
    with _silent_opencv():
        capture = cv2.VideoCapture(source.camera)
    try:
        read, picture = capture.read() if capture.isOpened() else (False, None)
        if not read:
            raise AgfasError(
                f"{source.shown} gives no picture: another program uses it, this one may not, or it is no camera."
                " Close the other program, or try another number."
            )
        while read:
            yield partial(cv2.cvtColor, picture, cv2.COLOR_BGR2RGB)
            read, picture = capture.read()
    finally:
        capture.release()


def _check_device(number: int) -> None:
    """What Linux knows of a camera before it is opened."""
    path = Path(f"/dev/video{number}")
    if not path.exists():
        others = ", ".join(sorted(str(found) for found in Path("/dev").glob("video*"))) or "none"
        raise AgfasError(f"There is no camera {number}: no {path}. Cameras of this machine: {others}.")
    if not os.access(path, os.R_OK | os.W_OK):
        raise AgfasError(f"{path} may not be opened by this user: join its group, usually `video`.")


@contextmanager
def _silent_opencv() -> Iterator[None]:
    """OpenCV prints every camera interface that it tries in vain."""
    import cv2

    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)

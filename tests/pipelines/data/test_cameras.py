"""Cameras and streams: what names one, what is shown of it, what comes from it, and why nothing comes."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from loopback import (
    MOTION_JPEG,
    http,
    in_pieces,
    jpeg,
    motion_jpeg,
    rtsp,
    serving,
    silence,
    transport_stream,
)
from video_files import draw, number_of

from pipelines.data import cameras
from pipelines.data.cameras import LiveSource, live_source, masked, pictures_of
from pipelines.errors import AgfasError

FRAMES = [draw(number) for number in range(12)]


@pytest.fixture(scope="module")
def stream() -> bytes:
    return transport_stream(FRAMES)


def watched(address: str, most: int = 100) -> tuple[list[np.ndarray], str]:
    """The first pictures that come, and how the stream broke off."""
    source, found = live_source(address), []
    assert source is not None
    try:
        for picture in pictures_of(source, 2.0):
            found.append(picture())
            if len(found) == most:
                break
    except AgfasError as error:
        return found, str(error)
    return found, ""


def refusal(address: str, timeout: float = 2.0) -> str:
    source = live_source(address)
    assert source is not None
    with pytest.raises(AgfasError) as caught:
        next(pictures_of(source, timeout))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


@pytest.mark.parametrize(
    ("word", "shown", "number"),
    [
        ("0", "camera 0", 0),
        ("12", "camera 12", 12),
        ("/dev/video3", "/dev/video3", 3),
        ("rtsp://h/live", "rtsp://h/live", None),
        ("RTSP://h:554/live", "RTSP://h:554/live", None),
        ("http://u:p@h:80/a?key=1", "http://***@h:80/a?***", None),
        ("udp://@239.0.0.1:1234", "udp://@239.0.0.1:1234", None),
        ("udp://:1234", "udp://:1234", None),
        ("rtmps://[::1]:1935/a", "rtmps://[::1]:1935/a", None),
    ],
)
def test_what_names_a_camera_or_stream(word, shown, number):
    source = live_source(word)
    assert source == LiveSource(word, shown, number)
    assert "u:p" not in repr(source)


@pytest.mark.parametrize("word", ["photo.jpg", "a/0", "-1", "1.5", "/dev/video", "C:/a", "http:/a", "", "1234"])
def test_what_names_a_file(word):
    assert live_source(word) is None


def test_a_file_with_a_number_for_a_name_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0").write_bytes(b"")
    assert live_source("0") is None
    assert live_source("1") is not None


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("foo://u:pw@h", "scheme 'foo'. Allowed are rtsp, "),
        ("file:///etc/passwd", "name a file by its path"),
        ("http://", "it needs scheme://host"),
        ("rtsp://h:0/", "a port, if any, from 1 to 65535"),
        ("rtsp://h:99999/", "a port"),
        ("rtsp://u:pw/x@h/", "%2F"),
        ("udp://", "it needs"),
    ],
)
def test_addresses_that_are_none(address, words):
    with pytest.raises(AgfasError) as caught:
        live_source(address)
    assert words in str(caught.value)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://h/a", "rtsp://h/a"),
        ("rtsp://u:SECRET@h/a", "rtsp://***@h/a"),
        ("rtsp://u:SEC@RET@h:1/a", "rtsp://***@h:1/a"),
        ("rtsp://u:SEC/RET@h/a", "rtsp://***@h/a"),
        ("rtsp://u:1/SECRET@h/a", "rtsp://***@h/a"),
        ("rtsp://u:SEC?RET@h/a", "rtsp://***@h/a"),
        ("rtsp://u:SEC#RET@h/a", "rtsp://***@h/a"),
        ("http://h/a?user=SECRET&pwd=SECRET", "http://h/a?***"),
        ("http://u:SECRET@h/a?mail=SECRET@SECRET", "http://***@SECRET"),
    ],
)
def test_no_password_is_shown(address, shown):
    assert masked(address) == shown


def test_a_stream_over_http(stream):
    with serving(http(lambda: [stream])) as server:
        # The decoder keeps the last frame of a connection that breaks off.
        found, why = watched(f"http://127.0.0.1:{server.port}/live")
    assert [number_of(picture) for picture in found] == list(range(11))
    assert why == f"http://127.0.0.1:{server.port}/live broke off: the connection was closed."


def test_motion_jpeg(stream):
    with serving(http(lambda: motion_jpeg(FRAMES[:4], 0), MOTION_JPEG)) as server:
        found, _ = watched(f"http://127.0.0.1:{server.port}/live", 3)
    assert [number_of(picture) for picture in found] == [0, 1, 2]


@pytest.mark.parametrize("login", ["", "user:s%20cret"])
def test_a_stream_over_rtsp(stream, login):
    with serving(rtsp(lambda: in_pieces(stream), login.replace("%20", " "))) as server:
        place = f"{login}@127.0.0.1" if login else "127.0.0.1"
        found, why = watched(f"rtsp://{place}:{server.port}/live")
    assert [number_of(picture) for picture in found] == list(range(11))
    assert why == ""


def test_pictures_are_rgb_and_change_their_size_on_the_way(stream):
    large = [np.kron(draw(number), np.ones((2, 2, 1), np.uint8)) for number in range(12, 20)]
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 200
    body = [transport_stream([red] * 4), transport_stream(large, start=12)]
    with serving(http(lambda: body)) as server:
        found, _ = watched(f"http://127.0.0.1:{server.port}/live")
    first, last = found[0], found[-1]
    assert (first.dtype, first.shape, last.shape) == (np.uint8, (48, 64, 3), (96, 128, 3))
    assert first[24, 32] == pytest.approx((200, 0, 0), abs=12)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http(status="404 Not Found"), "404; the server has no such stream, so check the path"),
        (http(status="403 Forbidden"), "403; this user may not see it"),
        (http(login="user:other"), "401; give its user and password as scheme://user:password@host"),
        (http(lambda: [jpeg(FRAMES[0])], "image/jpeg"), "is a still picture, not a stream. Download it"),
        (http(lambda: [np.random.default_rng(0).bytes(9000)]), "cannot be opened: "),
        (http(lambda: [b"<html>hello</html>"], "text/html"), "cannot be opened: "),
        (http(tuple), "cannot be opened: "),
        (lambda connection: None, "cannot be opened: "),
        (http(lambda: silence(0.5)), "no answer within 0.1 s"),
        # A playlist of a stranger may not open files of this machine.
        (http(lambda: [b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/passwd\n"]), "cannot be opened: "),
    ],
    ids=["404", "403", "401", "still picture", "rubbish", "a page", "nothing", "hung up", "silent", "a playlist"],
)
def test_why_a_stream_does_not_open(answer, words):
    with serving(answer) as server:
        said = refusal(
            f"http://user:SECRET@127.0.0.1:{server.port}/live?key=SECRET", 0.1 if "no answer" in words else 2
        )
    assert words in said
    assert said.startswith(f"http://***@127.0.0.1:{server.port}/live?***")
    assert "SECRET" not in said


def test_pictures_that_are_too_large_are_not_decoded(stream, monkeypatch):
    monkeypatch.setattr(cameras, "MAX_PIXELS", 100)
    with serving(http(lambda: [stream])) as server:
        found, why = watched(f"http://127.0.0.1:{server.port}/live")
    assert found == []
    assert why.endswith("broke off: the connection was closed.")


def test_rtsp_with_a_wrong_password():
    with serving(rtsp(tuple, "user:other")) as server:
        said = refusal(f"rtsp://user:SECRET@127.0.0.1:{server.port}/live")
    assert "401; give its user and password" in said
    assert "SECRET" not in said


def test_addresses_where_nothing_answers():
    with serving(http()) as server:
        port = server.port
    assert "refused; nothing listens at this port" in refusal(f"tcp://127.0.0.1:{port}")
    assert "there is no host nowhere.invalid" in refusal("http://nowhere.invalid/live")


def test_a_recording_is_no_stream(stream):
    """A file behind an address would be read at the speed of the line, and its end taken for a lost connection."""

    def whole(connection) -> None:
        connection.recv(4096)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(stream)}\r\nAccept-Ranges: bytes\r\n\r\n"
        connection.sendall(head.encode() + stream)

    with serving(whole) as server:
        assert "is a recording of 0 s, not a live stream. Download it" in refusal(
            f"http://127.0.0.1:{server.port}/clip.ts"
        )


def test_a_stream_without_pictures(tmp_path):
    from video_files import write_sound

    content = write_sound(tmp_path / "sound.ts").read_bytes()
    with serving(http(lambda: [content])) as server:
        assert "has no video that can be decoded, only audio" in refusal(f"http://127.0.0.1:{server.port}/live")


class Camera:
    """Stands in for `cv2.VideoCapture`: no machine of the tests has a camera."""

    def __init__(self, pictures: int, opened: bool = True) -> None:
        self.left, self.opened, self.released = pictures, opened, False

    def isOpened(self) -> bool:
        return self.opened

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, np.full((4, 6, 3), (1, 2, 3), np.uint8)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.released = True


@pytest.fixture
def plugged(monkeypatch):
    """Put a stand-in before OpenCV; the list has the numbers that were opened."""
    import cv2

    asked: list[int] = []
    monkeypatch.setattr(cameras, "_check_device", lambda number: None)

    def plug(camera: Camera) -> list[int]:
        monkeypatch.setattr(cv2, "VideoCapture", lambda number: asked.append(number) or camera)
        return asked

    return plug


def test_a_camera_gives_rgb_until_it_ends(plugged):
    import cv2

    level = cv2.utils.logging.getLogLevel()
    camera = Camera(3)
    asked = plugged(camera)
    found = [picture() for picture in pictures_of(LiveSource("2", "camera 2", 2), 1.0)]
    assert (len(found), asked, camera.released) == (3, [2], True)
    assert found[0][0, 0].tolist() == [3, 2, 1]
    assert cv2.utils.logging.getLogLevel() == level


@pytest.mark.parametrize("camera", [Camera(0), Camera(5, opened=False)], ids=["in use", "no camera"])
def test_a_camera_that_gives_nothing(plugged, camera):
    plugged(camera)
    with pytest.raises(AgfasError, match=r"^camera 2 gives no picture: another program uses it"):
        next(pictures_of(LiveSource("2", "camera 2", 2), 1.0))
    assert camera.released


@pytest.mark.skipif(sys.platform != "linux", reason="names and rights of cameras are Linux's")
def test_what_linux_knows_of_a_camera(monkeypatch):
    assert "There is no camera 987: no /dev/video987. Cameras of this machine: " in refusal("987")
    monkeypatch.setattr(cameras, "Path", lambda name: SimpleNamespace(exists=lambda: True))
    monkeypatch.setattr(cameras.os, "access", lambda *_: False)
    with pytest.raises(AgfasError, match="may not be opened by this user"):
        cameras._check_device(0)

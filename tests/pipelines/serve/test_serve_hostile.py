"""A thousand hostile requests to a true server: none is fatal, nothing is left on the disk, the verdict stays right."""

from __future__ import annotations

import http.client
import importlib.util
import json
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from exported_models import SIZE, some_faces
from hostile import READ, REFUSED, write_corpus
from PIL import Image
from serve_parts import form

from pipelines.verdict import FaceAntiSpoofing
from scripts.bench.serve import get, memory_mb, serving

pytestmark = pytest.mark.slow
KEY = "a-key-of-sixteen-letters"
LIMITS = ("--max-arrive-seconds", "2", "--max-judge-seconds", "5", "--max-pixels", "20000000", "--workers", "2")
MOST_GROWTH_MB = 700  # two workers may each hold a picture of the most pixels, and its copies


class Server(NamedTuple):
    port: int
    pid: int
    folder: Path
    picture: bytes
    verdict: dict[str, object]


@pytest.fixture(scope="module")
def server(exported, tmp_path_factory) -> Iterator[Server]:
    """A server whose temporary folder is empty, and a picture with its right verdict."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "tmp").mkdir()
    Image.fromarray(some_faces(SIZE, 1).crops[0]).save(folder / "face.png")
    expected = FaceAntiSpoofing.from_pretrained(exported)(folder / "face.png")[0].to_dict()
    patch = pytest.MonkeyPatch()
    patch.setenv("TMPDIR", str(folder / "tmp"))
    patch.setenv("AGFAS_API_KEY", KEY)
    with serving(exported, *LIMITS) as (port, process):
        picture = (folder / "face.png").read_bytes()
        yield Server(port, process.pid, folder, picture, {**expected, "source": "picture", "label": "untrained"})
    patch.undo()


@pytest.fixture(autouse=True)
def survives(server) -> Iterator[None]:
    """After each test: alive, the right verdict, bounded memory, no file, no open request."""
    before = memory_mb(server.pid)
    yield
    end = time.monotonic() + 30
    while time.monotonic() < end and b'"workers":2' not in get(server.port, "/v1/ready"):
        time.sleep(0.1)
    status, content = post(server, server.picture)
    assert (status, {**content, "score": None, "faces": []}) == (200, {**server.verdict, "score": None, "faces": []})
    assert content["score"] == pytest.approx(server.verdict["score"], abs=1e-6)
    assert memory_mb(server.pid) < before + MOST_GROWTH_MB
    assert list((server.folder / "tmp").rglob("*")) == []


def post(
    server: Server, body: bytes, kind: str = "image/png", path: str = "/v1/verdict", **headers: str
) -> tuple[int, dict]:
    """Status and content of an answer, which is JSON whatever it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", path, body, {"Content-Type": kind, "X-API-Key": KEY, **headers})
        answer = connection.getresponse()
        content = json.loads(answer.read())
    finally:
        connection.close()
    assert answer.status == 200 or (content["error"]["code"] and content["error"]["message"])
    assert str(server.folder.parent) not in str(content)
    return answer.status, content


def test_every_hostile_file_is_judged_or_refused(server, tmp_path):
    cases = [case for case in write_corpus(tmp_path) if case.outcome in (READ, REFUSED)]
    for case in cases:
        path = tmp_path / "bonafide" / case.name
        if not path.is_file():
            continue
        body = path.read_bytes()
        status, content = post(server, body)
        allowed = (200,) if case.outcome == READ and "video" not in case.name else (200, 400, 413, 422)
        assert status in allowed, (case.name, content)
    assert len(cases) >= 80


def test_cut_and_flipped_files(server, tmp_path):
    draw = random.Random(0)
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    for form_, options in (("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("TIFF", {}), ("GIF", {})):
        Image.fromarray(pixels).save(tmp_path / "a", form_, **options)
        whole = (tmp_path / "a").read_bytes()
        for _ in range(30):
            broken = bytearray(whole[: draw.randrange(1, len(whole))] if draw.random() < 0.5 else whole)
            for _ in range(draw.randrange(1, 20)):
                broken[draw.randrange(min(len(broken), 600))] = draw.randrange(256)
            assert post(server, bytes(broken))[0] in (200, 422, 500, 504)


def test_forms_and_parameters(server):
    kind = "multipart/form-data; boundary=xyz"
    head = b'--xyz\r\nContent-Disposition: form-data; name="f"; filename="'
    bodies = [
        (form(*[b"x"] * 10_000), kind), (form(b""), kind), (b"--xyz" * 100_000, kind), (b"\r\n" * 500_000, kind),
        (b"--xyz\r\n" + b"a: b\r\n" * 10_000 + b"\r\nx\r\n--xyz--\r\n", kind),
        (head + b"../" * 5000 + b'"\r\n\r\nx\r\n--xyz--\r\n', kind),
        (head + b"a" * 10**6 + b'"\r\n\r\nx\r\n--xyz--\r\n', kind),
        (form(server.picture), "multipart/form-data"), (form(server.picture), kind + "x" * 9000),
        (form(server.picture)[:-9], kind), (b"\r\n--xy" * 200_000, kind), (b"\0" * 10**6, kind),
        (b"{}", "application/json"), (b"a=b", "application/x-www-form-urlencoded"), (b"x", "\xff"), (b"", "image/png"),
        (b"x" * 21 * 2**20, "image/png"), (b"\0" * 10**6, "video/mp4"), (b"\x1a\x45\xdf\xa3" * 10**5, "video/webm"),
    ]  # fmt: skip
    for body, given in bodies:
        for path in ("/v1/verdict", "/v1/verdicts"):
            try:
                status, content = post(server, body, given, path)
            except (ConnectionError, http.client.BadStatusLine):  # refused before it was read whole
                continue
            assert 400 <= status < 500 or "results" in content, (given, status, content)
    queries = [
        "frames=nan", "frames=1e9", "frames=-1", "frames=" + "9" * 5000, "all_faces=2", "aligned=%00", "x=1",
        "all_faces=" + "a" * 9000, "%ff=%fe", "frames=10&frames=x", "aligned=NaN", "frames=Infinity",
    ]  # fmt: skip
    for query in queries:
        assert post(server, server.picture, path=f"/v1/verdict?{query}")[0] == 400, query
    for key in ("", "x", "\xff" * 100, KEY[:-1], "Bearer " + KEY):
        assert post(server, server.picture, **{"X-API-Key": key})[0] == 401


TARGETS = [
    b"/../../etc/passwd", b"//etc/passwd", b"/%2e%2e/%2e%2e/etc/passwd", b"/%00", b"/\xff\xfe", b"http://evil.org/",
    b"*", b"/" + b"a" * 50_000, b"/v1/verdict?" + b"&" * 10_000, b"/v1/health#x", b"/v1/verdict/..;/model",
]  # fmt: skip
LENGTHS = [
    b"Content-Length: -5", b"Content-Length: 5, 6", b"Content-Length: 99999999999999999999", b"Content-Length: x",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked",
]  # fmt: skip
RAW = [
    b"GET /\r\n\r\n", b"GET / HTTP/0.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0" * 5000, b"rubbish\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"get /v1/health HTTP/1.1\nHost: localhost\n\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 10_000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nx: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500,
    b"BREW /v1/verdict HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"CONNECT evil.org:443 HTTP/1.1\r\nHost: evil.org\r\n\r\n",
    b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    *(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % target for target in TARGETS),
    *(b"POST /v1/verdict HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n0FFFFFFFFFFFFFFF\r\nx" % each for each in LENGTHS),
]  # fmt: skip


def test_rubbish_on_the_wire(server):
    for said in RAW * 2:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            try:
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
                heard = connection.recv(65536)
            except ConnectionError:
                continue
            assert heard == b"" or re.match(rb"HTTP/1\.1 (200|4\d\d|503) ", heard), (said[:60], heard[:60])
            assert b"root:" not in heard


def test_bodies_that_stop_and_headers_that_drip(server):
    head = f"POST /v1/verdict HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nContent-Type: image/png\r\n"
    slow = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(60)]
    for number, connection in enumerate(slow):
        length = f"{head}Content-Length: 1000\r\n\r\nabc" if number % 2 else head[:20]
        connection.sendall(length.encode())
    assert post(server, server.picture)[0] == 200
    answers = [connection.recv(4096) for connection in slow[1::2]]
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
    dripping = [connection for connection in slow[::2] if connection.recv(4096) == b""]
    assert len(dripping) == 30
    for connection in slow:
        connection.close()
    for cut in (b"abc", b"", server.picture[:40]):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + cut)


def test_its_own_description_holds(server):
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("schemathesis is not installed: pip install schemathesis")
    before = requests(server)
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{server.port}/openapi.json",
        "--header", f"X-API-Key: {KEY}", "--max-examples", "300", "--workers", "2", "--seed", "1",
        "--suppress-health-check", "all", "--continue-on-failure",
        "--exclude-checks", "positive_data_acceptance",  # no schema says which bytes are a picture
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=server.folder)
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert requests(server) - before >= 800


def requests(server: Server) -> int:
    """How many requests the server has answered."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/metrics", headers={"X-API-Key": KEY})
    text = connection.getresponse().read().decode()
    connection.close()
    return int(sum(float(count) for count in re.findall(r"^agfas_requests_total\{.*\} (\S+)$", text, re.MULTILINE)))

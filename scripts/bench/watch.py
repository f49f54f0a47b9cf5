"""A stream on loopback under watch: pictures judged a second, and how old a verdict is.

The stream is motion JPEG of 640 x 480 pixels at 25 pictures a second, sent by a process of its own: a drawn face of the
built-in benchmark that YuNet is sure of, moving by a pixel a picture.
"""

from __future__ import annotations

import io
import math
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.data.detection import FaceDetector, load_detector
from pipelines.errors import AgfasError
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.sightings import Sighting
from pipelines.verdict.watching import Pace
from scripts.bench.cold_start import MODELS, save_untrained
from scripts.bench.prepare import draw_pictures

_RATE = 25
_SURE = 0.9
_FACES = 24  # drawn until one is sure
# The first answers come while caches fill.
_WARM = 5
_UNBOUNDED = 1000.0


def watch_benchmark(weights: Path | None = None, seconds: float = 20.0) -> list[dict[str, Any]]:
    """Untrained models at their smallest, behind YuNet, at the default rate and as fast as they can.

    Args:
        weights: YuNet's ONNX file.
        seconds: of each watch.

    Returns:
        A row for each model and rate: pictures judged a second, the share of those sent that were not, seconds from a
        picture's arrival to its verdict (median and 95th percentile), processor seconds a second, and the tracks that
        the one face was given.
    """
    if weights is None:
        raise AgfasError("`watch` needs YuNet's ONNX file: name it with --weights.")
    detector = load_detector("yunet", weights)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        parts = _moving(_sure_picture(root, detector))
        rows = []
        for number, (title, (network, restores)) in enumerate(MODELS.items()):
            save_untrained(root / f"model{number}", network, restores)
            model = FaceAntiSpoofing.from_pretrained(root / f"model{number}", face_detector=detector)
            for rate in (Pace.rate, _UNBOUNDED):
                with _sent(parts) as address:
                    rows.append({"benchmark": "watch", "model": title, **_measured(model, address, rate, seconds)})
        return rows


def _measured(model: FaceAntiSpoofing, address: str, rate: float, seconds: float) -> dict[str, Any]:
    pace = Pace(every=0.001, rate=rate, seconds=seconds)
    seen: list[Sighting] = []
    started: tuple[float, float] | None = None
    for sighting in model.watch(address, pace):
        if sighting.latency is None:
            continue
        seen.append(sighting)
        if len(seen) == _WARM:
            started = time.monotonic(), time.process_time()
    if started is None:
        raise AgfasError(f"Only {len(seen)} pictures were judged in {seconds:g} s: give the watch more time.")
    passed, worked = time.monotonic() - started[0], time.process_time() - started[1]
    kept = seen[_WARM:]
    latencies = sorted(sighting.latency or 0.0 for sighting in kept)
    dropped = seen[-1].dropped - seen[_WARM - 1].dropped
    return {
        "most_a_second": "no limit" if rate == _UNBOUNDED else rate,
        "judged_a_second": len(kept) / passed,
        "dropped_share": dropped / (dropped + len(kept)),
        "latency_median": latencies[len(latencies) // 2],
        "latency_p95": latencies[math.ceil(0.95 * len(latencies)) - 1],
        "processor_seconds_a_second": worked / passed,
        "tracks": len({face.id for sighting in kept for face in sighting.tracks}),
    }


def _sure_picture(root: Path, detector: FaceDetector) -> np.ndarray:
    """A drawn picture whose face takes no second search, as most faces before a camera."""
    draw_pictures(root / "drawn", _FACES)
    for path in sorted((root / "drawn").rglob("*.jpg")):
        picture = np.asarray(Image.open(path).convert("RGB"))
        if any(face.score > _SURE for face in detector(picture)):
            return picture
    raise AgfasError(f"YuNet is sure of none of {_FACES} drawn faces.")


def _moving(picture: np.ndarray) -> list[bytes]:
    """Parts of a motion JPEG stream: to the right and back."""
    parts = []
    for step in (*range(20), *range(20, 0, -1)):
        target = io.BytesIO()
        Image.fromarray(np.roll(picture, step, axis=1)).save(target, "JPEG", quality=90)
        content = target.getvalue()
        parts.append(
            f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content
        )
    return parts


@contextmanager
def _sent(parts: list[bytes]) -> Iterator[str]:
    """A process that sends the parts, again and again, to the first who connects."""
    listening = socket.create_server(("127.0.0.1", 0))
    process = multiprocessing.get_context("spawn").Process(target=_send, args=(listening, parts), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/live"
    finally:
        process.terminate()
        process.join()
        listening.close()


def _send(listening: socket.socket, parts: list[bytes]) -> None:
    connection, _ = listening.accept()
    connection.recv(4096)
    head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
    connection.sendall(head)
    due = time.monotonic()
    for part in cycle(parts):
        connection.sendall(part + b"\r\n")
        due += 1 / _RATE
        time.sleep(max(due - time.monotonic(), 0))

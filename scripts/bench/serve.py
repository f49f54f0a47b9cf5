"""What `agfas serve` takes: 20 clients on loopback, with dynamic batches against single pictures, in turns."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.errors import AgfasError
from scripts.bench import CLONE
from scripts.bench.cold_start import save_untrained
from scripts.bench.turns import in_turns, plain_environment

CLIENTS = 20
_SIDE = 64
_BATCHES = {"dynamic, up to 8": "8", "one by one": "1"}


def serve_benchmark(requests: int = 1000, repeats: int = 2, pictures: int = 40) -> list[dict[str, Any]]:
    """Load a server with drawn faces; each run has a server of its own.

    Args:
        requests: of all clients together.
        repeats: of every server.
        pictures: that are drawn.

    Returns:
        A row for each model and way to batch: medians over the repeats of requests a second and of the percentiles of
        the time to an answer in milliseconds; requests without an answer, the mean batch, and the resident memory of
        all its processes in MB afterwards.
    """
    with tempfile.TemporaryDirectory() as name:
        root, drawn = Path(name), _drawn(pictures)
        save_untrained(root / "saved", "livenessnet", restores=False)
        export_untrained(root / "saved", root / "exported")
        rivals = {(model, way): flag for model in ("saved", "exported") for way, flag in _BATCHES.items()}
        runs: dict[tuple[str, str], list[dict[str, float]]] = {rival: [] for rival in rivals}
        for rival in in_turns(rivals, repeats):
            with serving(root / rival[0], "--max-batch", rivals[rival]) as (port, process):
                runs[rival].append(load(port, process.pid, drawn, requests))
    return [
        {"benchmark": "serve", "model": model, "batches": way, "clients": CLIENTS, "requests": requests, **_row(found)}
        for (model, way), found in runs.items()
    ]


def _row(found: list[dict[str, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {key: statistics.median(run[key] for run in found) for key in found[0]}
    return {**row, "lost": int(sum(run["lost"] for run in found)), "repeats": len(found)}


def load(port: int, pid: int, pictures: list[bytes], requests: int) -> dict[str, float]:
    """Send requests from `CLIENTS` threads, each on one connection.

    Raises:
        AgfasError: a picture had two verdicts.
    """
    times: list[float] = []
    verdicts: dict[int, Counter[str]] = {place: Counter() for place in range(len(pictures))}
    lock, waiting = threading.Lock(), iter(range(requests))

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            with lock:
                number = next(waiting, None)
            if number is None:
                return connection.close()
            place, begin = number % len(pictures), time.perf_counter()
            try:
                connection.request("POST", "/v1/verdict?aligned=true", pictures[place], {"Content-Type": "image/png"})
                answer = connection.getresponse()
                content = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()
                continue
            with lock:
                if answer.status == 200:
                    times.append(1000 * (time.perf_counter() - begin))
                    verdicts[place][content["verdict"]] += 1

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    if any(len(words) > 1 for words in verdicts.values()):
        raise AgfasError("A picture had two verdicts.")
    p50, p95, p99 = np.percentile(times, (50, 95, 99))
    return {
        "requests_per_second": len(times) / seconds, "p50_ms": float(p50), "p95_ms": float(p95), "p99_ms": float(p99),
        "lost": requests - len(times), "mean_batch": mean_batch(port), "memory_mb": memory_mb(pid),
    }  # fmt: skip


def mean_batch(port: int) -> float:
    """Pictures that a worker was given at once."""
    found = dict(line.rsplit(" ", 1) for line in get(port, "/metrics").decode().splitlines() if line[:1] != "#")
    return float(found["agfas_batch_files_sum"]) / float(found["agfas_batch_files_count"])


def memory_mb(pid: int) -> float:
    """Resident megabytes of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    pids = [str(pid), *(children.read_text().split() if children.is_file() else [])]
    pages = [int(Path(f"/proc/{number}/statm").read_text().split()[1]) for number in pids]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def get(port: int, path: str) -> bytes:
    """The content of a path.

    Raises:
        OSError: no answer, or a refusal.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(answer.status)
        return answer.read()
    finally:
        connection.close()


@contextmanager
def serving(model: Path, *options: str, seconds: float = 120.0) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A server on loopback that is ready; it is stopped as by Ctrl-C.

    Yields:
        Its port and its process.

    Raises:
        AgfasError: it does not become ready, or does not end well.
    """
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    command = [sys.executable, "-m", "agfas", "serve", str(model), "--port", str(port), *options]
    environment = {**plain_environment(), "PYTHONPATH": str(CLONE)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        _wait_until_ready(port, process, time.monotonic() + seconds)
        yield port, process
    finally:
        process.terminate()
        code = process.wait(60)
    if code:
        raise AgfasError(f"The server ended with code {code}.")


def _wait_until_ready(port: int, process: subprocess.Popen[bytes], end: float) -> None:
    workers = len(os.sched_getaffinity(0))
    while process.poll() is None and time.monotonic() < end:
        try:
            if json.loads(get(port, "/v1/ready"))["workers"] >= workers:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AgfasError("The server did not become ready.")


def export_untrained(saved: Path, folder: Path) -> None:
    """The exported folder of a saved model that takes crops."""
    from pipelines.export.folder import export_folder
    from pipelines.export.parity import Faces
    from pipelines.verdict import FaceAntiSpoofing

    crops = np.random.default_rng(0).integers(0, 256, (4, _SIDE, _SIDE, 3), dtype=np.uint8)
    faces = Faces(crops, crops, "noise")
    export_folder(FaceAntiSpoofing.from_pretrained(saved), folder, lambda size: faces, aligned_only=True)


def _drawn(number: int) -> list[bytes]:
    """Faces of the built-in benchmark as PNG files."""
    from pipelines.synthetic.benchmark import plan_videos, render_faces
    from pipelines.synthetic.settings import SyntheticSettings

    settings = SyntheticSettings(subjects=5, live_videos=2, attack_videos=2, frames=1, corpus_subjects=3)
    faces, _ = render_faces(plan_videos(settings)[:number], settings.seed, _SIDE)
    files = []
    for face in faces[:number]:
        stream = io.BytesIO()
        Image.fromarray(np.asarray(face)).save(stream, "PNG")
        files.append(stream.getvalue())
    return files

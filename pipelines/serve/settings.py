"""What a server takes, and how it judges."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields

from pipelines.devices import cpu_is_forced, gpu_count
from pipelines.errors import AgfasError

MEGABYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """What one client, and all together, may ask for; all must be positive.

    Attributes:
        file_mb: megabytes of a file.
        request_mb: megabytes of a request with several files.
        held_mb: megabytes of all requests that are read or wait for their answer.
        files: of a request.
        pixels: of a picture or a video's frame, width times height, checked before it is decoded.
        faces: judged in a picture with `all_faces`, the largest first.
        video_seconds: length of a video.
        frames: of a video that a client may have judged.
        arrive_seconds: from a request's first byte to its last.
        judge_seconds: for a batch in a worker; then the worker is replaced.
        answer_seconds: from a request's last byte to its answer.
        requests: open at the same time.
        waiting: files in the queue.
        connections: open at the same time.
    """

    file_mb: float = 20
    request_mb: float = 64
    held_mb: float = 512
    files: int = 16
    pixels: int = 25_000_000
    faces: int = 12
    video_seconds: float = 120
    frames: int = 50
    arrive_seconds: float = 30
    judge_seconds: float = 30
    answer_seconds: float = 60
    requests: int = 200
    waiting: int = 200
    connections: int = 400

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise AgfasError(f"{option(name)} must be above 0, not {value}.")

    def bytes_of(self, name: str) -> int:
        """A limit in megabytes as bytes."""
        return int(getattr(self, name) * MEGABYTE)


def option(name: str) -> str:
    """The command line's spelling of a limit."""
    return f"--max-{name.replace('_', '-')}"


@dataclass(frozen=True)
class Serving:
    """How files become verdicts.

    Attributes:
        model: folder of a saved or exported model, or for the stage its name on the hub.
        workers: processes with the model; 0: one per GPU, or without a GPU one per core.
        max_batch: pictures that a worker judges at once.
        max_wait_ms: how long a picture waits for others to be judged with it.
    """

    model: str
    workers: int = 0
    max_batch: int = 8
    max_wait_ms: float = 5.0

    def __post_init__(self) -> None:
        if self.workers < 0 or self.max_batch < 1 or not 0 <= self.max_wait_ms <= 10_000:
            raise AgfasError(
                f"--workers must be at least 0, --max-batch at least 1 and --max-wait-ms between 0 and 10000, not"
                f" {self.workers}, {self.max_batch} and {self.max_wait_ms}."
            )

    def environments(self) -> list[dict[str, str]]:
        """What each worker's environment has besides: its GPU, or one thread."""
        gpus = 0 if cpu_is_forced() else gpu_count()
        if not gpus:
            return [{"OMP_NUM_THREADS": "1"}] * (self.workers or cores())
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = named.split(",")[:gpus] if named else list(map(str, range(gpus)))
        return [{"CUDA_VISIBLE_DEVICES": names[number % gpus]} for number in range(self.workers or gpus)]


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_words(limits: Limits) -> dict[str, float]:
    """The limits by name, as `GET /v1/model` states them."""
    return {field.name: getattr(limits, field.name) for field in fields(limits)}

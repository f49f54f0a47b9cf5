"""One process with the model, and its handle in the server. They exchange JSON and bytes; nothing is unpickled."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from pipelines.errors import AgfasError, in_short
from pipelines.processes import environment_with
from pipelines.serve.judge import Judge, Options, Upload, as_json
from pipelines.serve.settings import Limits, Serving

_SECONDS_TO_END = 3.0


class Unopened(AgfasError):
    """The model cannot be opened, here or in any other worker."""


class Worker(Protocol):
    """What the dispatcher needs of a worker. The first three wait; `kill` ends their waiting with an error."""

    def opened(self) -> dict[str, Any]:
        """The model's facts, once it is loaded; raises `Unopened`, or EOFError if the process dies."""

    def exchange(self, uploads: Sequence[Upload]) -> list[dict[str, Any]]:
        """Answers of `Judge`; raises EOFError or OSError if the process dies."""

    def wait(self) -> None:
        """Return when the process is gone."""

    def kill(self) -> None:
        """End the process at once."""

    def close(self) -> None:
        """End the process when it is idle, or at once if it does not."""


class ProcessWorker:
    """A worker in a process of its own.

    Args:
        serving: names the model.
        limits: of files.
        environment: what the process's environment has besides this one's.
    """

    def __init__(self, serving: Serving, limits: Limits, environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=work, args=(there, asdict(serving), asdict(limits)), daemon=True)
        with environment_with(environment), _signals_held_back():
            self._process.start()
        there.close()
        atexit.register(self.kill)  # Python would wait at its end for a process that hears no signal

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid

    def opened(self) -> dict[str, Any]:
        """See `Worker`."""
        found = json.loads(self._here.recv_bytes())
        if "failed" in found:
            raise Unopened(found["failed"])
        return found["facts"]

    def exchange(self, uploads: Sequence[Upload]) -> list[dict[str, Any]]:
        """See `Worker`."""
        self._here.send_bytes(as_json([{"name": upload.name, "options": upload.options} for upload in uploads]))
        for upload in uploads:
            self._here.send_bytes(upload.content)
        return json.loads(self._here.recv_bytes())

    def wait(self) -> None:
        """See `Worker`."""
        wait([self._process.sentinel])

    def kill(self) -> None:
        """See `Worker`."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """See `Worker`."""
        atexit.unregister(self.kill)
        with suppress(OSError):
            self._here.close()
        self._process.join(_SECONDS_TO_END)
        self.kill()


def work(connection: Connection, serving: dict[str, Any], limits: dict[str, Any]) -> None:
    """The process: open the model, say what it is, and judge batches until the server is gone."""
    from pipelines.ending import ignore_signals
    from pipelines.memory import keep_freed_memory, memory_message
    from pipelines.progress import quiet_libraries

    ignore_signals()  # of Ctrl-C in a terminal all processes hear; the server ends this one
    keep_freed_memory()
    quiet_libraries()
    with suppress(EOFError, OSError):
        try:
            judge = open_judge(Serving(**serving), Limits(**limits))
            said: dict[str, Any] = {"facts": judge.facts()}
        except AgfasError as error:
            said = {"failed": str(error)}
        except Exception as error:
            said = {"failed": memory_message(error) or f"The model cannot be opened: {in_short(error)}"}
        connection.send_bytes(as_json(said))
        while "facts" in said:
            heads = json.loads(connection.recv_bytes())
            uploads = [Upload(head["name"], connection.recv_bytes(), Options(*head["options"])) for head in heads]
            connection.send_bytes(as_json(judge(uploads)))


def open_judge(serving: Serving, limits: Limits) -> Judge:
    """The model, ready to judge.

    Raises:
        AgfasError: it cannot be opened.
    """
    import cv2

    from pipelines.memory import without_looking_for_garbage

    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal():
        cv2.setNumThreads(int(threads))
    with without_looking_for_garbage():
        from pipelines.verdict import FaceAntiSpoofing

        detector = FaceAntiSpoofing.from_pretrained(serving.model, batch_size=serving.max_batch)
        detector.rehearse()
    return Judge(detector, limits)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """A process that starts here inherits that Ctrl-C does not reach it, not even in its first moments."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

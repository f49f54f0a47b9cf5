"""Starts the processes under test: forked from a server that has imported what they need."""

from __future__ import annotations

import multiprocessing
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from scripts.torture.worker import Orders, process

_SECONDS = 120.0
KILLED = -signal.SIGKILL


def prepare() -> None:
    """Let the server import NumPy and the job before the first process is started."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["scripts.torture.worker"])


@dataclass(frozen=True)
class Tortured:
    """A started process.

    Attributes:
        process: its handle.
        reply: the pipe through which it answers at its end, unless it is killed.
    """

    process: Any
    reply: Connection

    @classmethod
    def start(cls, orders: Orders) -> Tortured:
        """Start one."""
        context = multiprocessing.get_context("forkserver")
        receiver, sender = context.Pipe(duplex=False)
        started = context.Process(target=process, args=(orders, sender), daemon=True)
        started.start()
        sender.close()
        return cls(started, receiver)

    def end(self) -> tuple[int, Any]:
        """Wait for it: its exit code and its answer, None if it was killed.

        Raises:
            TimeoutError: it does not end; it is killed.
        """
        answer = None
        try:
            # Before joining: the process blocks while a long answer does not fit into the pipe.
            if self.reply.poll(_SECONDS):
                answer = self.reply.recv()
        except EOFError:
            pass
        self.process.join(_SECONDS)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"process {self.process.pid} did not end within {_SECONDS:.0f} s")
        self.reply.close()
        return self.process.exitcode, answer

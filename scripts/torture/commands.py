"""Starts the program's commands in a warm process, with faults, and says how they ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.torture.faults import NONE, Fault, build, calls_in

REPOSITORY = Path(__file__).parents[2]
KILLED = -signal.SIGKILL
_SECONDS = 120.0


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    Attributes:
        code: its exit code; negative: a signal.
        output, errors: what it printed.
        calls: name and path of each call below its folder, if they were traced.
    """

    code: int
    output: str
    errors: str
    calls: tuple[tuple[str, str], ...] = ()

    @property
    def sentence(self) -> str:
        """The last line of its errors that is not a progress bar."""
        lines = [line.rpartition("\r")[2] for line in self.errors.splitlines()]
        return next((line for line in reversed(lines) if line.startswith("agfas: ")), "")

    @property
    def has_traceback(self) -> bool:
        """Whether it ended as a program should not."""
        return "Traceback" in self.errors or (self.code < 0 and self.code != KILLED)


class Warm:
    """One warm process, which runs one command at a time.

    Args:
        scratch: folder for the library of faults and for what commands print.
    """

    def __init__(self, scratch: Path) -> None:
        self._place = Path(tempfile.mkdtemp(prefix="warm-", dir=scratch))
        environment = {
            **os.environ,
            "LD_PRELOAD": str(build(self._place)),
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "ACCELERATE_USE_CPU": "true",
            "HF_HUB_OFFLINE": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.torture.warm"],
            env=environment,
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self._place / "server.err").open("w"),
            text=True,
        )

    def wait_until_ready(self) -> None:
        """Imports take seconds; several processes can do them at the same time."""
        if self._answer() != "ready":
            raise RuntimeError((self._place / "server.err").read_text(encoding="utf-8"))

    def run(
        self,
        folder: Path,
        arguments: Sequence[str],
        fault: Fault = NONE,
        *,
        trace: bool = False,
        kill_after: float | None = None,
    ) -> Ending:
        """Run `agfas ARGUMENTS` in `folder`, below which calls are counted.

        Args:
            folder: the working directory.
            arguments: of the command.
            fault: what happens to one of its calls.
            trace: list the calls.
            kill_after: seconds until SIGKILL; None: it is not killed from outside.
        """
        traced = self._place / "trace"
        traced.unlink(missing_ok=True)
        orders = fault.orders(folder.resolve(), traced if trace else None)
        output = str(self._place / "command")
        request = {"arguments": list(arguments), "folder": str(folder), "output": output, "orders": orders}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        child = int(self._answer())
        timer = threading.Timer(_SECONDS if kill_after is None else kill_after, _kill_group, [child])
        timer.start()
        code = int(self._answer())
        timer.cancel()
        timer.join()
        _kill_group(child)  # what it started
        output, errors = (Path(f"{output}.{end}").read_text(encoding="utf-8") for end in ("out", "err"))
        return Ending(code, output, errors, tuple(calls_in(traced)))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)

"""Several processes of one job on a CPU, as a launcher starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def environment(**more: object) -> dict[str, str]:
    """Without a GPU, on one thread; the modules of this repository are found from any folder."""
    return {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]),
        **{name: str(value) for name, value in more.items()},
    }


def torchrun(processes: int, *command: object, **more: object) -> subprocess.CompletedProcess[str]:
    """Run a command in some processes with torchrun; `more` are environment variables."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return subprocess.run(
        [*launcher, *map(str, command)],
        env=environment(**more),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def launch(processes: int, *command: object, **more: object) -> None:
    """`torchrun`, which must succeed."""
    result = torchrun(processes, *command, **more)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-5000:]


def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(
    processes: int, *command: object, folders: Sequence[Path] | None = None, **more: object
) -> list[subprocess.Popen[str]]:
    """Start `python COMMAND` as the ranks of one job, without the seconds that torchrun itself takes to start.

    `folders` are where they run; `more` are environment variables.
    """
    shared: dict[str, object] = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    shared |= {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, **more}
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=environment(RANK=rank, LOCAL_RANK=rank, **shared),
            cwd=None if folders is None else folders[rank],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]


def ended(ranks: list[subprocess.Popen[str]], timeout: float = 120) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of every process, once all have ended."""
    try:
        heard = [rank.communicate(timeout=timeout) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return [(rank.returncode, *texts) for rank, texts in zip(ranks, heard, strict=True)]

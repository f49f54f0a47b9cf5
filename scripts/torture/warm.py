"""Runs commands of the program in forks of a process that has imported it, so that each takes a fraction of a second.

`python -m scripts.torture.warm` reads one JSON object a line, {"arguments", "folder", "output", "orders"}, and answers
with two lines: the number of the process, and its exit code (negative: the signal). Its children lead their own groups.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import dfg
import oanet
import pipelines
from pipelines.errors import AgfasError
from scripts.torture import faults

# What modules import only when they are used.
_LATER = (
    "datasets",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "sklearn.metrics",
    "sklearn.linear_model",
    "sklearn.manifold",
)
_DIFFUSERS = ("AutoencoderKL", "AutoencoderTiny", "DiffusionPipeline", "UNet2DConditionModel")


def serve() -> None:
    """Run what standard input asks for."""
    _import_everything()
    _hasten()
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            _be(request)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


class _Forking:
    """Starts the workers of `prepare` by forking, without the seconds of their imports."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("fork")
        self._pipes: list[Any] = []

    def Pipe(self) -> tuple[Any, Any]:
        pipe = self._context.Pipe()
        self._pipes.append(pipe[0])
        return pipe

    def Process(self, target: Callable[..., None], args: tuple[Any, ...], daemon: bool) -> Any:
        def work() -> None:
            for pipe in self._pipes:
                pipe.close()
            target(*args)

        return self._context.Process(target=work, daemon=daemon)


def _import_everything() -> None:
    """All modules of the program whose packages are there, and what they import when they are used."""
    import diffusers
    from PIL import Image

    Image.init()
    for name in dir(diffusers):
        if name.endswith(("Scheduler", "Guidance")) or name in _DIFFUSERS:
            with contextlib.suppress(ImportError):
                getattr(diffusers, name)
    for name in _LATER:
        importlib.import_module(name)
    for package in (dfg, oanet, pipelines):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            with contextlib.suppress(ImportError, AgfasError):
                importlib.import_module(found.name)


def _hasten() -> None:
    """Do once what every command does at its start, and let `prepare` fork its workers, whose calls then count too."""
    import typer.main

    from pipelines import cli
    from pipelines.data.prepare import pool

    cli.app = typer.main.get_command(cli.app)  # type: ignore[assignment]
    pool.get_context = lambda _: _Forking()  # type: ignore[assignment,return-value]


def _be(request: dict[str, str]) -> NoReturn:
    """Become the command."""
    from pipelines.cli import main

    os.setsid()
    for descriptor, name in ((0, "/dev/null"), (1, f"{request['output']}.out"), (2, f"{request['output']}.err")):
        opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(request["folder"])
    sys.argv = ["agfas", *request["arguments"]]
    faults.arm(request["orders"])
    code = 1
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    serve()

"""A forked child runs chosen tests in a copy of the clone, with the libraries that its parent has imported.

Importing torch, timm, diffusers and pytest takes 5 s and is done once (`import_libraries`); the product is imported
anew in each child, from the copy, which also stands first on the path of the processes that the tests start.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.errors import AgfasError

_LIBRARIES = (
    *("numpy", "scipy.stats", "torch", "torchvision", "timm", "diffusers", "transformers", "datasets", "accelerate"),
    *("cv2", "PIL.Image", "av", "onnx", "onnxruntime", "pyarrow.parquet", "sklearn.metrics", "matplotlib.pyplot"),
    *("jinja2", "pydantic", "yaml", "typer", "tqdm", "safetensors.torch", "huggingface_hub", "facexlib", "gradio"),
    *("torch.distributed.run", "torch.utils.flop_counter", "diffusers.pipelines.pipeline_utils"),
    *("transformers.models.clip.modeling_clip", "diffusers.models.unets.unet_2d_condition"),
)
_OURS = ("dfg", "oanet", "pipelines", "agfas", "scripts")
# A test hangs that takes this many seconds and this many times as long as it took without a fault.
_HANGS_AFTER, _HANGS_TIMES, _PATIENCE = 40.0, 10.0, 400.0
_PR_SET_PDEATHSIG = 1
_MOST_MEMORY = 6 * 2**30
ARGUMENTS = ["-q", "--tb=line", "-m", "not slow", "-p", "no:cacheprovider", "--randomly-seed=0"]


def import_libraries() -> None:
    """What the product and its tests import from others, as far as it is installed."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


@dataclass
class Outcome:
    """What a child's tests said."""

    failed: str = ""  # the test that failed, "collection" if none could be collected, "" if none failed
    how: str = ""  # "failed", "hung", "memory", "died"
    passed: int = 0
    seconds: float = 0.0  # of processor time, children's included
    times: dict[str, float] = field(default_factory=dict)  # by test: processor time


class _Order:
    """A pytest plugin: only the chosen tests, in their order; stops at a failure or when the time is spent."""

    def __init__(self, chosen: Sequence[str] | None, seconds: float, say: Callable[[dict[str, Any]], None]) -> None:
        self._places = None if chosen is None else {name: place for place, name in enumerate(chosen)}
        self._seconds, self._say = seconds, say
        self._before = 0.0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item], config: pytest.Config) -> None:
        if self._places is not None:
            places = self._places
            items[:] = sorted((item for item in items if item.nodeid in places), key=lambda item: places[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._before = spent()
        self._say({"test": nodeid})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._say({"failed": report.nodeid})

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._say({"done": nodeid, "seconds": spent() - self._before})

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        if spent() > self._seconds:
            item.session.shouldstop = "the time is spent"

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        self._say({"exit": int(exitstatus)})


def spent() -> float:
    """Processor time of this process and of its ended children, in seconds."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def run_tests(
    copy: Path,
    files: Sequence[str],
    chosen: Sequence[str] | None,
    seconds: float = float("inf"),
    known: dict[str, float] | None = None,
    stop: bool = True,
    plugins: Callable[[], list[object]] = list,
    log: Path | None = None,
) -> Outcome:
    """Run tests of a copy in a forked child, and wait for it.

    Args:
        copy: the copy of the clone.
        files: of the tests, relative to the copy.
        chosen: the tests by id, in order; None for all of the files.
        seconds: processor time after which no further test is started.
        known: seconds that each test took without a fault, by the clock: one that takes far longer has hung.
        stop: at the first failure.
        plugins: makes further pytest plugins, in the child.
        log: where the child's output goes.
    """
    reader, writer = os.pipe()
    scratch = Path(tempfile.mkdtemp(prefix="agfas-mutate-"))
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            _live(copy, files, chosen, seconds, stop, plugins, log, writer, scratch)
        finally:
            os._exit(0)
    os.close(writer)
    try:
        return _heard(child, reader, known)
    finally:
        os.close(reader)
        shutil.rmtree(scratch, ignore_errors=True)


def _live(
    copy: Path,
    files: Sequence[str],
    chosen: Sequence[str] | None,
    seconds: float,
    stop: bool,
    plugins: Callable[[], list[object]],
    log: Path | None,
    writer: int,
    scratch: Path,
) -> None:
    """The child's whole life."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # nothing faulty outlives the run
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    output = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    with contextlib.suppress(OSError):  # the first to go where memory is short
        Path("/proc/self/oom_score_adj").write_text("900")

    def say(what: dict[str, Any]) -> None:
        os.write(writer, (json.dumps(what) + "\n").encode())

    os.chdir(copy)
    os.environ["TMPDIR"] = str(scratch)
    tempfile.tempdir = None
    # The tests of a copy see the copy alone, and so do the processes that they start.
    sys.path[:] = [str(copy), *(path for path in sys.path if path and not (Path(path) / "oanet").is_dir())]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(copy), *filter(None, [os.environ.get("AGFAS_MUTATION_PATH")])])
    for name in [name for name in sys.modules if name.split(".")[0] in _OURS]:
        del sys.modules[name]
    extra = plugins()
    order = _Order(chosen, seconds + spent(), say)
    arguments = [*ARGUMENTS, f"--basetemp={scratch / 'pytest'}", f"--rootdir={copy}", *(["-x"] if stop else [])]
    pytest.main([*arguments, *(str(copy / file) for file in files)], plugins=[order, *extra])
    for plugin in extra:
        getattr(plugin, "finish", lambda: None)()


def _heard(child: int, reader: int, known: dict[str, float] | None) -> Outcome:
    """Listen until the child ends, or end it."""
    outcome = Outcome()
    rest, exit_code, test, since = b"", -1, "", time.monotonic()
    while True:
        ready = select.select([reader], [], [], 1.0)[0]
        piece = os.read(reader, 65536) if ready else b""
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "test" in said:
                test, since = said["test"], time.monotonic()
            elif "failed" in said:
                outcome.failed, outcome.how = outcome.failed or said["failed"], "failed"
            elif "done" in said:
                outcome.times[said["done"]] = said["seconds"]
                outcome.passed += 1
                since = time.monotonic()
            elif "exit" in said:
                exit_code = said["exit"]
        if ready and not piece:
            break
        limit = max(_HANGS_AFTER, _HANGS_TIMES * known.get(test, 0.0)) if known is not None and test else _PATIENCE
        family = _family(child)
        if any(map(_is_stopped, family)):
            since = time.monotonic()  # whoever stopped it wants it to wait, which is no hanging
        if time.monotonic() - since > limit or _memory(family) > _MOST_MEMORY:
            outcome.failed = outcome.failed or test or "collection"
            outcome.how = outcome.how or ("hung" if time.monotonic() - since > limit else "memory")
            _end(family)
            break
    outcome.seconds = _ended(child)
    if not outcome.failed and exit_code not in (0, 1, 2, 5):
        outcome.failed, outcome.how = test or "collection", "died" if exit_code == -1 else "failed"
    elif not outcome.failed and exit_code in (2, 5) and not outcome.times:
        outcome.failed, outcome.how = "collection", "failed"
    return outcome


def shared_out(count: int, jobs: int, work: Callable[[int, int], None]) -> None:
    """Call `work(job, place)` for every place below `count`: forked jobs take the next one when they are free.

    Raises:
        AgfasError: a job ended in an error, which it has printed.
    """
    reader, writer = os.pipe()
    os.write(writer, b"".join(struct.pack("i", place) for place in range(count)))
    os.close(writer)
    children = []
    for job in range(jobs):
        child = os.fork()
        if child == 0:
            try:
                while place := os.read(reader, 4):
                    work(job, struct.unpack("i", place)[0])
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    os.close(reader)
    ended = [os.waitpid(child, 0)[1] for child in children]
    if any(ended):
        raise AgfasError("a job ended in an error; what was done before is kept")


def _family(child: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(child)
        return [*parent.children(recursive=True), parent]
    return []


def _is_stopped(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.status() == psutil.STATUS_STOPPED)
    return False


def _memory(family: Sequence[psutil.Process]) -> int:
    total = 0
    for process in family:
        with contextlib.suppress(psutil.Error):
            memory = process.memory_info()
            total += memory.rss - memory.shared
    return total


def _end(family: Sequence[psutil.Process]) -> None:
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _ended(child: int) -> float:
    """Wait for the child and end what it left running; its processor time."""
    left = _family(child)[:-1]
    _, _, usage = os.wait4(child, 0)
    _end(left)
    return usage.ru_utime + usage.ru_stime

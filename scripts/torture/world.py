"""A clean run of every job, with what each found and left; and workers that try things on copies of it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from queue import Queue
from typing import TypeVar

from pipelines.cues.shards import MANIFEST_NAME
from pipelines.errors import AgfasError
from pipelines.progress import track
from scripts.torture.commands import Ending, Warm
from scripts.torture.jobs import JOBS, Job, draw_pictures

Result = dict[str, str]
"""SHA-256 by path below a folder, of everything that must be equal to an undisturbed run's."""

_LANES = 2
# What an undisturbed run does not repeat either: the machine, times, and pages that show them.
_VOLATILE = ("environment.json", "index.html", "made.json")
_TIME = re.compile(rb'"(?:seconds_per_step|crc32)": [^,}]*|.*\d:\d\d:\d\d.*')
# Of the tables' files, whose bytes may change where nothing is stored.
_KEY = re.compile(rb'"(?:key|_sha256)": "[0-9a-f]+"')
_HIDDEN = re.compile(r"(?<![^/])\.([^/]+?)(\.\d+\.[0-9a-f]{16}\.(tmp|lock)|\.lock)(?![^/])")

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def result(folder: Path) -> Result:
    """Of all files in a folder, apart from locks."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.endswith(".lock") and path.name not in _VOLATILE:
            content = path.read_bytes()
            if path.name in ("metrics.jsonl", "results.md"):
                content = _TIME.sub(b"", content)
            elif path.name == "result.json":
                content = _KEY.sub(b"", content)
            elif path.name == MANIFEST_NAME:
                content = _listed(content)
            found[path.relative_to(folder).as_posix()] = sha256(content).hexdigest()
    return found


def _listed(manifest: bytes) -> bytes:
    """What a manifest lists in the end, in whatever order it was written, and whatever lines a kill has torn."""
    listed: dict[int, bytes] = {}
    for line in manifest.splitlines():
        with contextlib.suppress(ValueError):
            values = json.loads(line)
            listed[values["task"]] = b"" if values.get("revoked") else line
    return b"\n".join(line for _, line in sorted(listed.items()) if line)


def differences(found: Result, clean: Result, more: bool = False) -> list[str]:
    """A few words for each file that is not a clean run's; those that a clean run does not have may be allowed."""
    missing = [f"{name} is missing" for name in clean if name not in found]
    left = [f"{name} was left over" for name in found if name not in clean and not more]
    return missing + left + [f"{name} differs" for name in clean if found.get(name, clean[name]) != clean[name]]


def target_of(file: str) -> str:
    """The path of a file or, for a temporary file or a lock, of what it stands for."""
    return _HIDDEN.sub(r"\1", file)


def names_file(sentence: str, file: str) -> bool:
    """Whether a sentence names a file, or a folder that it is in.

    Args:
        sentence: of an error.
        file: path relative to the working directory.
    """
    parts = Path(target_of(file)).parts
    paths = ["/".join(parts[:length]) for length in range(1, len(parts) + 1) if parts[:length] != ("run",)]
    return not parts or parts[-1] in sentence or any(path in sentence for path in paths)


def faulty_ending(ending: Ending, *files: str) -> str:
    """What is wrong with how a command ended that met a fault in one of `files`; nothing if it is as promised."""
    if ending.has_traceback:
        return f"a traceback: {' '.join(ending.errors.strip().splitlines()[-1:])[:300]}"
    if ending.code and not ending.sentence:
        return f"exit code {ending.code} without a sentence"
    if ending.code and not any(names_file(ending.sentence, file) for file in files):
        return f"the sentence does not name the file: {ending.sentence[:300]}"
    return ""


@dataclass(frozen=True)
class Clean:
    """An undisturbed job.

    Attributes:
        job: the job.
        before, after: folders with all files before and after it.
        result: of `after`.
        calls: name and path, relative to the folder, of its calls to the file system.
        seconds: that it took.
    """

    job: Job
    before: Path
    after: Path
    result: Result
    calls: tuple[tuple[str, str], ...]
    seconds: float


class World:
    """Clean runs by the name of their job, and warm workers.

    Args:
        folder: for all of it; must be empty.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._warm: Queue[Warm] = Queue()
        self.workers = [Warm(folder) for _ in range(_LANES)]
        for warm in self.workers:
            warm.wait_until_ready()
            self._warm.put(warm)
        start = folder / "start"
        start.mkdir()
        draw_pictures(start)
        self.clean: dict[str, Clean] = {}
        for job in JOBS:
            self.clean[job.name] = self.undisturbed(job, start)
            start = self.clean[job.name].after

    def undisturbed(self, job: Job, before: Path) -> Clean:
        """Run a job on a copy of a folder.

        Raises:
            AgfasError: it fails, so that nothing can be compared with it.
        """
        after = self.copy(before)
        warm, begun = self._warm.get(), time.perf_counter()
        ending = warm.run(after, job.command(after), trace=True)
        seconds = time.perf_counter() - begun
        self._warm.put(warm)
        if ending.code:
            raise AgfasError(f"`agfas {' '.join(job.arguments)}` fails undisturbed: {ending.errors[-2000:]}")
        calls = tuple((name, Path(path).relative_to(after.resolve()).as_posix()) for name, path in ending.calls)
        return Clean(job, before, after, result(after), calls, seconds)

    def copy(self, folder: Path) -> Path:
        """A copy of a folder, with the times of its files."""
        place = Path(tempfile.mkdtemp(prefix="trial-", dir=self._folder))
        return Path(shutil.copytree(folder, place, symlinks=True, dirs_exist_ok=True))

    def try_all(self, do: Callable[[Warm, Item], Answer], items: Iterable[Item]) -> list[Answer]:
        """Call `do` for every item, a few at a time, each with a warm process of its own."""

        def one(item: Item) -> Answer:
            warm = self._warm.get()
            try:
                return do(warm, item)
            finally:
                self._warm.put(warm)

        waiting = list(items)
        with ThreadPoolExecutor(_LANES) as pool:
            return list(track(pool.map(one, waiting), "try", unit="case", total=len(waiting)))

    def close(self) -> None:
        """End the processes."""
        for warm in self.workers:
            warm.close()

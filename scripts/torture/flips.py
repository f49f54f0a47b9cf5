"""One flipped bit in every kind of file that a command writes and a later command reads."""

from __future__ import annotations

import random
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.torture.commands import Warm
from scripts.torture.damage import Outcome, flip
from scripts.torture.faults import Fault
from scripts.torture.jobs import JOBS, Job
from scripts.torture.world import Clean, World, differences, faulty_ending, result

# What a person brings, and what cannot be wrong since nobody reads it.
_BROUGHT = ("pictures/", "experiment.yaml")
# Jobs that are also killed on their way, in the call after the last of this kind, so that half-done work is read too.
_INTERRUPTED = {
    "prepare": ("open to write", "faces/.work/*/tasks/*"),
    "train-dfg": ("rename", "run/generator/*/checkpoints/*"),
    "cues": ("rename", "run/cues/*/shards/*"),
    "train": ("rename", "run/detectors/*/*/checkpoints/*"),
    "evaluate": ("fsync", "run/detectors/*/*/scores/.*/done"),
    "import-cues": ("rename", "imported/*/shards/*"),
}


@dataclass(frozen=True)
class _Flip:
    """A bit of a file that a job reads, in the folder from which the job starts."""

    state: Path
    clean: Clean
    file: str
    place: int
    bit: int
    half: bool

    def __str__(self) -> str:
        how = "interrupted and " * self.half
        return f"{self.file}, bit {self.bit} of byte {self.place}, {how}read by {self.clean.job.name}"


def flip_bits_of_files(world: World, seed: int, flips: int) -> Outcome:
    """Flip a bit, run a command that reads the file, and compare what it makes with what it makes of the right file.

    Args:
        world: with the clean runs.
        seed: of the places.
        flips: how many; each pair of a kind of file and a job that reads it has one before any has two.
    """
    readings = list(_readings(world))
    draws, chosen = random.Random(seed), list[_Flip]()
    while len(chosen) < flips:
        draws.shuffle(readings)
        chosen += [_draw(draws, *reading) for reading in readings[: flips - len(chosen)]]
    ends = Counter[str]()
    violations = []
    for end, found in world.try_all(lambda warm, one: _try(world, warm, one), chosen):
        ends[end] += 1
        violations += found
    kinds = {_kind(name) for _, files, _ in readings for name in files}
    names = ("noticed", "no effect", "made again", "silent", "traceback")
    return Outcome(
        f"{len(kinds)} kinds of files; {len(readings)} pairs of a kind and a command that reads it",
        len(chosen),
        ", ".join(f"{ends[name]} {name}" for name in names),
        violations,
    )


def _kind(name: str) -> str:
    """The path without what tells files of one kind apart."""
    return re.sub(r"[0-9a-f]{16,}|\d+", "#", name)


Reading = tuple[tuple[Path, Clean, bool], list[str], str]


def _readings(world: World) -> Iterator[Reading]:
    """Where a job starts, the files of one kind that it reads, and the kind."""
    for job in JOBS:
        clean = world.clean[job.name]
        starts = [(clean.before, clean, False)]
        if job.name in _INTERRUPTED:
            state, calls = _interrupted(world, clean)
            starts.append((state, Clean(clean.job, state, clean.after, clean.result, calls, clean.seconds), True))
        for start in starts:
            read = {file for call, file in start[1].calls if call == "open to read" and (start[0] / file).is_file()}
            kinds = defaultdict(list)
            for file in sorted(read):
                if not file.startswith(_BROUGHT) and (start[0] / file).stat().st_size:
                    kinds[_kind(file)].append(file)
            yield from ((start, files, kind) for kind, files in kinds.items())


def _interrupted(world: World, clean: Clean) -> tuple[Path, tuple[tuple[str, str], ...]]:
    """A folder in which the job was killed, and the calls of the job that goes on there."""
    call, pattern = _INTERRUPTED[clean.job.name]
    fitting = [n for n, (name, file) in enumerate(clean.calls, 1) if name == call and Path(file).match(pattern)]
    state = world.copy(clean.before)

    def go_on(warm: Warm, job: Job) -> tuple[tuple[str, str], ...]:
        warm.run(state, job.command(state), Fault(fitting[-1] + 1, "kill"))
        folder = world.copy(state)
        ending = warm.run(folder, job.command(folder), trace=True)
        calls = tuple((name, Path(path).relative_to(folder.resolve()).as_posix()) for name, path in ending.calls)
        shutil.rmtree(folder)
        return calls

    return state, world.try_all(go_on, [clean.job])[0]


def _draw(draws: random.Random, start: tuple[Path, Clean, bool], files: list[str], _kind: str) -> _Flip:
    file = draws.choice(files)
    size = (start[0] / file).stat().st_size
    return _Flip(start[0], start[1], file, draws.randrange(size), draws.randrange(8), start[2])


def _try(world: World, warm: Warm, one: _Flip) -> tuple[str, list[str]]:
    folder = world.copy(one.state)
    right = (folder / one.file).read_bytes()
    flip(folder / one.file, one.place, one.bit)
    flipped = (folder / one.file).read_bytes()
    ending = warm.run(folder, one.clean.job.command(folder))
    found, left = result(folder), folder / one.file
    remade = found.get(one.file) == one.clean.result.get(one.file, "")
    mended = remade or not left.exists() or left.read_bytes() == right
    untouched = left.exists() and left.read_bytes() == flipped
    shutil.rmtree(folder)
    if what := faulty_ending(ending, one.file):
        return ("traceback" if ending.has_traceback else "noticed"), [f"{one}: {what}"]
    if ending.code:
        return "noticed", []
    expected = {name: value for name, value in one.clean.result.items() if name != one.file}
    others = {name: value for name, value in found.items() if name != one.file}
    wrong = differences(others, expected)
    if wrong or not (mended or untouched):
        return "silent", [f"{one}: silent, {'; '.join(wrong[:3]) or 'the file is neither made again nor left'}"]
    return ("made again" if mended else "no effect"), []

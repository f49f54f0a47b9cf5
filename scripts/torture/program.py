"""All stress tests, and their results as a table."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipelines.errors import AgfasError
from scripts.torture.damage import Outcome, fill_the_disk, flip_bits, lock_the_folder
from scripts.torture.errors import fail_calls
from scripts.torture.flips import flip_bits_of_files
from scripts.torture.killed import kill_commands
from scripts.torture.kills import PROCESSES, Killings, RandomKills, Steps, kill_before_every_call
from scripts.torture.processes import prepare
from scripts.torture.together import copy_while_written, run_twice
from scripts.torture.world import World

# Enough that the job seldom finishes between two kills.
_TASKS = 400


class Report:
    """The rows of the table, and a sentence for each broken promise."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self._rows = [
            "| what was done | how | times | result | violations | seconds |",
            "| --- | --- | ---: | --- | ---: | ---: |",
        ]

    def add(self, what: str, outcome: Outcome, seconds: float) -> None:
        """Add a row."""
        self.violations += [f"{what}: {violation}" for violation in outcome.violations]
        cells = (what, outcome.how, outcome.times, outcome.answer, len(outcome.violations), f"{seconds:.1f}")
        self._rows.append(f"| {' | '.join(map(str, cells))} |")

    def __str__(self) -> str:
        return "\n".join(self._rows)


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        folder: for all files; must be empty.
        seed: of the moments and places.
        kills: of the cue job at random moments, and again of the commands.
        flips: bits flipped in the files of all commands.
        every_call: spoil every single call of every command, instead of one of each name to each kind of file.
        tasks: of each store while killing at random.
        rounds: how often two commands run at once, and a folder is copied, for each kind of command.
    """

    folder: Path
    seed: int = 0
    kills: int = 200
    flips: int = 400
    every_call: bool = False
    tasks: int = _TASKS
    rounds: int = 2

    def new(self, name: str) -> Path:
        """A new folder."""
        (self.folder / name).mkdir()
        return self.folder / name

    @cached_property
    def world(self) -> World:
        """Clean runs of all commands."""
        return World(self.new("world"))


# Those of the cue job by arithmetic, then those of all commands.
GROUPS: dict[str, tuple[str, Callable[[Plan], Outcome]]] = {
    "kills": (
        "cue job: SIGKILL at random moments",
        lambda plan: _of_killings(RandomKills(plan.new("random"), plan.tasks, plan.kills, plan.seed).run()),
    ),
    "steps": (
        "cue job: SIGKILL before every durable call",
        lambda plan: _of_steps(kill_before_every_call(plan.new("steps"))),
    ),
    "disk": ("cue job: full disk", lambda plan: fill_the_disk(plan.new("disk"))),
    "rights": ("cue job: folder that cannot be written", lambda plan: lock_the_folder(plan.new("locked"))),
    "shards": ("cue job: flipped bit", lambda plan: flip_bits(plan.new("bits"), plan.seed)),
    "commands": (
        "every command: SIGKILL again and again",
        lambda plan: kill_commands(plan.world, plan.seed, plan.kills),
    ),
    "errors": (
        "every command: a call to the file system fails",
        lambda plan: fail_calls(plan.world, plan.seed, plan.every_call),
    ),
    "flips": (
        "every command: flipped bit",
        lambda plan: flip_bits_of_files(plan.world, plan.seed, plan.flips),
    ),
    "together": (
        "every command: two at the same time",
        lambda plan: run_twice(plan.world, plan.seed, plan.rounds),
    ),
    "copies": (
        "every command: its folder copied while it is written",
        lambda plan: copy_while_written(plan.world, plan.seed, plan.rounds),
    ),
}


def torture(plan: Plan, only: Sequence[str] = ()) -> Report:
    """Run the groups of these names; without names, all."""
    prepare()
    report = Report()
    for name in only or GROUPS:
        what, do = GROUPS[name]
        start = time.perf_counter()
        print(f"{what} ...", file=sys.stderr)
        outcome = do(plan)
        report.add(what, outcome, time.perf_counter() - start)
    if "world" in vars(plan):
        plan.world.close()
    return report


def _of_killings(result: Killings) -> Outcome:
    violations = list(result.violations)
    if not result.half_in_write:
        violations.append(f"only {result.in_write} of {result.kills} kills certainly fell into a write")
    return Outcome(
        f"{PROCESSES} processes share the job; {result.ordered} by a hook after a random share of a write's bytes,"
        f" {result.timed} from outside at a random moment",
        result.kills,
        f"{result.in_write} inside a write ({result.timed_in_write} of those from outside left a temporary file);"
        f" every listed shard verified after each; finished {result.finished} times, with a clean run's bytes",
        violations,
    )


def _of_steps(result: Steps) -> Outcome:
    return Outcome(
        ", ".join(f"{count} {name}" for name, count in result.kills.items()),
        result.kills.total(),
        "resumed each time to a clean run's bytes",
        result.violations,
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description="Try to break the program: kills, failing disks, bits, second jobs.")
    parser.add_argument("--only", nargs="+", choices=list(GROUPS), default=[], help="the rows to make (default: all)")
    parser.add_argument("--kills", type=int, default=Plan.kills, help="SIGKILLs of a row (default: %(default)s)")
    parser.add_argument("--flips", type=int, default=Plan.flips, help="flipped bits of files (default: %(default)s)")
    parser.add_argument("--every-call", action="store_true", help="spoil every call, not one of each kind")
    parser.add_argument("--seed", type=int, default=Plan.seed, help="seed of moments and places (default: %(default)s)")
    parser.add_argument(
        "--folder", type=Path, help="folder on the file system to test (default: the system's temporary folder)"
    )
    chosen = parser.parse_args(arguments)
    for name in ("kills", "flips"):
        if vars(chosen)[name] < 1:
            parser.error(f"--{name} must be at least 1, not {vars(chosen)[name]}")
    # `nobody` must be able to read what it may not write.
    os.umask(0o022)
    with _place(chosen.folder) as folder:
        plan = Plan(Path(folder), chosen.seed, chosen.kills, chosen.flips, chosen.every_call)
        report = torture(plan, chosen.only)
    print(report)
    print(f"\nSeed {chosen.seed}; {len(report.violations)} violations.")
    for violation in report.violations:
        print(violation, file=sys.stderr)
    return 1 if report.violations else 0


def _place(folder: Path | None) -> tempfile.TemporaryDirectory[str]:
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix="torture-", dir=folder)
    except OSError as error:
        raise AgfasError(f"{folder} cannot be written ({error.strerror}). Give another --folder.") from None

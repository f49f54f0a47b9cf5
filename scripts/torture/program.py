"""All stress tests, and their results as a table."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.errors import AgfasError
from scripts.torture.damage import Outcome, fill_the_disk, flip_bits, lock_the_folder
from scripts.torture.kills import PROCESSES, Killings, RandomKills, Steps, kill_before_every_call
from scripts.torture.processes import prepare

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

    def add(self, what: str, how: str, times: int, outcome: str, violations: list[str], seconds: float) -> None:
        """Add a row."""
        self.violations += [f"{what}: {violation}" for violation in violations]
        self._rows.append(f"| {what} | {how} | {times} | {outcome} | {len(violations)} | {seconds:.1f} |")

    def __str__(self) -> str:
        return "\n".join(self._rows)


def torture(kills: int, seed: int, folder: Path, tasks: int = _TASKS) -> Report:
    """Run everything in `folder`, which must be empty.

    Args:
        kills: number of kills at random moments.
        seed: of the moments and places.
        folder: for the stores.
        tasks: number of tasks of each store while killing at random.
    """
    prepare()
    report = Report()
    _add_killings(report, *_timed(lambda: RandomKills(_new(folder, "random"), tasks, kills, seed).run()))
    _add_steps(report, *_timed(lambda: kill_before_every_call(_new(folder, "steps"))))
    damages: dict[str, Callable[[], Outcome]] = {
        "full disk": lambda: fill_the_disk(_new(folder, "disk")),
        "folder that cannot be written": lambda: lock_the_folder(_new(folder, "locked")),
        "flipped bit": lambda: flip_bits(_new(folder, "bits"), seed),
    }
    for what, do in damages.items():
        outcome, seconds = _timed(do)
        report.add(what, outcome.how, outcome.times, outcome.answer, outcome.violations, seconds)
    return report


def _new(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def _timed(do: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return do(), time.perf_counter() - start


def _add_killings(report: Report, result: Killings, seconds: float) -> None:
    violations = list(result.violations)
    if not result.half_in_write:
        violations.append(f"only {result.in_write} of {result.kills} kills certainly fell into a write")
    report.add(
        "SIGKILL at random moments",
        f"{PROCESSES} processes share the job; {result.ordered} by a hook after a random share of a write's bytes,"
        f" {result.timed} from outside at a random moment",
        result.kills,
        f"{result.in_write} inside a write ({result.timed_in_write} of those from outside left a temporary file);"
        f" every listed shard verified after each; finished {result.finished} times, with a clean run's bytes",
        violations,
        seconds,
    )


def _add_steps(report: Report, result: Steps, seconds: float) -> None:
    report.add(
        "SIGKILL before every durable call",
        ", ".join(f"{count} {name}" for name, count in result.kills.items()),
        result.kills.total(),
        "resumed each time to a clean run's bytes",
        result.violations,
        seconds,
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description="Try to break the cue job: kills, full disk, locked folder, bits.")
    parser.add_argument("--kills", type=int, default=200, help="number of SIGKILLs at random moments (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of moments and places (default: 0)")
    parser.add_argument(
        "--folder", type=Path, help="folder on the file system to test (default: the system's temporary folder)"
    )
    chosen = parser.parse_args(arguments)
    if chosen.kills < 1:
        parser.error(f"--kills must be at least 1, not {chosen.kills}")
    # `nobody` must be able to read what it may not write.
    os.umask(0o022)
    with _place(chosen.folder) as folder:
        report = torture(chosen.kills, chosen.seed, Path(folder))
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

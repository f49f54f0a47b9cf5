"""What a table's work costs, in seconds, where anything like it was ever measured.

A rate is taken from finished runs of the same kind in the output folder, or else from the `rates` of the size's
settings, which say what they were measured on. Where there is neither, no time is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import TypeAdapter

from pipelines.data.protocol_settings import AnyProtocol, ProtocolSettings
from pipelines.data.protocols import build_protocol
from pipelines.files import read_json
from pipelines.report.gather import read_run
from pipelines.reproduce.work import Work


@dataclass(frozen=True)
class Rate:
    """Seconds per unit of work, and whether they were measured in this folder."""

    seconds: float
    measured: bool


def rates_of(root: Path, stated: dict[str, dict[str, float]]) -> dict[tuple[str, str], Rate]:
    """Rates by (kind, name): the median of those measured in an output folder before the stated one."""
    rates = {(kind, name): Rate(value, False) for kind, names in stated.items() for name, value in names.items()}
    measured: dict[tuple[str, str], list[float]] = {}
    for key, seconds in _measured(root):
        measured.setdefault(key, []).append(seconds)
    return {**rates, **{key: Rate(median(values), True) for key, values in measured.items()}}


def describe(work: Sequence[Work], rates: dict[tuple[str, str], Rate]) -> list[str]:
    """A sentence on each kind of work, and one on all that is left."""
    lines: list[str] = []
    known: list[tuple[float, Rate]] = []
    unknown: list[str] = []
    for item in work:
        rate, left = rates.get((item.kind, item.name)), item.total - item.done
        told = f"{item.kind} {item.name}: {left} of {item.total} to do"
        if left and rate:
            known.append((item.amount * rate.seconds, rate))
            where = "as measured in this folder" if rate.measured else "by the rate in the settings, of another machine"
            told += f": {item.amount:,.0f} {item.unit}, {_time(item.amount * rate.seconds)} {where}"
        elif left:
            unknown.append(f"{item.kind} {item.name}")
            told += f": {item.amount:,.0f} {item.unit}, time unknown"
        lines.append(told)
    if known or unknown:
        lines.append(_total(known, unknown))
    return lines or ["nothing to run"]


def _total(known: Sequence[tuple[float, Rate]], unknown: Sequence[str]) -> str:
    seconds = sum(value for value, _ in known)
    text = f"in all {_time(seconds)} of one process" if known else "no time can be told"
    if unknown:
        text += f", without {', '.join(unknown)}: no such run was ever measured"
    if any(not rate.measured for _, rate in known):
        text += "; another machine, or a busy one, takes another time"
    return text


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _measured(root: Path) -> Iterator[tuple[tuple[str, str], float]]:
    """(kind, name) and seconds per unit of every finished run of a folder."""
    for folder in sorted({*root.glob("detectors/*/*"), *root.glob("generator/*"), *root.glob("identity/*")}):
        if not (folder / "done.json").is_file() or not (folder / "config.json").is_file():
            continue
        run, config = read_run(folder, "", ""), read_json(folder / "config.json")
        if not run.seconds:
            continue
        if folder.parent.name == "generator":
            yield ("generator", config["generator"]["name"]), run.seconds / run.steps
        elif folder.parent.name == "identity":
            yield ("identity", "trained"), run.seconds / run.steps
        elif faces := _faces_of_a_step(config, folder.name):
            yield ("detector", config["detector"]["name"]), run.seconds / run.steps / faces


def _faces_of_a_step(config: dict[str, Any], fold: str) -> int:
    """Faces of one training step; 0 where the protocol does not name its domains."""
    settings: AnyProtocol = TypeAdapter(ProtocolSettings).validate_python(config["protocol"])
    lists = [getattr(settings, name, None) for name in ("domains", "train", "test")]
    named = [domain for domains in lists for domain in domains or []]
    if not named:
        return 0
    sources = [part.train_domains for part in build_protocol(settings, named).folds if part.name == fold]
    return 2 * int(config["train"]["per_cell"]) * len(sources[0]) if sources else 0

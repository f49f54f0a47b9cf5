"""The work behind a table's rows, done and to do, and the time it takes.

Work is counted in trainings, generators and restorations; what rows share is counted once. A time is given only where
the seconds per unit of work are known: measured on finished runs of the same kind in the output folder, or else from
the `rates` of the size's settings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import TypeAdapter

from pipelines.cues.settings import WITH_TIMESTEP
from pipelines.data.protocol_settings import AnyProtocol, ProtocolSettings
from pipelines.data.protocols import Fold, build_folds
from pipelines.experiment.config import Experiment, SyntheticData
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json
from pipelines.report.gather import read_run
from pipelines.reproduce.ground import Ground, folds_on
from pipelines.reproduce.rows import PlannedRow

KINDS = ("identity", "generator", "restoration", "detector")
"""Kinds of work in the order in which it is done."""


@dataclass(frozen=True)
class Work:
    """Work of one kind.

    Attributes:
        kind: one of `KINDS`.
        name: of the detector or generator, which decides the rate.
        amount: units left to do.
        unit: what is counted.
        done, total: trainings, or cue stores.
    """

    kind: str
    name: str
    amount: float
    unit: str
    done: int
    total: int


def work_of(rows: Sequence[PlannedRow], ground: Ground) -> list[Work]:
    """The table's work by kind and name; work shared by rows is counted once."""
    seen: dict[str, Work] = {}
    for row in rows:
        if row.absent and not row.waits:
            continue
        folds = folds_on(row.protocol, ground.domains)
        for planned in row.planned:
            seen.update(_parts(planned.experiment, folds))
    found: dict[tuple[str, str], Work] = {}
    for work in seen.values():
        known = found.setdefault((work.kind, work.name), replace(work, amount=0, done=0, total=0))
        found[work.kind, work.name] = replace(
            work, amount=known.amount + work.amount, done=known.done + work.done, total=known.total + work.total
        )
    return sorted(found.values(), key=lambda work: (KINDS.index(work.kind), work.name))


def _parts(experiment: Experiment, folds: Sequence[Fold]) -> Iterator[tuple[str, Work]]:
    """The parts of an experiment's work, each with a key of everything that decides it."""
    workspace = Workspace(experiment)
    there = workspace.faces.is_dir()
    left = [fold for fold in folds if not (there and (workspace.detector() / fold.name / "done.json").is_file())]
    train = experiment.train
    faces = sum(2 * train.per_cell * len(fold.train_domains) for fold in left) * train.steps
    restored = ("identity", "generator", "cue") if workspace.needs_restoration() else ()
    key = _key("detector", experiment, (*restored, "data", "detector", "objective", "train", "protocol", "seed"))
    yield key, Work("detector", experiment.detector.name, faces, "faces seen", len(folds) - len(left), len(folds))
    if not restored:
        return
    maker, of_maker = experiment.generator, ("data", "identity", "generator")
    trained = there and (workspace.generator() / "done.json").is_file()
    if getattr(maker, "train", True):
        steps = 0 if trained else maker.loop.steps
        yield _key("generator", experiment, of_maker), Work("generator", maker.name, steps, "steps", int(trained), 1)
    if experiment.identity.name == "trained" and maker.name == "dfg":
        known = there and (workspace.identity() / "done.json").is_file()
        steps = 0 if known else experiment.identity.loop.steps
        yield (
            _key("identity", experiment, ("data", "identity")),
            Work("identity", "trained", steps, "steps", int(known), 1),
        )
    # The name of a store depends on the generator's weights; if all detectors are trained, it was complete.
    filled = trained and not left
    faces, calls = _faces(experiment, folds), calls_of(experiment)
    amount = 0 if filled else (faces or 1) * calls
    unit = "calls of the generator" if faces else "calls for each face of a missing dataset"
    key = _key("restoration", experiment, (*of_maker, "cue"))
    yield key, Work("restoration", maker.name, amount, unit, int(filled), 1)


def calls_of(experiment: Experiment) -> int:
    """Calls of the generator that restore one face."""
    cue, maker = experiment.cue, experiment.generator.name
    if maker not in WITH_TIMESTEP:
        return 1
    if maker != "dfg":
        return (cue.calls or cue.timestep) * cue.samples
    # The length of dfg.schedule.timesteps_from, which imports torch: the grid is 1, 1 + s, 1 + 2 s, ... with
    # s = 1000 // num_inference_steps, and the last training timestep is a call more if it is off the grid.
    stride = 1000 // cue.num_inference_steps
    on_grid = (cue.timestep - 1) // stride + 1
    return (cue.calls or on_grid + (cue.timestep == 999 and 998 % stride > 0)) * cue.samples


def _faces(experiment: Experiment, folds: Sequence[Fold]) -> int:
    """Number of faces of the protocol's domains; 0 if the dataset is missing."""
    domains = {name for fold in folds for name in (*fold.train_domains, *fold.test_domains)}
    data, folder = experiment.data, Workspace(experiment).faces
    if isinstance(data, SyntheticData):
        return len(domains) * data.subjects * (data.live_videos + data.attack_videos) * data.frames
    if not folder.is_dir():
        return 0
    from pipelines.data.records import read_columns

    return sum(name in domains for name in read_columns(folder, ["domain"])["domain"])


def _key(kind: str, experiment: Experiment, blocks: Sequence[str]) -> str:
    content: dict[str, Any] = experiment.model_dump(mode="json", include=set(blocks))
    return json.dumps([kind, content], sort_keys=True)


@dataclass(frozen=True)
class Rate:
    """Seconds per unit of work, and whether they were measured in the output folder."""

    seconds: float
    measured: bool


def rates_of(root: Path, stated: dict[str, dict[str, float]]) -> dict[tuple[str, str], Rate]:
    """Rates by (kind, name): the median of those measured in an output folder, else the stated one."""
    rates = {(kind, name): Rate(value, False) for kind, names in stated.items() for name, value in names.items()}
    measured: dict[tuple[str, str], list[float]] = {}
    for key, seconds in _measured(root):
        measured.setdefault(key, []).append(seconds)
    return {**rates, **{key: Rate(median(values), True) for key, values in measured.items()}}


def describe(work: Sequence[Work], rates: dict[tuple[str, str], Rate]) -> list[str]:
    """A line for each kind of work, and one for the total."""
    lines: list[str] = []
    known: list[tuple[float, Rate]] = []
    unknown: list[str] = []
    for item in work:
        rate, left = rates.get((item.kind, item.name)), item.total - item.done
        line = f"{item.kind} {item.name}: {left} of {item.total} to do"
        if left and rate:
            known.append((item.amount * rate.seconds, rate))
            where = "as measured in this folder" if rate.measured else "at the settings' rate, of another machine"
            line += f": {item.amount:,.0f} {item.unit}, {_time(item.amount * rate.seconds)} {where}"
        elif left:
            unknown.append(f"{item.kind} {item.name}")
            line += f": {item.amount:,.0f} {item.unit}, time unknown"
        lines.append(line)
    if known or unknown:
        lines.append(_total(known, unknown))
    return lines or ["nothing to run"]


def _total(known: Sequence[tuple[float, Rate]], unknown: Sequence[str]) -> str:
    seconds = sum(value for value, _ in known)
    text = f"total {_time(seconds)} of one process" if known else "total time unknown"
    if unknown:
        text += f", without {', '.join(unknown)}: no such run was measured yet"
    if any(not rate.measured for _, rate in known):
        text += "; other machines, or busy ones, take other times"
    return text


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _measured(root: Path) -> Iterator[tuple[tuple[str, str], float]]:
    """(kind, name) and seconds per unit of work of every finished run in a folder."""
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
    """Faces of one training step; 0 if the protocol does not name its domains."""
    settings: AnyProtocol = TypeAdapter(ProtocolSettings).validate_python(config["protocol"])
    lists = [getattr(settings, name, None) for name in ("domains", "train", "test")]
    named = [domain for domains in lists for domain in domains or []]
    if not named:
        return 0
    sources = [part.train_domains for part in build_folds(settings, named) if part.name == fold]
    return 2 * int(config["train"]["per_cell"]) * len(sources[0]) if sources else 0

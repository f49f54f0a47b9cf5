"""The work that a table's rows are: trainings, generators and restorations, each counted once, done and to do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.cues.settings import WITH_TIMESTEP
from pipelines.data.protocols import Fold
from pipelines.experiment.config import Experiment, SyntheticData
from pipelines.experiment.workspace import Workspace
from pipelines.reproduce.ground import Ground
from pipelines.reproduce.places import folds_on
from pipelines.reproduce.rows import PlannedRow

KINDS = ("identity", "generator", "restoration", "detector")
"""In the order in which they are made."""


@dataclass(frozen=True)
class Work:
    """Work of one kind.

    Attributes:
        kind: one of `KINDS`.
        name: of the detector or generator, whose rate it has.
        amount: of `unit` that is left to do.
        unit: what is counted.
        done, total: trainings, or sets of restorations.
    """

    kind: str
    name: str
    amount: float
    unit: str
    done: int
    total: int


def work_of(rows: Sequence[PlannedRow], ground: Ground) -> list[Work]:
    """The table's work by kind and name; what rows share is counted once."""
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
    """Each part of an experiment by what decides it."""
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
        told = there and (workspace.identity() / "done.json").is_file()
        steps = 0 if told else experiment.identity.loop.steps
        yield (
            _key("identity", experiment, ("data", "identity")),
            Work("identity", "trained", steps, "steps", int(told), 1),
        )
    # A store's name follows from the generator's weights; where all detectors are trained, it was filled.
    filled = trained and not left
    faces, calls = _faces(experiment, folds), calls_of(experiment)
    amount = 0 if filled else (faces or 1) * calls
    unit = "calls of the generator" if faces else "calls for each face of a dataset that is not there"
    key = _key("restoration", experiment, (*of_maker, "cue"))
    yield key, Work("restoration", maker.name, amount, unit, int(filled), 1)


def calls_of(experiment: Experiment) -> int:
    """How often the generator is called to restore one face."""
    cue, maker = experiment.cue, experiment.generator.name
    if maker not in WITH_TIMESTEP:
        return 1
    if maker != "dfg":
        return (cue.calls or cue.timestep) * cue.samples
    if cue.calls:
        return cue.calls * cue.samples
    from dfg.schedule import sd_scheduler, timesteps_from

    return len(timesteps_from(sd_scheduler(), cue.timestep, cue.num_inference_steps)) * cue.samples


def _faces(experiment: Experiment, folds: Sequence[Fold]) -> int:
    """How many faces the protocol's domains have; 0 where they are not there."""
    domains = {name for fold in folds for name in (*fold.train_domains, *fold.test_domains)}
    data, folder = experiment.data, Workspace(experiment).faces
    if isinstance(data, SyntheticData):
        return len(domains) * data.subjects * (data.live_videos + data.attack_videos) * data.frames
    if not folder.is_dir():
        return 0
    from pipelines.data.records import load_faces

    return sum(name in domains for name in load_faces(folder)["domain"][:])


def _key(kind: str, experiment: Experiment, blocks: Sequence[str]) -> str:
    content: dict[str, Any] = experiment.model_dump(mode="json", include=set(blocks))
    return json.dumps([kind, content], sort_keys=True)

"""What a run's folder tells of a detector: its faces, its generator, its error rates."""

from __future__ import annotations

import platform
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from pipelines.data.protocols import Fold, protocol_folds
from pipelines.data.records import NO_ATTACK, load_faces, read_card
from pipelines.evaluation.bootstrap import intervals
from pipelines.evaluation.scores import ScoreTable
from pipelines.experiment.plan import Planned
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json
from pipelines.verdict.licences import parts_of
from pipelines.verdict.settings import About, Count, GeneratorFacts, Measured, ModelSettings

_COLUMNS = ("label", "domain", "subject", "video", "split", "attack_type")
_RATES = ("hter", "far", "bpcer", "acer", "auc")
_PACKAGES = ("agfas", "torch", "diffusers", "timm")


def describe(planned: Planned, settings: ModelSettings) -> About:
    """What the model card tells.

    Raises:
        AgfasError: the run's faces are gone.
    """
    experiment = planned.experiment
    workspace = Workspace(experiment)
    table, card = load_faces(workspace.faces), read_card(workspace.faces)
    columns = {name: np.asarray(table[name][:]) for name in _COLUMNS}
    fold = next(item for item in protocol_folds(experiment.protocol, columns) if item.name == settings.fold)
    done = read_json(workspace.detector() / fold.name / "done.json")
    return About(
        dataset=_dataset_name(planned),
        dataset_fingerprint=str(card["fingerprint"]),
        drawn=experiment.data.name == "synthetic" or card.get("kind") == "synthetic",
        train_domains=list(fold.train_domains),
        counts=_counts(columns, fold),
        objective=experiment.objective.name,
        seed=experiment.seed,
        steps=experiment.train.steps,
        parameters=done["parameters"],
        generator=_generator_facts(planned) if settings.needs_generator else None,
        measured=_measured(planned, fold),
        parts=parts_of(experiment, card, settings),
        versions=_versions(),
    )


def _dataset_name(planned: Planned) -> str:
    data = planned.experiment.data
    if data.name == "synthetic":
        return "the built-in synthetic benchmark"
    return ", ".join(data.sources) if data.name == "pictures" else data.title


def _counts(columns: dict[str, np.ndarray], fold: Fold) -> list[Count]:
    """Faces that the detector learnt from (the train splits) and that its threshold is of (dev)."""
    used = (*fold.train_splits, "dev")
    chosen = np.isin(columns["domain"], fold.train_domains) & np.isin(columns["split"], used)
    cells: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for row in np.flatnonzero(chosen).tolist():
        attack_type = str(columns["attack_type"][row])
        kind = "live" if attack_type == NO_ATTACK else attack_type
        part = "dev" if columns["split"][row] == "dev" else "train"
        cells[str(columns["domain"][row]), kind, part].append(row)
    return [
        Count(
            domain=domain,
            kind=kind,
            split=part,
            faces=len(rows),
            videos=len(set(columns["video"][rows].tolist())),
            subjects=len(set(columns["subject"][rows].tolist())),
        )
        for (domain, kind, part), rows in sorted(cells.items(), key=lambda item: (item[0][2] != "train", item[0]))
    ]


def _generator_facts(planned: Planned) -> GeneratorFacts:
    settings = planned.experiment.generator
    done = read_json(Workspace(planned.experiment).generator() / "done.json")
    return GeneratorFacts(
        domains=settings.domains, live_faces=done["live_faces"], steps=settings.loop.steps, preset=settings.preset
    )


def _measured(planned: Planned, fold: Fold) -> Measured:
    folder = Workspace(planned.experiment).detector()
    judged = read_json(folder / "result.json")["folds"][fold.name]
    rules = planned.experiment.evaluate
    numbers: dict[str, Any] = judged["rules"][f"{rules.selection}/{rules.threshold}"]
    table = ScoreTable.load(folder / fold.name / "scores" / f"step_{numbers['step']:06d}-test.parquet").by_video()
    same = {name: numbers[name] for name in (*_RATES, "apcer_per_type")}
    return Measured(
        domains=list(fold.test_domains),
        live_videos=judged["videos"]["bonafide"],
        attack_videos=judged["videos"]["attack"],
        replicates=rules.replicates,
        videos_per_type={kind: int((table.attack_type == kind).sum()) for kind in numbers["apcer_per_type"]},
        intervals=_intervals(table, numbers, rules.replicates),
        **same,
    )


def _intervals(table: ScoreTable, numbers: dict[str, Any], replicates: int) -> dict[str, tuple[float, float]]:
    """95 % ends of every rate, and of each attack type's under `apcer TYPE`, drawn as the report's are."""
    ends = intervals(table, numbers["threshold"], _RATES, replicates)
    for kind in numbers["apcer_per_type"]:
        part = table.where((table.attack_type == kind) | (table.attack_type == NO_ATTACK))
        ends[f"apcer {kind}"] = intervals(part, numbers["threshold"], ("far",), replicates)["far"]
    return ends


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found

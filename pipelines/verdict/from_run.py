"""Opening a detector of a finished experiment, and what the run's folder states about it."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from oanet.published import CROP
from pipelines.artefacts.autoencoders import load_restorer
from pipelines.artefacts.faces import face_columns
from pipelines.artefacts.runs import detector_run, generator_done, result_path
from pipelines.cues.settings import OWN
from pipelines.data.protocols import Fold, protocol_folds
from pipelines.data.records import NO_ATTACK, read_card
from pipelines.errors import AgfasError, nearest
from pipelines.evaluation.bootstrap import intervals
from pipelines.evaluation.judge import own_numbers
from pipelines.evaluation.scores import ScoreTable
from pipelines.evaluation.settings import PUBLISHED_RULE
from pipelines.experiment.plan import Planned, read_plan
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json
from pipelines.processes import package_versions
from pipelines.spelling import one_form
from pipelines.verdict.card import parts_of
from pipelines.verdict.crops import Loaded, face_settings
from pipelines.verdict.published import PACKAGES, published_facts, published_settings
from pipelines.verdict.scorer import Parts, Scorer
from pipelines.verdict.settings import About, Count, GeneratorFacts, Measured, ModelSettings, ThresholdSettings

if TYPE_CHECKING:
    from oanet.detectors import Detector

_RATES = ("hter", "far", "bpcer", "acer", "auc")


def open_run(run: Path, label: str | None, fold: str | None, loaded: Loaded) -> Parts:
    """See `FaceAntiSpoofing.from_run`."""
    return open_planned(choose_experiment(read_plan(run), label), fold, loaded)


def open_planned(planned: Planned, fold: str | None, loaded: Loaded) -> Parts:
    """The same of one experiment, as where several seeds share a label."""
    chosen, numbers = choose_fold(planned, fold)
    detector = detector_run(planned.experiment, chosen).load(numbers["step"])
    settings = _settings(planned, chosen, numbers, detector, loaded)
    return Parts(settings, _scorer(planned, detector, settings), partial(describe, planned, settings), loaded)


def finished_experiments(plan: Sequence[Planned], label: str | None) -> list[Planned]:
    """The evaluated experiments of a label, or of all labels.

    Raises:
        AgfasError: an unknown label, or none is evaluated.
    """
    labels = list(dict.fromkeys(item.label for item in plan))
    if label is not None and label not in labels:
        raise AgfasError(f"No experiment is called '{label}': {nearest(label, labels)}")
    finished = [item for item in plan if label in (None, item.label) and result_path(item.experiment).is_file()]
    if not finished:
        what = f"'{label}' is not finished" if label else "No experiment in this folder is finished"
        raise AgfasError(
            f"{what}: there are no results yet. Resume it with `agfas evaluate` or `agfas sweep` and the"
            " same configuration."
        )
    return finished


def choose_experiment(plan: Sequence[Planned], label: str | None) -> Planned:
    """The first finished experiment of a label; without a label, the first with a generator's cue.

    Raises:
        AgfasError: an unknown label, none finished, or the cue is another face's.
    """
    finished = finished_experiments(plan, label)
    chosen = min(finished, key=_preference) if label is None else finished[0]
    if Workspace(chosen.experiment).needs_cue() and chosen.experiment.cue.source == "shuffled":
        raise AgfasError(
            f"'{chosen.label}' is a control that gives every face the cue of another face, which a single picture"
            " does not have. Choose another experiment with --label."
        )
    return chosen


def choose_fold(planned: Planned, fold: str | None) -> tuple[str, dict[str, Any]]:
    """A fold's name (default: the first) and its numbers under the experiment's own rules.

    Raises:
        AgfasError: an unknown fold, or one that was not judged under those rules.
    """
    folds = read_json(result_path(planned.experiment))["folds"]
    name = one_form(fold) if fold is not None else next(iter(folds))
    if name not in folds:
        raise AgfasError(f"'{planned.title}' has no fold '{fold}': {nearest(name, folds)}")
    return name, own_numbers(folds[name], planned.experiment.evaluate, planned.title)


def _preference(item: Planned) -> int:
    workspace = Workspace(item.experiment)
    if not workspace.needs_cue():
        return 1
    return 2 if workspace.is_control() else 0


def _settings(
    planned: Planned, fold: str, numbers: dict[str, Any], detector: Detector, loaded: Loaded
) -> ModelSettings:
    experiment = planned.experiment
    workspace = Workspace(experiment)
    rules = experiment.evaluate
    if rules.threshold == PUBLISHED_RULE:
        return published_settings(planned.title, fold, detector, loaded)
    size = workspace.size if detector.sees == CROP else len(detector.look_at_nobody())
    return ModelSettings(
        label=planned.title,
        fold=fold,
        detector=experiment.detector.name,
        sees=detector.sees,
        face=face_settings(read_card(workspace.faces), size),
        # The autoencoder of the cue takes the place of the generator's own, also in the folder of a saved model.
        cue=experiment.cue.model_copy(update={"autoencoder": OWN}) if workspace.needs_cue() else None,
        threshold=ThresholdSettings(
            value=numbers["threshold"],
            rule=rules.threshold,
            selection=rules.selection,
            step=numbers["step"],
            origin=numbers["threshold_origin"],
        ),
        face_detector=loaded.detector_part,
        face_parser=loaded.parser_part,
    )


def _scorer(planned: Planned, detector: Detector, settings: ModelSettings) -> Scorer:
    experiment = planned.experiment
    if not settings.needs_generator:
        return Scorer(detector, settings.cue)
    return Scorer(detector, settings.cue, load_restorer(experiment), generator_done(experiment)["weights_sha256"])


def describe(planned: Planned, settings: ModelSettings) -> About:
    """The facts for the model card.

    Raises:
        AgfasError: the run's faces are missing.
    """
    experiment = planned.experiment
    columns, card = face_columns(experiment), read_card(Workspace(experiment).faces)
    fold = next(item for item in protocol_folds(experiment.protocol, columns) if item.name == settings.fold)
    done = detector_run(experiment, fold.name).done
    return About(
        dataset=_dataset_name(planned),
        dataset_fingerprint=str(card["fingerprint"]),
        drawn=experiment.data.name == "synthetic" or card.get("kind") == "synthetic",
        train_domains=list(fold.train_domains),
        simulated=[domain for domain in fold.train_domains if domain in card.get("simulated", [])],
        counts=_counts(columns, fold, trained=experiment.train.steps > 0),
        objective=experiment.objective.title,
        seed=experiment.seed,
        steps=experiment.train.steps,
        parameters=done["parameters"],
        generator=_generator_facts(planned) if settings.needs_generator else None,
        measured=_measured(planned, fold),
        parts=parts_of(experiment, card, settings),
        versions={"python": platform.python_version(), **package_versions(PACKAGES)},
        published=published_facts(experiment.detector.name) if experiment.train.steps == 0 else None,
    )


def _dataset_name(planned: Planned) -> str:
    data = planned.experiment.data
    if data.name == "synthetic":
        return "the built-in synthetic benchmark"
    return data.title


def _counts(columns: dict[str, np.ndarray], fold: Fold, trained: bool) -> list[Count]:
    """Faces by domain and kind: training faces first, then those that the threshold was chosen on."""
    used = (*fold.train_splits, "dev") if trained else ("dev",)
    chosen = np.isin(columns["domain"], fold.train_domains) & np.isin(columns["split"], used)
    cells: dict[tuple[str, str, Literal["train", "dev"]], list[int]] = defaultdict(list)
    for row in np.flatnonzero(chosen).tolist():
        attack_type = str(columns["attack_type"][row])
        kind = "live" if attack_type == NO_ATTACK else attack_type
        cells[str(columns["domain"][row]), kind, "dev" if columns["split"][row] == "dev" else "train"].append(row)
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
    live_faces = generator_done(planned.experiment)["live_faces"]
    return GeneratorFacts(
        domains=settings.domains, live_faces=live_faces, steps=settings.loop.steps, preset=settings.preset
    )


def _measured(planned: Planned, fold: Fold) -> Measured:
    judged = read_json(result_path(planned.experiment))["folds"][fold.name]
    rules = planned.experiment.evaluate
    numbers = own_numbers(judged, rules, planned.title)
    table = detector_run(planned.experiment, fold.name).scores(numbers["step"], "test").by_video()
    return Measured(
        domains=list(fold.test_domains),
        live_videos=judged["videos"]["bonafide"],
        attack_videos=judged["videos"]["attack"],
        replicates=rules.replicates,
        videos_per_type={kind: int((table.attack_type == kind).sum()) for kind in numbers["apcer_per_type"]},
        intervals=_intervals(table, numbers, rules.replicates),
        **{name: numbers[name] for name in (*_RATES, "apcer_per_type")},
    )


def _intervals(table: ScoreTable, numbers: dict[str, Any], replicates: int) -> dict[str, tuple[float, float]]:
    """95 % intervals of every rate, and of each attack type's under `apcer TYPE`, drawn as in the report."""
    ends = intervals(table, numbers["threshold"], _RATES, replicates)
    for kind in numbers["apcer_per_type"]:
        part = table.where((table.attack_type == kind) | (table.attack_type == NO_ATTACK))
        ends[f"apcer {kind}"] = intervals(part, numbers["threshold"], ("far",), replicates)["far"]
    return ends

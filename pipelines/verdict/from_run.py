"""Opening a detector of a finished experiment."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from pipelines.artefacts import detector_run, generator_done, load_maker, on_device
from pipelines.data.records import read_card
from pipelines.errors import AgfasError, nearest
from pipelines.evaluation.judge import own_numbers
from pipelines.experiment.plan import Planned, read_plan
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json
from pipelines.verdict.anti_spoofing import FaceAntiSpoofing
from pipelines.verdict.loaded import Loaded, part_of_detector, part_of_parser
from pipelines.verdict.preparation import face_settings
from pipelines.verdict.scorer import Scorer
from pipelines.verdict.settings import ModelSettings, ThresholdSettings


def open_run(
    run: Path,
    label: str | None,
    fold: str | None,
    loaded: Loaded,
    batch_size: int,
) -> FaceAntiSpoofing:
    """See `FaceAntiSpoofing.from_run`."""
    from pipelines.verdict.facts import describe

    planned = choose_experiment(read_plan(run), label)
    chosen, numbers = choose_fold(planned, fold)
    settings = _settings(planned, chosen, numbers, loaded)
    return FaceAntiSpoofing(
        settings,
        _scorer(planned, settings),
        partial(describe, planned, settings),
        loaded,
        batch_size,
    )


def choose_experiment(plan: list[Planned], label: str | None) -> Planned:
    """The first finished experiment of a label; without one, the first whose cue comes from the generator.

    Raises:
        AgfasError: an unknown label, none finished, or one whose cue a single picture does not have.
    """
    labels = list(dict.fromkeys(item.label for item in plan))
    if label is not None and label not in labels:
        raise AgfasError(f"No experiment is called '{label}': {nearest(label, labels)}")
    finished = [item for item in plan if (label is None or item.label == label) and result_path(item).is_file()]
    if not finished:
        what = f"'{label}' is" if label else "No experiment in this folder is"
        raise AgfasError(f"{what} not finished, so there is no detector to ask. Run the same command again to go on.")
    if label is None:
        finished.sort(key=_preference)
    chosen = finished[0]
    if Workspace(chosen.experiment).needs_cue() and chosen.experiment.cue.source == "shuffled":
        raise AgfasError(
            f"'{chosen.label}' is a control that gives every face another face's cue, which a single picture"
            " does not have. Choose another with --label."
        )
    return chosen


def choose_fold(planned: Planned, fold: str | None) -> tuple[str, dict[str, Any]]:
    """A fold's name and its numbers under the experiment's own rules.

    Raises:
        AgfasError: an unknown fold, or one that was not judged under those rules.
    """
    folds = read_json(result_path(planned))["folds"]
    if fold is not None and fold not in folds:
        raise AgfasError(f"'{planned.title}' has no fold '{fold}': {nearest(fold, folds)}")
    name = fold or next(iter(folds))
    return name, own_numbers(folds[name], planned.experiment.evaluate, planned.title)


def result_path(planned: Planned) -> Path:
    """Where the numbers of a finished experiment are."""
    return Workspace(planned.experiment).detector() / "result.json"


def _preference(item: Planned) -> int:
    workspace = Workspace(item.experiment)
    if not workspace.needs_cue():
        return 1
    return 2 if workspace.is_control() else 0


def _settings(planned: Planned, fold: str, numbers: dict[str, Any], loaded: Loaded) -> ModelSettings:
    experiment = planned.experiment
    workspace = Workspace(experiment)
    rules = experiment.evaluate
    return ModelSettings(
        label=planned.title,
        fold=fold,
        detector=experiment.detector.name,
        face=face_settings(read_card(workspace.faces), workspace.size),
        cue=experiment.cue if workspace.needs_cue() else None,
        threshold=ThresholdSettings(
            value=numbers["threshold"],
            rule=rules.threshold,
            selection=rules.selection,
            step=numbers["step"],
            origin=numbers["threshold_origin"],
        ),
        face_detector=part_of_detector(loaded.detector),
        face_parser=part_of_parser(loaded.parser),
    )


def _scorer(planned: Planned, settings: ModelSettings) -> Scorer:
    from pipelines.processes import device

    experiment = planned.experiment
    detector = detector_run(experiment, settings.fold).load(settings.threshold.step).to(device())
    if not settings.needs_generator:
        return Scorer(detector, settings.cue, None, "", device())
    weights = generator_done(experiment)["weights_sha256"]
    return Scorer(detector, settings.cue, on_device(load_maker(experiment)), weights, device())


def load_judge(folder: Path, device: str) -> Any:
    """The detector of a folder, on a device.

    Raises:
        AgfasError: it is missing or broken.
    """
    from oanet.detectors import load_detector

    try:
        return load_detector(folder).to(device).eval()
    except (OSError, ValueError, TypeError) as error:
        raise AgfasError(f"The detector at {folder} cannot be loaded: {error}") from error

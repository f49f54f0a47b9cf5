"""Reads an output folder; unfinished experiments are kept, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.data.protocols import protocol_folds
from pipelines.data.records import CARD_NAME, GROUP_COLUMNS, read_card, read_columns
from pipelines.errors import AgfasError
from pipelines.evaluation.settings import PAPERS_RULE
from pipelines.experiment.config import Experiment
from pipelines.experiment.plan import Planned, read_plan
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json
from pipelines.fingerprint import canonical_json
from pipelines.report.contents import Data, Gathered, Group, Study, TrainingRun, Trial
from pipelines.training.run import read_metrics


def gather(root: Path) -> Gathered:
    """Read an output folder.

    Raises:
        AgfasError: the folder holds no plan, or a JSON file in it is damaged.
    """
    data: dict[Path, Data | None] = {}
    trials = [_trial(planned, _data_of(planned, data)) for planned in read_plan(root)]
    studies = _studies(trials, data)
    cue_stores = {path.parent.name: read_json(path) for path in sorted((root / "cues").glob("*/store.json"))}
    return Gathered(root, studies, tuple(_shared_runs(root)), cue_stores)


def read_results(planned: Sequence[Planned]) -> tuple[Study, ...]:
    """The studies of these experiments from their results alone, without a look at faces and training runs."""
    return _studies([_judged(item) for item in planned], {})


def read_run(folder: Path, kind: str, title: str) -> TrainingRun:
    """A run folder; missing files are None or empty."""
    return TrainingRun(
        kind, title, folder, _optional(folder / "done.json"), _optional(folder / "environment.json"),
        read_metrics(folder),
    )  # fmt: skip


def read_trial(planned: Planned, folds: tuple[str, ...]) -> Trial:
    """An experiment with what its runs have left so far; its faces must exist."""
    folder = Workspace(planned.experiment).detector()
    begun = [fold for fold in folds if (folder / fold / "identity.json").is_file()]
    runs = {fold: read_run(folder / fold, "detector", f"{planned.title}, {fold}") for fold in begun}
    return Trial(planned, folder, folds, runs, _optional(folder / "result.json"))


def _data_of(planned: Planned, known: dict[Path, Data | None]) -> Data | None:
    """The experiment's faces, each dataset read once; None if they are missing."""
    folder = Workspace(planned.experiment).faces
    if folder not in known:
        known[folder] = _read_data(folder) if (folder / CARD_NAME).is_file() else None
    return known[folder]


def _read_data(folder: Path) -> Data:
    names = ("domain", "split", "attack_type", "label", "video")
    columns = {name: column.tolist() for name, column in read_columns(folder, names, optional=GROUP_COLUMNS).items()}
    kinds = list(zip(columns["domain"], columns["split"], columns["attack_type"], strict=True))
    videos = Counter(kind for kind, _ in set(zip(kinds, columns["video"], strict=True)))
    counts = {kind: (faces, videos[kind]) for kind, faces in Counter(kinds).items()}
    return Data(folder, read_card(folder), counts, columns)


def _trial(planned: Planned, data: Data | None) -> Trial:
    if data is None:
        return Trial(planned, problem="nothing made yet: its faces are missing")
    try:
        folds = tuple(fold.name for fold in protocol_folds(planned.experiment.protocol, data.columns))
    except AgfasError as error:
        return Trial(planned, problem=str(error))
    return read_trial(planned, folds)


def _judged(planned: Planned) -> Trial:
    try:
        folder = Workspace(planned.experiment).detector()
    except AgfasError as error:
        return Trial(planned, problem=str(error))
    result = _optional(folder / "result.json")
    return Trial(planned, folder, tuple(result["folds"]) if result else (), {}, result)


def _studies(trials: Sequence[Trial], data: Mapping[Path, Data | None]) -> tuple[Study, ...]:
    """Trials of the same faces, protocol and rules in one study."""
    parts: dict[str, list[Trial]] = {}
    for trial in trials:
        experiment = trial.planned.experiment
        shared = [experiment.data.model_dump(mode="json"), experiment.protocol.model_dump(mode="json"), trial.honest]
        parts.setdefault(canonical_json(shared), []).append(trial)
    return tuple(_study(part, data.get(Workspace(part[0].planned.experiment).faces)) for part in parts.values())


def _study(trials: list[Trial], data: Data | None) -> Study:
    grouped: dict[str, list[Trial]] = {}
    for trial in trials:
        grouped.setdefault(_group_name(trial.planned), []).append(trial)
    groups = tuple(
        Group(name, tuple(members), Workspace(members[0].planned.experiment).is_control(), number)
        for number, (name, members) in enumerate(grouped.items())
    )
    experiment = trials[0].planned.experiment
    folds = next((trial.folds for trial in trials if trial.folds), ())
    title = f"{experiment.protocol.name.replace('_', ' ')} on {_data_title(experiment)}"
    return Study(title, groups, folds, trials[0].honest, PAPERS_RULE, data)


def _group_name(planned: Planned) -> str:
    others = [f"{key}={value}" for key, value in planned.axes.items() if key != "seed"]
    return f"{planned.label} ({', '.join(others)})" if others else planned.label


def _data_title(experiment: Experiment) -> str:
    data = experiment.data
    if data.name == "synthetic":
        return f"the built-in synthetic benchmark at {data.size} px"
    return f"{data.title} at {data.size} px"


def _shared_runs(root: Path) -> list[TrainingRun]:
    kinds = (("identity", "identity encoder"), ("generator", "generator"))
    return [
        read_run(folder, kind, f"{title} {folder.name}")
        for kind, title in kinds
        for folder in sorted((root / kind).glob("*"))
        if (folder / "identity.json").is_file()
    ]


def _optional(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None

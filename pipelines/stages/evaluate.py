"""`agfas evaluate`: score tables of every kept checkpoint, and the numbers of every rule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.artefacts import Columns, DetectorRun, cue_reader
from pipelines.data.protocols import Fold, indices, protocol_folds
from pipelines.evaluation.scores import ScoreTable
from pipelines.experiment.config import Experiment
from pipelines.experiment.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.cues.reader import CueReader
    from pipelines.data.faces import Faces

_ROLES = ("dev", "test")


def run(experiment: Experiment, faces: Faces | None) -> Path:
    """Score what is not scored yet and write `result.json`; returns the experiment's folder.

    Args:
        experiment: its detectors are trained.
        faces: the dataset; None if all is scored (`is_finished`).
    """
    from pipelines.evaluation.judge import write_result

    if faces is not None:
        _score_missing(experiment, faces)
    folder = Workspace(experiment).detector()
    write_result(folder, experiment.evaluate)
    return folder


def _score_missing(experiment: Experiment, faces: Faces) -> None:
    runs = _runs(experiment, faces.columns())
    unscored = [(fold, run, step) for fold, run in runs for step in run.steps if not _is_scored(run, step)]
    reader = cue_reader(experiment, faces) if unscored else None
    for fold, run, step in unscored:
        _score(experiment, faces, reader, fold, run, step)


def is_finished(experiment: Experiment, columns: Columns) -> bool:
    """Whether every kept checkpoint of every fold is scored."""
    runs = [run for _, run in _runs(experiment, columns)]
    return all(run.is_finished and all(_is_scored(run, step) for step in run.steps) for run in runs)


def _runs(experiment: Experiment, columns: Columns) -> list[tuple[Fold, DetectorRun]]:
    folder = Workspace(experiment).detector()
    return [(fold, DetectorRun(folder / fold.name)) for fold in protocol_folds(experiment.protocol, columns)]


def _is_scored(run: DetectorRun, step: int) -> bool:
    return all(run.score_path(step, role).is_file() for role in _ROLES)


def _score(
    experiment: Experiment, faces: Faces, reader: CueReader | None, fold: Fold, run: DetectorRun, step: int
) -> None:
    from pipelines.evaluation.scoring import score_faces

    detector, parts = run.load(step), indices(faces.columns(), fold)
    for role in _ROLES:
        rows = parts[role]
        table = ScoreTable(
            key=faces.keys[rows],
            video=faces.videos[rows],
            subject=faces.subjects[rows],
            domain=faces.domains[rows],
            attack_type=faces.attack_types[rows],
            label=faces.labels[rows],
            score=score_faces(detector, faces, reader, rows, experiment.evaluate.batch_size),
        )
        table.save(run.score_path(step, role), metadata={"role": role, "step": step, "fold": fold.name})

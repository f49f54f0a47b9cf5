"""`agfas evaluate`: score tables of every kept checkpoint, and the numbers of every rule."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.artefacts.cues import cue_reader
from pipelines.artefacts.faces import Columns
from pipelines.artefacts.runs import DetectorRun
from pipelines.blocks import Job, SharedArray, remove_finished, share
from pipelines.data.protocols import Fold, indices, protocol_folds
from pipelines.evaluation.scores import RUN, ScoreTable
from pipelines.experiment.config import Experiment
from pipelines.experiment.workspace import Workspace
from pipelines.memory import free_models
from pipelines.processes import is_main
from pipelines.training.run import run_id

if TYPE_CHECKING:
    from oanet.detectors import Detector
    from pipelines.cues.reader import CueReader
    from pipelines.data.faces import Faces

_ROLES = ("dev", "test")
# Batches scored and written at once: the share of a table that one process takes.
_BATCHES_A_BLOCK = 4


def run(experiment: Experiment, faces: Faces | None) -> Path:
    """Score what is not scored yet, with every process, and write `result.json`; returns the experiment's folder.

    Args:
        experiment: its detectors are trained.
        faces: the dataset; None if all is scored (`is_finished`).
    """
    from pipelines.evaluation.judge import write_result

    if faces is not None:
        _score_missing(experiment, faces)
        free_models()
    folder = Workspace(experiment).detector()
    if is_main():
        for scores in folder.glob("*/scores/*.parquet"):
            remove_finished(scores)
        write_result(folder, experiment.evaluate)
    return folder


def _score_missing(experiment: Experiment, faces: Faces) -> None:
    runs = _runs(experiment, faces.columns())
    unscored = [(fold, run, step) for fold, run in runs for step in run.steps if not _is_scored(run, step)]
    if not unscored:
        return
    reader, load = cue_reader(experiment, faces), lru_cache(maxsize=1)(DetectorRun.load)
    jobs = []
    for fold, run, step in unscored:
        parts = indices(faces.columns(), fold)
        scorer = partial(load, run, step)
        for role in _ROLES:
            metadata = {"role": role, "step": step, "fold": fold.name, RUN: run_id(run.folder)}
            jobs.append(_scoring(experiment, faces, reader, parts[role], scorer, run.score_path(step, role), metadata))
    share(jobs, "score faces", "face")


def is_finished(experiment: Experiment, columns: Columns) -> bool:
    """Whether every kept checkpoint of every fold is scored."""
    runs = [run for _, run in _runs(experiment, columns)]
    return all(run.is_finished and all(_is_scored(run, step) for step in run.steps) for run in runs)


def _runs(experiment: Experiment, columns: Columns) -> list[tuple[Fold, DetectorRun]]:
    folder = Workspace(experiment).detector()
    return [(fold, DetectorRun(folder / fold.name)) for fold in protocol_folds(experiment.protocol, columns)]


def _is_scored(run: DetectorRun, step: int) -> bool:
    return all(run.score_path(step, role).is_file() for role in _ROLES)


def _scoring(
    experiment: Experiment,
    faces: Faces,
    reader: CueReader | None,
    rows: np.ndarray,
    load: Callable[[], Detector],
    path: Path,
    metadata: dict[str, Any],
) -> Job:
    """The job that writes one score table. Batches have fixed boundaries, so scores depend on no other process."""
    from pipelines.evaluation.scoring import score_faces

    size = experiment.evaluate.batch_size
    scores = SharedArray(path, (len(rows),), np.float64, _BATCHES_A_BLOCK * size, [metadata, size])

    def make(block: int) -> None:
        part = scores.rows(block)
        scores.write(block, score_faces(load(), faces, reader, rows[part.start : part.stop], size))

    def finish() -> None:
        table = ScoreTable(
            key=faces.keys[rows],
            video=faces.videos[rows],
            subject=faces.subjects[rows],
            domain=faces.domains[rows],
            attack_type=faces.attack_types[rows],
            label=faces.labels[rows],
            score=scores.whole(),
        )
        table.save(path, metadata=metadata)

    return Job(scores.blocks, make, finish, len(rows))

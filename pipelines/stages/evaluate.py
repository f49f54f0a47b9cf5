"""Stage 6: score tables of every kept checkpoint, and the numbers of every rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from oanet.detectors import load_detector
from pipelines.cues.reader import CueReader
from pipelines.data.faces import Faces
from pipelines.data.protocols import Fold, indices, protocol_folds
from pipelines.errors import AgfasError
from pipelines.evaluation.scores import ScoreTable
from pipelines.experiment.config import Experiment
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json
from pipelines.pixels import to_unit_range
from pipelines.processes import device
from pipelines.stages.detector_cues import cue_reader


def run(experiment: Experiment, faces: Faces) -> Path:
    """Score what was not scored yet and write `result.json`; returns the experiment's folder."""
    from pipelines.evaluation.judge import write_result

    folder = Workspace(experiment).detector()
    folds = protocol_folds(experiment.protocol, faces.columns())
    reader: list[CueReader | None] = []
    for fold in folds:
        for step in _snapshots(folder / fold.name):
            if not _scored(folder / fold.name, step):
                reader = reader or [cue_reader(experiment, faces)]
                _score_snapshot(experiment, faces, reader[0], fold, folder / fold.name, step)
    write_result(folder, experiment.evaluate)
    return folder


def score_faces(detector: Any, faces: Faces, reader: CueReader | None, rows: np.ndarray, batch_size: int) -> np.ndarray:
    """Probability of bona fide of some faces, float64 (N,)."""
    scores = []
    detector = detector.to(device()).eval()
    with torch.no_grad():
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            image = to_unit_range(faces.images[part]).to(device())
            cue = None if reader is None else reader.batch(part).to(device())
            scores.append(detector(image, cue).probability_bonafide.double().cpu().numpy())
    return np.concatenate(scores)


def _snapshots(folder: Path) -> list[int]:
    done = folder / "done.json"
    if not done.is_file():
        raise AgfasError(f"{folder} holds no finished detector. Run `agfas train` with the same configuration first.")
    return list(read_json(done)["snapshots"])


def _scored(folder: Path, step: int) -> bool:
    return all(_table_path(folder, step, role).is_file() for role in ("dev", "test"))


def _table_path(folder: Path, step: int, role: str) -> Path:
    return folder / "scores" / f"step_{step:06d}-{role}.parquet"


def _score_snapshot(
    experiment: Experiment, faces: Faces, reader: CueReader | None, fold: Fold, folder: Path, step: int
) -> None:
    detector = load_detector(folder / "snapshots" / f"step_{step:06d}")
    parts = indices(faces.columns(), fold)
    for role in ("dev", "test"):
        rows = parts[role]
        scores = score_faces(detector, faces, reader, rows, experiment.evaluate.batch_size)
        table = ScoreTable(
            key=faces.keys[rows],
            video=faces.videos[rows],
            subject=faces.subjects[rows],
            domain=faces.domains[rows],
            attack_type=faces.attack_types[rows],
            label=faces.labels[rows],
            score=scores,
        )
        table.save(_table_path(folder, step, role), metadata={"role": role, "step": step, "fold": fold.name})

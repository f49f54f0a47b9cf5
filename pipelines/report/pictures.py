"""The report's grid of faces, each with its restoration, cue and attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.data.records import BONAFIDE, NO_ATTACK
from pipelines.errors import AgfasError
from pipelines.evaluation.scores import ScoreTable
from pipelines.experiment.workspace import Workspace
from pipelines.report.contents import Study, Trial
from pipelines.verdict.overlay import draw_panels


@dataclass(frozen=True)
class PictureRow:
    """One face of the grid.

    Attributes:
        name: live or the attack type, and why it was chosen.
        score: the detector's.
        pictures: by the column's name, (H, W, 3) uint8.
    """

    name: str
    score: float
    pictures: dict[str, np.ndarray]


@dataclass(frozen=True)
class PictureGrid:
    """Faces of one test fold under one detector."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[PictureRow, ...]


def picture_grid(study: Study, fold: str | None = None) -> PictureGrid:
    """A typical and the hardest face of each kind, from one fold of the last finished experiment.

    Args:
        study: at least one experiment of it is finished.
        fold: name of the fold; default: the first.

    Raises:
        AgfasError: nothing is finished, or what the pictures are made of is gone; says what.
    """
    trial = last_finished(study)
    fold = fold or trial.folds[0]
    assert trial.folder is not None
    step = (trial.numbers(fold, trial.honest) or {})["step"]
    table = ScoreTable.load(trial.folder / fold / "scores" / f"step_{step:06d}-test.parquet")
    chosen = _choose(table)
    made = _make(trial, fold, step, [str(table.key[row]) for row in chosen.values()])
    rows = tuple(
        PictureRow(name, float(table.score[row]), pictures)
        for (name, row), pictures in zip(chosen.items(), made, strict=True)
    )
    caption = (
        f"{trial.planned.title}, {fold}, step {step}. Typical: the middle score of its kind; hardest: the"
        " live face with the lowest, the attack with the highest score. The cue is grey at 0 and scaled to"
        " three standard deviations; attention is the mean over blocks, heads and image tokens."
    )
    return PictureGrid(caption, tuple(made[0]), rows)


def last_finished(study: Study) -> Trial:
    """The experiment that pictures are made of: a finished one of the last group, one that takes a cue before others.

    Raises:
        AgfasError: none is finished.
    """
    groups = [group for group in study.groups if group.finished]
    if not groups:
        raise AgfasError("No experiment is finished, so there are no faces to show yet.")
    ranked = sorted(groups, key=lambda group: (group.takes_cue and not group.is_control, group.number))
    return next(trial for trial in ranked[-1].trials if trial.finished)


def _choose(table: ScoreTable) -> dict[str, int]:
    """Row of a typical and of the hardest face of every kind."""
    chosen = {}
    for kind in sorted(set(table.attack_type.tolist()), key=lambda kind: (kind != NO_ATTACK, kind)):
        rows = np.flatnonzero(table.attack_type == kind)
        rows = rows[np.lexsort((table.key[rows], table.score[rows]))]
        name = "live" if kind == NO_ATTACK else kind
        chosen[f"{name}, typical"] = int(rows[len(rows) // 2])
        hardest = rows[0] if table.label[rows[0]] == BONAFIDE else rows[-1]
        chosen[f"{name}, hardest"] = int(hardest)
    return chosen


@dataclass(frozen=True)
class Opened:
    """A trained detector, and the faces that it is to see.

    Attributes:
        detector: in evaluation mode.
        faces: the whole dataset.
        rows: (N,) of the faces.
        reader: of their cues, or None.
    """

    detector: Any
    faces: Any
    rows: np.ndarray
    reader: Any


def open_detector(trial: Trial, fold: str, step: int, keys: list[str]) -> Opened:
    """The detector of one step and the faces of these keys.

    Raises:
        AgfasError: its weights or the faces' cues are gone.
    """
    from oanet.detectors import load_detector
    from pipelines.artefacts import cue_reader
    from pipelines.data.faces import open_faces

    experiment = trial.planned.experiment
    workspace = Workspace(experiment)
    faces = open_faces(workspace.faces, workspace.size)
    place = {str(key): row for row, key in enumerate(faces.keys)}
    rows = np.array([place[key] for key in keys])
    reader = cue_reader(experiment, faces)
    assert trial.folder is not None
    try:
        detector = load_detector(trial.folder / fold / "snapshots" / f"step_{step:06d}")
    except (OSError, ValueError) as error:
        raise AgfasError(f"The detector of {trial.planned.title} cannot be loaded: {error}") from error
    return Opened(detector.eval(), faces, rows, reader)


def _make(trial: Trial, fold: str, step: int, keys: list[str]) -> list[dict[str, np.ndarray]]:
    """The pictures of the faces of these keys."""
    import torch

    from pipelines.pixels import to_unit_range

    opened = open_detector(trial, fold, step, keys)
    faces, rows, reader = opened.faces, opened.rows, opened.reader
    cue = None if reader is None else reader.batch(rows)
    needs = Workspace(trial.planned.experiment).needs_restoration()
    restored = reader.cues(rows)[1] if reader is not None and needs else None
    image = to_unit_range(faces.images[rows])
    made = []
    with torch.no_grad():
        for i in range(len(rows)):
            part = None if cue is None else cue[i : i + 1]
            output = opened.detector(image[i : i + 1], part, need_weights=True)
            made.append(
                draw_panels(
                    np.asarray(faces.images[rows[i]]),
                    None if restored is None else restored[i],
                    None if part is None else part[0].numpy(),
                    output.attention,
                )
            )
    return made

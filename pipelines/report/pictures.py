"""The grid of faces: a typical and the hardest of each kind, with their restorations, cues and attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines.artefacts.cues import cue_reader
from pipelines.artefacts.faces import open_faces
from pipelines.data.records import BONAFIDE, NO_ATTACK
from pipelines.errors import AgfasError
from pipelines.evaluation.scores import ScoreTable
from pipelines.experiment.workspace import Workspace
from pipelines.report.contents import Study, Trial
from pipelines.verdict.overlay import draw_panels

if TYPE_CHECKING:
    from oanet.detectors import Detector
    from pipelines.cues.reader import CueReader
    from pipelines.data.faces import Faces


@dataclass(frozen=True)
class PictureRow:
    """One face of the grid.

    Attributes:
        name: `live` or the attack type, and `typical` or `hardest`.
        score: probability of bona fide.
        pictures: (H, W, 3) uint8 by column.
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
    """The grid of one fold of the experiment that `shown_trial` chooses.

    Args:
        study: at least one of its experiments is finished.
        fold: name of the fold; default: the first.

    Raises:
        AgfasError: no experiment is finished, or its scores, detector, faces or cues are missing.
    """
    trial = shown_trial(study)
    fold = fold or trial.folds[0]
    step = (trial.numbers(fold, trial.honest) or {})["step"]
    table = trial.detector_run(fold).scores(step, "test")
    chosen = _choose(table)
    made = _make(trial, fold, step, [str(table.key[row]) for row in chosen.values()])
    rows = tuple(
        PictureRow(name, float(table.score[row]), pictures)
        for (name, row), pictures in zip(chosen.items(), made, strict=True)
    )
    caption = (
        f"{trial.planned.title}, {fold}, step {step}. Typical: the median score of its kind; hardest: the live face"
        " with the lowest, the attack with the highest score. The cue is grey at 0 and scaled to three standard"
        " deviations; attention is the mean over blocks, heads and image tokens."
    )
    return PictureGrid(caption, tuple(made[0]), rows)


def shown_trial(study: Study) -> Trial:
    """The experiment that is shown in pictures: a finished one of the last group, preferably one that takes a cue.

    Raises:
        AgfasError: no experiment is finished.
    """
    groups = [group for group in study.groups if group.finished]
    if not groups:
        raise AgfasError("No experiment is finished yet.")
    ranked = sorted(groups, key=lambda group: (group.takes_cue and not group.is_control, group.number))
    return next(trial for trial in ranked[-1].trials if trial.finished)


def _choose(table: ScoreTable) -> dict[str, int]:
    """The row of a typical and of the hardest face of every kind."""
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
    """A trained detector and some faces of its dataset.

    Attributes:
        detector: in evaluation mode, on the CPU.
        faces: the whole dataset.
        rows: (N,) indices of the faces.
        reader: of their cues, or None if the detector takes none.
    """

    detector: Detector
    faces: Faces
    rows: np.ndarray
    reader: CueReader | None


def open_detector(trial: Trial, fold: str, step: int, keys: list[str]) -> Opened:
    """The detector of one step and the faces of these keys.

    Raises:
        AgfasError: the detector, the faces or their cues are missing.
    """
    experiment = trial.planned.experiment
    faces = open_faces(experiment)
    place = {str(key): row for row, key in enumerate(faces.keys)}
    if missing := [key for key in keys if key not in place]:
        raise AgfasError(f"The faces {faces.folder} lack {len(missing)} of the scored ones, such as '{missing[0]}'.")
    rows = np.array([place[key] for key in keys])
    reader = cue_reader(experiment, faces)
    return Opened(trial.detector_run(fold).load(step), faces, rows, reader)


def _make(trial: Trial, fold: str, step: int, keys: list[str]) -> list[dict[str, np.ndarray]]:
    """The panels of the faces of these keys."""
    import torch

    from pipelines.evaluation.sight import look
    from pipelines.pixels import to_unit_range

    opened = open_detector(trial, fold, step, keys)
    faces, rows, reader = opened.faces, opened.rows, opened.reader
    cue = None if reader is None else reader.batch(rows)
    needs = Workspace(trial.planned.experiment).needs_restoration()
    restored = reader.cues(rows)[1] if reader is not None and needs else None
    seen, _ = look(opened.detector, faces, rows)
    image = to_unit_range(seen)
    made = []
    for i in range(len(rows)):
        part = None if cue is None else cue[i : i + 1]
        with torch.no_grad():
            attention = opened.detector(image[i : i + 1], part, need_weights=True).attention
        shown = None if restored is None else restored[i], None if part is None else part[0].numpy()
        made.append(draw_panels(np.asarray(seen[i]), *shown, attention))
    return made

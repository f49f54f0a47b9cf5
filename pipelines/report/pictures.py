"""Faces, restorations, cues and attention as pictures, for the report's grid and for `agfas detect`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pipelines.data.records import BONAFIDE, NO_ATTACK
from pipelines.errors import AgfasError
from pipelines.evaluation.scores import ScoreTable
from pipelines.experiment.workspace import Workspace
from pipelines.report.contents import Study, Trial

# Standard deviations of a cue that black and white stand for.
_CUE_RANGE = 3.0
_HEAT_SHARE = 0.55


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


def cue_pictures(cue: np.ndarray) -> dict[str, np.ndarray]:
    """A cue (C, H, W), C a multiple of 3, as pictures (H, W, 3) uint8: grey is 0, scaled to 3 deviations."""
    parts = np.split(cue, len(cue) // 3)
    names = ["cue"] if len(parts) == 1 else [f"cue, part {number + 1}" for number in range(len(parts))]
    return {name: _signed(part) for name, part in zip(names, parts, strict=True)}


def attention_picture(attention: Any, face: np.ndarray) -> np.ndarray | None:
    """Where the image's tokens look in the cue: the mean over blocks, heads and tokens, laid on the face.

    Args:
        attention: maps (1, heads, T, N) of every block, or None.
        face: (H, W, 3) uint8.

    Returns:
        (H, W, 3) uint8; None without maps, or where the N cue tokens form no square.
    """
    if not attention:
        return None
    weights = np.mean([np.asarray(block.float().cpu())[0].mean(axis=(0, 1)) for block in attention], axis=0)
    side = math.isqrt(len(weights))
    if side * side != len(weights):
        return None
    spread = float(weights.max() - weights.min())
    level = (weights - weights.min()) / spread if spread > 0 else np.zeros_like(weights)
    small = Image.fromarray((255 * level.reshape(side, side)).astype(np.uint8))
    heat = _heat(np.asarray(small.resize(face.shape[1::-1], Image.Resampling.BICUBIC)))
    grey = np.repeat(face.mean(axis=2, keepdims=True), 3, axis=2)
    return np.round(_HEAT_SHARE * heat + (1 - _HEAT_SHARE) * grey).astype(np.uint8)


def panels(
    face: np.ndarray, restored: np.ndarray | None, cue: np.ndarray | None, attention: Any
) -> dict[str, np.ndarray]:
    """What there is of face, restoration, cue and attention, by name, each (H, W, 3) uint8."""
    pictures = {"face": face}
    if restored is not None:
        pictures["restoration"] = restored
    if cue is not None:
        pictures |= cue_pictures(cue)
    seen = attention_picture(attention, face)
    return pictures if seen is None else {**pictures, "attention": seen}


def picture_grid(study: Study) -> PictureGrid:
    """A typical and the hardest face of each kind, from the first fold of the last finished experiment.

    Raises:
        AgfasError: nothing is finished, or what the pictures are made of is gone; says what.
    """
    trial = last_finished(study)
    fold = trial.folds[0]
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
    from pipelines.data.faces import open_faces
    from pipelines.stages.detector_cues import cue_reader

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
                panels(
                    np.asarray(faces.images[rows[i]]),
                    None if restored is None else restored[i],
                    None if part is None else part[0].numpy(),
                    output.attention,
                )
            )
    return made


def _signed(part: np.ndarray) -> np.ndarray:
    scale = _CUE_RANGE * float(part.std()) or 1.0
    shares = np.clip(part.transpose(1, 2, 0) / scale, -1, 1)
    return np.round((shares + 1) * 127.5).astype(np.uint8)


def _heat(level: np.ndarray) -> np.ndarray:
    """uint8 (H, W) as colours (H, W, 3) in [0, 255], dark to bright."""
    from matplotlib import colormaps

    return np.asarray(colormaps["inferno"](level)[..., :3]) * 255

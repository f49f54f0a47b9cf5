"""A detector's error rates on the faces of a dataset, judged as their pictures would be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from oanet.published import CROP
from pipelines.data.records import SPLITS, load_faces
from pipelines.errors import AgfasError, nearest
from pipelines.evaluation.metrics import Metrics, report
from pipelines.evaluation.scores import TEXT_COLUMNS, ScoreTable
from pipelines.verdict.anti_spoofing import FaceAntiSpoofing

if TYPE_CHECKING:
    from datasets import Dataset

_FACES_AT_ONCE = 256


def evaluate(
    detector: FaceAntiSpoofing,
    dataset: Dataset | str | Path,
    *,
    split: str | None = "test",
    threshold: float | None = None,
) -> Metrics:
    """The error rates of a detector on a face dataset; a video has the mean score of its frames.

    A network that sees the aligned crop gets the dataset's as it is, any other the whole picture. A face that is
    refused, or not found in its picture, has the score 0: it is not accepted as live.

    Args:
        detector: of `from_run`, `from_pretrained` or `from_published`.
        dataset: of `agfas.load_dataset`, or its folder.
        split: `train`, `dev` or `test`; None for all. Of the data that it was trained on, a detector has seen `train`,
            and its threshold is of `dev`.
        threshold: the score from which a face is live; default: the detector's own.

    Raises:
        AgfasError: an unknown split, no face or one class alone in it, or no whole pictures where they are needed.
    """
    faces = load_faces(Path(dataset)) if isinstance(dataset, (str, Path)) else dataset
    table = score(detector, _of_split(faces, split))
    return report(table.by_video(), detector.settings.threshold.value if threshold is None else threshold)


def score(detector: FaceAntiSpoofing, faces: Dataset) -> ScoreTable:
    """The score of every face of a dataset, as `evaluate` counts it.

    Raises:
        AgfasError: the network sees whole pictures, and the dataset lacks one.
    """
    columns = {name: faces[name][:] for name in (*TEXT_COLUMNS, "label")}
    return ScoreTable(**columns, score=np.fromiter(_scores(detector, faces), dtype=np.float64))


def _scores(detector: FaceAntiSpoofing, faces: Dataset) -> Iterator[float]:
    aligned = detector.settings.sees == CROP
    column = "image" if aligned else "picture"
    for start in range(0, len(faces), _FACES_AT_ONCE):
        pictures = faces[start : start + _FACES_AT_ONCE].get(column, [None])
        if None in pictures:
            raise AgfasError(
                f"'{detector.settings.detector}' sees more than the crop, and this dataset lacks whole pictures. Make"
                " it again with `agfas prepare --keep-picture`."
            )
        for verdict in detector.as_prepared()(pictures, aligned=aligned):
            yield verdict.score or 0.0


def _of_split(faces: Dataset, split: str | None) -> Dataset:
    if split is None:
        return faces
    if split not in SPLITS:
        raise AgfasError(f"Unknown split '{split}'; {nearest(split, SPLITS)} None is all of them.")
    rows = np.flatnonzero(np.asarray(faces["split"][:]) == split)
    if not len(rows):
        raise AgfasError(f"The dataset has no faces of the split '{split}'. Give another one, or None for all.")
    return faces.select(rows)

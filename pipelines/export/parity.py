"""Whether an exported graph gives the scores of torch: compared on faces, and refused beyond a tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.data.crop import to_square
from pipelines.errors import AgfasError, in_short
from pipelines.export.predict import Model
from pipelines.synthetic.benchmark import plan_videos, render_faces
from pipelines.synthetic.settings import SyntheticSettings
from pipelines.verdict.exported import Parity
from pipelines.verdict.scorer import Scorer
from pipelines.verdict.settings import ThresholdSettings

FACES = 256
"""How many faces are compared."""

CALIBRATION = 64
"""How many live faces choose the ranges of int8."""

TOLERANCES = {"float32": (1e-3, 0.005), "float16": (0.01, 0.01), "int8": (0.1, 0.05)}
"""Largest accepted difference of a score, and share of other verdicts, by precision."""

BATCH = 16
# Larger faces are drawn at this side and enlarged: parity needs textures, not detail, and drawing takes long.
_LARGEST_DRAWN = 128


@dataclass(frozen=True)
class Faces:
    """Faces to compare on.

    Attributes:
        crops: (N, S, S, 3) uint8, live ones and attacks.
        live: (M, S, S, 3) uint8, other live ones.
        words: where they come from.
    """

    crops: np.ndarray
    live: np.ndarray
    words: str


def drawn_faces(size: int, number: int = FACES, live: int = CALIBRATION) -> Faces:
    """Faces of the built-in benchmark, of every domain and kind."""
    side = min(size + size % 2, _LARGEST_DRAWN)
    subjects = max(5, -(-number // 24))
    settings = SyntheticSettings(
        size=max(32, side), subjects=subjects, frames=1, corpus_subjects=max(1, live), corpus_images=1
    )
    videos = plan_videos(settings)
    judged, corpus = videos[: 24 * subjects], videos[24 * subjects :]
    chosen = [judged[place] for place in _spread(len(judged), number)]
    pictures, _ = render_faces([*chosen, *corpus[:live]], settings.seed, settings.size)
    crops = np.stack([to_square(picture, size) for picture in pictures])
    return Faces(crops[: len(chosen)], crops[len(chosen) :], "drawn by the built-in benchmark")


def dataset_faces(folder: Path, size: int, number: int = FACES, live: int = CALIBRATION) -> Faces:
    """Faces of a prepared dataset, evenly spaced.

    Raises:
        AgfasError: no dataset, or one without live faces.
    """
    from pipelines.data.faces import open_faces

    faces = open_faces(folder, size)
    labels = np.asarray(faces.labels)
    chosen = _spread(len(labels), number)
    others = np.setdiff1d(np.flatnonzero(labels == 1), chosen)
    if not len(others):
        others = np.flatnonzero(labels == 1)
    if not len(others):
        raise AgfasError(f"{folder} has no live faces, which choose the ranges of the graph. Give another dataset.")
    rows = others[_spread(len(others), live)]
    return Faces(np.asarray(faces.images[chosen]), np.asarray(faces.images[rows]), f"of {folder.name}")


def _spread(total: int, number: int) -> np.ndarray:
    return np.unique(np.linspace(0, total - 1, min(total, number)).round().astype(int))


def compare(scorer: Scorer, folder: Path, faces: Faces, threshold: ThresholdSettings, precision: str) -> Parity:
    """The scores of an exported folder, by its own `predict.py`, beside those of torch.

    Raises:
        AgfasError: the graph cannot be run.
    """
    most, share = TOLERANCES[precision]
    largest, changed = 0.0, 0
    try:
        model = Model(folder)
    except Exception as error:  # what runs the graph raises what it likes
        raise AgfasError(f"The {precision} graph is not kept, as it cannot be run ({in_short(error)}).") from error
    for start in range(0, len(faces.crops), BATCH):
        crops = faces.crops[start : start + BATCH]
        expected = scorer(crops)
        found, classes = model.scores(crops)
        largest = max(largest, float(np.abs(found - expected.scores).max()))
        verdicts = [_live(*pair, threshold) for pair in ((found, classes), (expected.scores, expected.attack_classes))]
        changed += int((verdicts[0] != verdicts[1]).sum())
    number = len(faces.crops)
    return Parity(
        faces=number, of=faces.words, largest=largest, changed=changed, most=most, most_changed=int(share * number)
    )


def _live(scores: np.ndarray, classes: np.ndarray, threshold: ThresholdSettings) -> np.ndarray:
    return scores >= (classes.max(axis=1) if threshold.by_class and classes.size else threshold.value)

"""Whether an exported graph gives the scores of torch: compared on faces, and refused beyond a tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.data.crop import to_square
from pipelines.data.records import BONAFIDE
from pipelines.errors import AgfasError, in_short
from pipelines.export.int8 import Layers
from pipelines.export.predict import Model
from pipelines.synthetic.benchmark import plan_videos, render_faces
from pipelines.synthetic.settings import SyntheticSettings
from pipelines.verdict.exported import Parity
from pipelines.verdict.scorer import Scorer
from pipelines.verdict.settings import ThresholdSettings

FACES = 256
"""How many faces are compared."""

CALIBRATION = 256
"""How many other faces choose the ranges of int8."""

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
        others: (M, S, S, 3) uint8, of both kinds too.
        words: where they come from.
    """

    crops: np.ndarray
    others: np.ndarray
    words: str


def drawn_faces(size: int, number: int = FACES, others: int = CALIBRATION) -> Faces:
    """Faces of the built-in benchmark, of every domain and kind."""
    subjects = max(5, -(-(number + others) // 24))
    settings = SyntheticSettings(size=_drawn_at(size), subjects=subjects, frames=1, corpus_subjects=0)
    videos = plan_videos(settings)
    pictures, _ = render_faces([videos[place] for place in _spread(len(videos), number + others)], 0, settings.size)
    crops = np.stack([to_square(picture, size) for picture in pictures])
    return Faces(*_dealt(crops, number / (number + others)), "drawn by the built-in benchmark")


def dataset_faces(folder: Path, size: int, number: int = FACES, others: int = CALIBRATION) -> Faces:
    """Faces of a prepared dataset, evenly spaced; of one without attacks, a quarter are attacks simulated from it.

    Raises:
        AgfasError: no dataset, or one without live faces.
    """
    from pipelines.data.faces import open_faces

    faces = open_faces(folder, size)
    is_live = np.asarray(faces.labels) == BONAFIDE
    if not is_live.any():
        raise AgfasError(f"{folder} has no live faces, and scores are compared on both kinds. Give another dataset.")
    made = 0 if not is_live.all() else (number + others) // 4
    crops = np.asarray(faces.images[_spread(len(faces), number + others - made)])
    words = f"of {folder.name}"
    if made:
        crops = np.concatenate([crops, _simulated(folder, size, made)])
        words += ", with attacks simulated from them"
    return Faces(*_dealt(crops, number / (number + others)), words)


def _simulated(folder: Path, size: int, number: int) -> np.ndarray:
    """Attacks of all kinds that fit, evenly spaced over the dataset."""
    from pipelines.synthetic.settings import SimulationSettings
    from pipelines.synthetic.simulation import Simulation

    made = Simulation(folder, folder, SimulationSettings(size=_drawn_at(size)))
    pairs = [made.plan.pairs[place] for place in _spread(len(made.plan.pairs), number)]
    return np.stack([to_square(made.picture(pair, pair.kind)[0], size) for pair in pairs])


def _drawn_at(size: int) -> int:
    return max(32, min(size + size % 2, _LARGEST_DRAWN))


def _dealt(crops: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """A share, evenly spaced, and the others; a single crop is both."""
    chosen = _spread(len(crops), max(1, round(share * len(crops))))
    others = np.setdiff1d(np.arange(len(crops)), chosen)
    return crops[chosen], crops[others if len(others) else chosen]


def _spread(total: int, number: int) -> np.ndarray:
    return np.unique(np.linspace(0, total - 1, min(total, number)).round().astype(int))


def compare(
    scorer: Scorer,
    folder: Path,
    faces: Faces,
    threshold: ThresholdSettings,
    precision: str,
    layers: Layers | None = None,
) -> Parity:
    """The scores of an exported folder, by its own `predict.py`, beside those of torch; `layers` is of an int8 graph.

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
        faces=number, of=faces.words, largest=largest, changed=changed, most=most, most_changed=int(share * number),
        **({} if layers is None else {"kept": layers.kept, "layers": layers.layers}),
    )  # fmt: skip


def _live(scores: np.ndarray, classes: np.ndarray, threshold: ThresholdSettings) -> np.ndarray:
    return scores >= (classes.max(axis=1) if threshold.by_class and classes.size else threshold.value)

"""One calibration after another: who is in the fit, who is judged, and what it gives for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pipelines.evaluation.bootstrap import interval
from pipelines.evaluation.metrics import roc
from pipelines.verdict.calibration.fit import fit, joined, quantile
from pipelines.verdict.calibration.people import LiveFaces
from scripts.calibrating.seen import Seen

BPCER = 0.05
DRAWS, REPLICATES = 20, 2000
SCORE, DISTANCE, BOTH = "score", "distance", "both"


@dataclass(frozen=True)
class Judged:
    """A test set at one calibration, a score by each rule and the thresholds.

    Attributes:
        scores: by `SCORE`, `DISTANCE` and `BOTH`, (N,) of the test faces.
        thresholds: by a rule's name.
    """

    scores: Mapping[str, np.ndarray]
    thresholds: Mapping[str, float]


RULES = {
    "score, as it was": SCORE,
    "score, pooled": SCORE,
    "score, by person": SCORE,
    "head, pooled": BOTH,
    "head, by person": BOTH,
    "head, fitted faces (control)": BOTH,
}
"""What a threshold is of: a quantile of the held-out scores of faces, pooled or with every person counting alike; of
the control, a quantile of the very faces that the head was fitted to."""


def judge(calibration: LiveFaces, test: Seen, own: float = 0.5) -> Judged:
    """Calibrate on live faces, and judge others."""
    fitted = fit(calibration, BPCER)
    gaussian = fitted.gaussian
    assert fitted.head is not None
    assert gaussian is not None
    distances = gaussian.distances(test.features)
    scales = fitted.head.scales.double().cpu().numpy()
    both = joined(test.odds, distances, scales)
    inside = joined(calibration.odds, gaussian.distances(calibration.features), scales)
    alike = np.ones(len(calibration.group))
    thresholds = {
        "score, as it was": own,
        "score, pooled": quantile(calibration.scores, alike, BPCER),
        "score, by person": quantile(calibration.scores, calibration.weights, BPCER),
        "head, pooled": quantile(fitted.held_out, alike, BPCER),
        "head, by person": fitted.threshold,
        "head, fitted faces (control)": quantile(inside, alike, BPCER),
    }
    return Judged({SCORE: test.scores, DISTANCE: -distances, BOTH: both}, thresholds)


def auc(live: np.ndarray, scores: np.ndarray) -> float:
    """Area under the curve."""
    return roc(live.astype(np.int64), scores).auc()


def by_person(test: Seen, judged: Judged) -> dict[str, dict[str, float]]:
    """For every person of a test set AUC by score, and BPCER and APCER by rule, of their own faces."""
    found: dict[str, dict[str, float]] = {}
    for person in test.persons:
        rows = test.person == person
        live, values = test.live[rows], {}
        for name, scores in judged.scores.items():
            values[f"auc {name}"] = auc(live, scores[rows])
        for rule, of in RULES.items():
            accepted = judged.scores[of][rows] >= judged.thresholds[rule]
            values[f"bpcer {rule}"] = float((~accepted[live]).mean())
            values[f"apcer {rule}"] = float(accepted[~live].mean())
        found[person] = values
    return found


@dataclass
class Means:
    """Over many calibrations: the mean of each person's values, so that persons, not calibrations, are drawn."""

    of: dict[str, dict[str, list[float]]]
    pooled: dict[str, list[float]]

    @classmethod
    def empty(cls) -> Means:
        return cls({}, {})

    def add(self, test: Seen, judged: Judged) -> None:
        """Take one calibration in."""
        for person, values in by_person(test, judged).items():
            for name, value in values.items():
                self.of.setdefault(person, {}).setdefault(name, []).append(value)
        for name, scores in judged.scores.items():
            self.pooled.setdefault(f"auc {name}", []).append(auc(test.live, scores))

    def mean(self, name: str) -> tuple[float, tuple[float, float]]:
        """Of the persons, and its interval by a bootstrap of persons."""
        values = np.array([np.mean(person[name]) for person in self.of.values()])
        draws = np.random.default_rng(0).integers(0, len(values), (REPLICATES, len(values)))
        return float(values.mean()), interval(values[draws].mean(axis=1))


def subsets(persons: Sequence[str], size: int, seed: int = 0) -> Iterator[tuple[str, ...]]:
    """All choices of so many persons, or `DRAWS` of them."""
    every = list(combinations(persons, size))
    order = np.random.default_rng(seed).permutation(len(every))[:DRAWS] if len(every) > DRAWS else range(len(every))
    yield from (every[place] for place in order)


def some(faces: Seen, number: int | None, seed: int) -> Seen:
    """So many of the faces, as even over the persons as they go; None: all."""
    if number is None or number >= len(faces.odds):
        return faces
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(faces.odds))
    turn = np.empty(len(shuffled))
    for person in faces.persons:
        mine = shuffled[faces.person[shuffled] == person]
        turn[mine] = np.arange(len(mine)) + random.random()
    return faces.where(np.sort(np.argsort(turn)[:number]))


def percent(value: tuple[float, tuple[float, float]]) -> str:
    """A rate and its interval in percent."""
    mean, (low, high) = value
    return f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def mean_auc(aucs: Iterable[float]) -> str:
    """The mean of areas, as the literature writes them."""
    return f"{np.mean(list(aucs)):.3f}"

"""The fit of a head and the choice of its threshold, each person judged by a Gaussian that has never seen them.

A quantile of the fitted faces' own distances would reject nearly every other face, as the faces that a Gaussian was
fitted to lie closer than all others. So the scores that the threshold is a quantile of are held out: person by person,
the Gaussian is fitted to the others; the head is the mean of those Gaussians. The two means and deviations that join
distance and log-odds are those of all held-out values.

How well the threshold keeps its promise is measured once more without the person: the share of each one's captures that
the threshold of the other persons' scores rejects (the jackknife of Barber et al. 2021, "Predictive inference with the
jackknife+", by person). Its interval is Clopper and Pearson's with as many trials as persons: pictures of one person
are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.errors import AgfasError
from pipelines.evaluation.exact import Tally
from pipelines.verdict.calibration.head import SOFTNESS, Gaussian, OneClassHead
from pipelines.verdict.calibration.people import LiveFaces
from pipelines.verdict.settings import Calibration, Sees

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Fitted:
    """A calibration.

    Attributes:
        head: None for a threshold alone.
        gaussian: the same distance in float64; None for a threshold alone.
        threshold: a face is live if its score is at least this.
        facts: for the settings.
        held_out: (C,) score of each capture, its person held out of the fit.
    """

    head: OneClassHead | None
    gaussian: Gaussian | None
    threshold: float
    facts: Calibration
    held_out: np.ndarray


def calibrate(faces: LiveFaces, bpcer: float = 0.05, sees: Sees = "both", head: bool = True) -> Fitted:
    """Fit a head to live faces, and choose the threshold that rejects the share `bpcer` of persons unseen.

    Args:
        faces: of several persons.
        bpcer: share of captures to reject, every person counting alike.
        sees: what the features are of.
        head: with a head; else the detector's own score keeps its meaning, and the threshold alone is chosen.

    Raises:
        AgfasError: too few persons or faces, or features that do not differ.
    """
    faces.check(bpcer, head)
    return fit(faces, bpcer, sees, head)


def fit(faces: LiveFaces, bpcer: float, sees: Sees = "both", head: bool = True) -> Fitted:
    """As `calibrate`, of any two persons or more, for studies of how many are enough."""
    made = gaussian = None
    scores = faces.scores
    if head:
        parts, distances = held_out_fits(faces)
        gaussian, scales = Gaussian.mean_of(parts), _scales(faces.odds, distances)
        made = OneClassHead.of(gaussian, scales, sees)
        scores = joined(faces.odds, distances, scales)
    held_out = faces.by_capture(scores)
    rates = _rejected(faces, held_out, bpcer)
    attained = float(rates.mean())
    facts = Calibration(
        method="head" if head else "threshold",
        sees=sees,
        faces=len(faces.odds),
        captures=len(faces.group),
        groups=len(faces.names),
        one_person=faces.one_person,
        bpcer=bpcer,
        attained=attained,
        interval=Tally(attained * len(rates), len(rates)).ends(),
    )
    return Fitted(made, gaussian, quantile(held_out, faces.weights, bpcer), facts, held_out)


def held_out_fits(faces: LiveFaces) -> tuple[list[Gaussian], np.ndarray]:
    """A Gaussian without each fold, and (N,) the log-distance of each face from the one without its own."""
    fold = faces.fold[faces.group[faces.capture]]
    gaussians, distances = [], np.empty(len(fold))
    for each in np.unique(fold):
        out = fold == each
        gaussians.append(Gaussian.fit(faces.features[~out]))
        distances[out] = gaussians[-1].distances(faces.features[out])
    return gaussians, distances


def joined(odds: np.ndarray, distances: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """(N,) score in [0, 1] of log-odds and log-distances (N,), as the head computes it."""
    (odds_mean, odds_scale), (mean, scale) = scales
    z = (odds - odds_mean) / odds_scale - (distances - mean) / scale
    return 1 / (1 + np.exp(-z / SOFTNESS))


def _scales(odds: np.ndarray, distances: np.ndarray) -> np.ndarray:
    scales = np.array([[values.mean(), values.std()] for values in (odds, distances)])
    if not (scales[:, 1] > 0).all():
        raise AgfasError(
            "The detector gives every live face the same score, so there is nothing to join a distance to. Calibrate"
            " another detector."
        )
    return scales


def quantile(scores: np.ndarray, weights: np.ndarray, bpcer: float) -> float:
    """The highest threshold below which at most the share `bpcer` of the weights lies.

    It stands in the middle between the lowest score that it accepts and the next lower one, so that a last bit decides
    nothing.
    """
    values, place = np.unique(scores, return_inverse=True)
    below = np.cumsum(np.bincount(place, weights)) - np.bincount(place, weights)
    last = int(np.flatnonzero(below <= bpcer * weights.sum() + _ROUNDING)[-1])
    return float(values[last] if last == 0 else (values[last - 1] + values[last]) / 2)


def _rejected(faces: LiveFaces, held_out: np.ndarray, bpcer: float) -> np.ndarray:
    """(G,) share of each group's captures that the threshold of the other folds' captures rejects."""
    fold = faces.fold[faces.group]
    rejected = np.empty(len(fold))
    for each in np.unique(fold):
        out = fold == each
        rejected[out] = held_out[out] < quantile(held_out[~out], faces.weights[~out], bpcer)
    return np.bincount(faces.group, rejected) / np.bincount(faces.group)

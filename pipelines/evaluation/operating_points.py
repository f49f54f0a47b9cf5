"""Thresholds for several purposes, all chosen on development scores, and their error rates there and elsewhere.

No threshold is optimal for every purpose, so each kind says what it optimises:

    eer        FAR = BPCER
    min_acer   lowest ACER, with APCER of the worst attack type (ISO/IEC 30107-3)
    max_bpcer  lowest FAR with BPCER at most a given share
    f1         highest F1, with the attack as the positive class
    youden     highest Youden's J = 1 - FAR - BPCER, which is the lowest HTER; all attacks pooled
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from pipelines.errors import AgfasError
from pipelines.evaluation.classification import classify
from pipelines.evaluation.metrics import allowed, report, roc
from pipelines.evaluation.scores import ScoreTable
from pipelines.evaluation.thresholds import Threshold, choose_threshold, closest, middle_below, origin

KINDS = ("eer", "min_acer", "max_bpcer", "f1", "youden")


@dataclass(frozen=True)
class Rates:
    """Rates at a threshold, in [0, 1] but for J in [-1, 1].

    Attributes:
        apcer, bpcer, acer, hter: as in `metrics.Metrics`.
        f1, accuracy: as in `classification.Classification`.
        youden: J = 1 - FAR - BPCER.
        worst_attack: the attack type whose APCER it is.
        bonafide, attacks: numbers of videos.
    """

    apcer: float
    bpcer: float
    acer: float
    hter: float
    f1: float
    youden: float
    accuracy: float
    worst_attack: str
    bonafide: int
    attacks: int


@dataclass(frozen=True)
class OperatingPoint:
    """One threshold with its error rates.

    Attributes:
        kind: one of `KINDS`.
        threshold: with its origin.
        dev: rates on the development videos it was chosen on.
        target: rates on other videos, with the threshold fixed; None without such videos.
    """

    kind: str
    threshold: Threshold
    dev: Rates
    target: Rates | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "kind": self.kind,
            "threshold": self.threshold.value,
            "origin": self.threshold.origin,
            "dev": asdict(self.dev),
            "target": None if self.target is None else asdict(self.target),
        }


def operating_points(dev: ScoreTable, target: ScoreTable | None, max_bpcer: float) -> list[OperatingPoint]:
    """One point for each of `KINDS`; the scores of a video's frames are averaged first.

    Args:
        dev: development scores, on which every threshold is chosen.
        target: other scores, or None; not used to choose.
        max_bpcer: highest BPCER of the kind `max_bpcer`, in [0, 1].

    Raises:
        AgfasError: a share out of range, or a table of one class.
    """
    if not 0 <= max_bpcer <= 1:
        raise AgfasError(f"The highest BPCER {max_bpcer} must be between 0 and 1; 0.05 is 5 %.")
    dev = dev.by_video()
    dev.require_both_classes("The development score table")
    if target is not None:
        target = target.by_video()
        target.require_both_classes("The target score table")
    points = []
    for kind in KINDS:
        threshold = _choose(kind, dev, max_bpcer)
        elsewhere = None if target is None else _rates(target, threshold.value)
        points.append(OperatingPoint(kind, threshold, _rates(dev, threshold.value), elsewhere))
    return points


_SAME = {"eer": "source_dev_eer", "min_acer": "source_dev_min_acer", "youden": "source_dev_min_hter"}
"""The threshold rule of `thresholds.choose_threshold` that a kind is."""


def _choose(kind: str, dev: ScoreTable, max_bpcer: float) -> Threshold:
    rule = _SAME.get(kind)
    if rule is not None:
        return choose_threshold(rule, dev, dev)
    curve = roc(dev.label, dev.score)
    where = origin(dev)
    if kind == "max_bpcer":
        within = curve.rejected_bonafide <= allowed(max_bpcer, curve.bonafide)
        value = middle_below(curve, int(np.flatnonzero(within)[-1]))
        return Threshold(value, kind, f"BPCER at most {max_bpcer:g} of {where}")
    # F1 = 2 TP / (2 TP + FP + FN) with TP the rejected attacks and FP the rejected bona fide.
    gain = 2 * curve.rejected_attacks / (curve.rejected_attacks + curve.rejected_bonafide + curve.attacks)
    index = closest(curve, np.flatnonzero(gain == gain.max()))
    return Threshold(middle_below(curve, index), kind, f"highest F1 of {where}")


def _rates(videos: ScoreTable, threshold: float) -> Rates:
    metrics, counts = report(videos, threshold), classify(videos, threshold)
    known = {**asdict(counts), **asdict(metrics), "youden": 1 - metrics.far - metrics.bpcer}
    return Rates(**{field.name: known[field.name] for field in fields(Rates)})

"""Decisions at one threshold in terms of classification, with the attack as the positive class.

The error rates of ISO/IEC 30107-3 (`metrics`) name no positive class. The tables of Kuznetsov et al. ("Deep Learning
Models for Robust Facial Liveness Detection") do: a true positive is a rejected attack. Their recall is 1 - FAR, their
false positive rate is BPCER, and their APCER and ACER, which pool all attack types, are FAR and HTER of `metrics`.

Everything follows from the four counts; the tests compare it with scikit-learn, whose input checks take longer than
this computation.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipelines.data.records import ATTACK
from pipelines.errors import AgfasError
from pipelines.evaluation.metrics import Roc, roc
from pipelines.evaluation.scores import ScoreTable

POSITIVE = "attack"


@dataclass(frozen=True)
class Classification:
    """Counts and scores with the attack as the positive class; shares in [0, 1].

    Attributes:
        true_positives, false_negatives: attacks rejected, attacks accepted.
        true_negatives, false_positives: bona fide accepted, bona fide rejected.
        accuracy: share of correct decisions; dominated by the larger class, so read it beside `kappa`.
        precision: share of attacks among the rejected faces; None if none is rejected.
        recall, f1: share of attacks that are rejected (1 - FAR); harmonic mean of precision and recall.
        tnr, fpr: share of bona fide faces that are accepted, and that are rejected (BPCER).
        pr_auc: average precision, the sum over thresholds of (R_n - R_(n-1)) P_n.
        mcc, kappa: Matthews' correlation coefficient and Cohen's kappa in [-1, 1]; 0 if all decisions are equal.
    """

    true_positives: int
    false_negatives: int
    true_negatives: int
    false_positives: int
    accuracy: float
    precision: float | None
    recall: float
    f1: float
    tnr: float
    fpr: float
    pr_auc: float
    mcc: float
    kappa: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON, with the name of the positive class."""
        return {"positive": POSITIVE, **asdict(self)}


def classify(table: ScoreTable, threshold: float) -> Classification:
    """Classify a table at a threshold.

    Raises:
        AgfasError: the table lacks a class, or the threshold is not finite.
    """
    table.require_both_classes()
    if not np.isfinite(threshold):
        raise AgfasError(f"The threshold {threshold} is not a finite number. Choose it with choose_threshold.")
    attack, called = table.label == ATTACK, table.score < threshold
    tp, fn = int(np.sum(attack & called)), int(np.sum(attack & ~called))
    fp, tn = int(np.sum(~attack & called)), int(np.sum(~attack & ~called))
    total = tp + fn + tn + fp
    accuracy = (tp + tn) / total
    by_chance = ((tp + fn) * (tp + fp) + (tn + fp) * (tn + fn)) / total**2
    spread = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return Classification(
        true_positives=tp,
        false_negatives=fn,
        true_negatives=tn,
        false_positives=fp,
        accuracy=accuracy,
        precision=tp / (tp + fp) if tp + fp else None,
        recall=tp / (tp + fn),
        f1=2 * tp / (2 * tp + fp + fn),
        tnr=tn / (tn + fp),
        fpr=fp / (tn + fp),
        pr_auc=_average_precision(roc(table.label, table.score)),
        mcc=(tp * tn - fp * fn) / math.sqrt(spread) if spread else 0.0,
        kappa=(accuracy - by_chance) / (1 - by_chance),
    )


def _average_precision(curve: Roc) -> float:
    """Precision at each threshold times the recall it adds, from the lowest threshold up."""
    attacks, called = curve.rejected_attacks[1:], curve.rejected_attacks[1:] + curve.rejected_bonafide[1:]
    return float(np.sum(np.diff(curve.rejected_attacks) / curve.attacks * attacks / called))

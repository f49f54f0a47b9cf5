"""Threshold rules by name: where the line between bona fide and attack is drawn, and on whose scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.data.records import NO_ATTACK
from pipelines.errors import AgfasError, nearest
from pipelines.evaluation.metrics import Roc, roc
from pipelines.evaluation.scores import ScoreTable
from pipelines.evaluation.settings import SOURCE_RULES, THRESHOLD_RULES


@dataclass(frozen=True)
class Threshold:
    """A decision threshold and its origin.

    Attributes:
        value: a face is accepted as bona fide if score >= value.
        rule: one of `THRESHOLD_RULES`, or a kind of `operating_points.KINDS`.
        origin: how and on what it was chosen, for tables and pictures.
    """

    value: float
    rule: str
    origin: str


def choose_threshold(rule: str, dev: ScoreTable, target: ScoreTable) -> Threshold:
    """Choose a threshold by a rule; the scores of a video's frames are averaged first.

    `source_dev_eer`: EER on held-out videos of the source domains. All thresholds between two neighbouring scores
    decide alike there. The middle is taken: otherwise a detector that separates its sources perfectly would reject
    every target face that scores below their lowest live face.
    `source_dev_min_acer`: lowest ACER on those videos, with APCER of the worst attack type (ISO/IEC 30107-3), so that
    a rare attack type that passes counts as much as a common one. Ties are broken by the smallest |APCER - BPCER|,
    then by the higher threshold; then the middle as above.
    `source_dev_min_hter`: the same with all attack types pooled: the lowest HTER, which is the highest Youden's J. It
    is the "minimum ACER" of Kuznetsov et al., whose APCER pools all attacks.
    `target_eer`: the last minimiser of |FRR - FAR| on the target itself, as the literature's tables have it; HTER
    equals EER there. It uses the test labels.

    Raises:
        AgfasError: an unknown rule, or a table of one class.
    """
    if rule in SOURCE_RULES:
        return _of_sources(rule, dev.by_video())
    if rule == "target_eer":
        return _target_eer(target.by_video())
    raise AgfasError(f"Unknown threshold rule '{rule}': {nearest(rule, THRESHOLD_RULES)}")


def _of_sources(rule: str, dev: ScoreTable) -> Threshold:
    dev.require_both_classes("The development score table")
    curve = roc(dev.label, dev.score)
    what, index = _operating_point(rule, dev, curve)
    return Threshold(middle_below(curve, index), rule, f"{what} of {origin(dev)}")


def origin(dev: ScoreTable) -> str:
    """The development videos, in words."""
    return f"{len(dev)} held-out source videos ({', '.join(sorted(set(dev.domain.tolist())))})"


def _operating_point(rule: str, dev: ScoreTable, curve: Roc) -> tuple[str, int]:
    """What a source rule minimises, in words, and the index of its operating point."""
    if rule == "source_dev_eer":
        return "EER", curve.eer_index()
    if rule == "source_dev_min_acer":
        return "lowest ACER", _min_acer_index(dev, curve)
    cost = np.sum(_weighed_errors(curve), axis=0)
    return "lowest HTER", closest(curve, np.flatnonzero(cost == cost.min()))


def closest(curve: Roc, best: np.ndarray) -> int:
    """Of equally good operating points, the one where FAR and BPCER are closest, then the highest threshold."""
    accepted, rejected = _weighed_errors(curve)
    gap = np.abs(rejected - accepted)[best]
    return int(best[gap == gap.min()][-1])


def _weighed_errors(curve: Roc) -> tuple[np.ndarray, np.ndarray]:
    """(T,) FAR and BPCER, both times attacks * bonafide: integers, so that ties are exact."""
    return (curve.attacks - curve.rejected_attacks) * curve.bonafide, curve.rejected_bonafide * curve.attacks


def _min_acer_index(dev: ScoreTable, curve: Roc) -> int:
    codes, names = dev.attack_codes
    rates = [_accepted(dev.score[codes == i], curve) for i, name in enumerate(names) if name != NO_ATTACK]
    apcer, bpcer = np.max(rates, axis=0), curve.rejected_bonafide / curve.bonafide
    acer, gap = apcer + bpcer, np.abs(apcer - bpcer)
    best = np.flatnonzero(acer <= acer.min() + _ROUNDING)
    return int(best[gap[best] <= gap[best].min() + _ROUNDING][-1])


# Equal sums of two fractions may differ in their last bits.
_ROUNDING = 1e-12


def _accepted(scores: np.ndarray, curve: Roc) -> np.ndarray:
    """(T,) share of `scores` accepted at each threshold."""
    return 1 - np.searchsorted(np.sort(scores), curve.thresholds) / len(scores)


def middle_below(curve: Roc, index: int) -> float:
    """Halfway between an operating point's threshold and the next lower score."""
    high = float(curve.thresholds[index])
    low = float(curve.thresholds[index - 1]) if index else high
    middle = (low + high) / 2
    # Between adjacent doubles the middle rounds to one of them, and `low` would change a decision.
    return middle if middle > low else high


def _target_eer(target: ScoreTable) -> Threshold:
    target.require_both_classes("The target score table")
    _, value = roc(target.label, target.score).eer()
    return Threshold(value, "target_eer", f"EER of the {len(target)} target videos themselves (the papers' rule)")

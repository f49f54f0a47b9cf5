"""Threshold rules by name: where the line between live and attack is drawn, and from whose scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.data.records import NO_ATTACK
from pipelines.errors import AgfasError, nearest
from pipelines.evaluation.metrics import Roc, roc
from pipelines.evaluation.scores import ScoreTable

SOURCE_RULES = ("source_dev_eer", "source_dev_min_acer", "source_dev_min_hter")
"""Those that never look at the target."""

THRESHOLD_RULES = (*SOURCE_RULES, "target_eer")


@dataclass(frozen=True)
class Threshold:
    """A decision threshold and how it was found.

    Attributes:
        value: a face is accepted as bona fide where score >= value.
        rule: one of `THRESHOLD_RULES`.
        origin: one sentence for tables and pictures.
    """

    value: float
    rule: str
    origin: str


def choose_threshold(rule: str, dev: ScoreTable, target: ScoreTable) -> Threshold:
    """The threshold that a rule gives; frames are averaged to videos first.

    `source_dev_eer` (honest): the EER of held-out videos of the source domains. All thresholds between the
    two neighbouring scores do equally well there; the middle is taken, since a detector that separates its
    sources perfectly would otherwise reject any target face that scores below their weakest live face.
    `source_dev_min_acer` (honest): the lowest ACER of those videos, APCER being the worst attack type's; of
    equal ones that with APCER and BPCER closest, then the highest, and the middle as above. It is ISO/IEC 30107-3's
    ACER, where a rare attack type that passes weighs as much as a common one.
    `source_dev_min_hter` (honest): likewise, but with all attack types pooled: the lowest mean of FAR and BPCER. It is
    the "minimum ACER" of Kuznetsov et al., whose APCER pools all attacks, and highest Youden's J.
    `target_eer` (the papers'): the last minimiser of |FRR - FAR| on the target itself, so HTER is EER there.

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
    domains = ", ".join(sorted(set(dev.domain.tolist())))
    return Threshold(middle_below(curve, index), rule, f"{what} of {len(dev)} held-out source videos ({domains})")


def _operating_point(rule: str, dev: ScoreTable, curve: Roc) -> tuple[str, int]:
    """What a rule looks for, in words, and where it lies on the curve."""
    if rule == "source_dev_eer":
        return "EER", curve.eer_index()
    if rule == "source_dev_min_acer":
        return "lowest ACER", _min_acer_index(dev, curve)
    return "lowest HTER", _min_hter_index(curve)


def _min_hter_index(curve: Roc) -> int:
    accepted, rejected = _weighed_errors(curve)
    cost = accepted + rejected
    return closest(curve, np.flatnonzero(cost == cost.min()))


def closest(curve: Roc, best: np.ndarray) -> int:
    """Of operating points that are equally good, that where FAR and BPCER are closest, then the highest threshold."""
    accepted, rejected = _weighed_errors(curve)
    gap = np.abs(rejected - accepted)[best]
    return int(best[gap == gap.min()][-1])


def _weighed_errors(curve: Roc) -> tuple[np.ndarray, np.ndarray]:
    """(T,) accepted attacks and rejected bona fide, each times the other class's size: integers, free of rounding."""
    return (curve.attacks - curve.rejected_attacks) * curve.bonafide, curve.rejected_bonafide * curve.attacks


def _min_acer_index(dev: ScoreTable, curve: Roc) -> int:
    codes, names = dev.attack_codes
    rates = [_accepted(dev.score[codes == i], curve) for i, name in enumerate(names) if name != NO_ATTACK]
    apcer, bpcer = np.max(rates, axis=0), curve.rejected_bonafide / curve.bonafide
    acer, gap = apcer + bpcer, np.abs(apcer - bpcer)
    best = np.flatnonzero(acer <= acer.min() + _ROUNDING)
    return int(best[gap[best] <= gap[best].min() + _ROUNDING][-1])


# Sums of two fractions that are equal may differ in their last bits.
_ROUNDING = 1e-12


def _accepted(scores: np.ndarray, curve: Roc) -> np.ndarray:
    """(T,) share of `scores` that each threshold accepts."""
    return 1 - np.searchsorted(np.sort(scores), curve.thresholds) / len(scores)


def middle_below(curve: Roc, index: int) -> float:
    """Halfway between an operating point's threshold and the score below it."""
    high = float(curve.thresholds[index])
    low = float(curve.thresholds[index - 1]) if index else high
    middle = (low + high) / 2
    # Between neighbouring doubles the middle rounds to one of them, and `low` would change a decision.
    return middle if middle > low else high


def _target_eer(target: ScoreTable) -> Threshold:
    target.require_both_classes("The target score table")
    _, value = roc(target.label, target.score).eer()
    return Threshold(value, "target_eer", f"EER of the {len(target)} target videos themselves (the papers' rule)")

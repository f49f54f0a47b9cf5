"""Threshold rules by name: where the line between live and attack is drawn, and from whose scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.data.records import NO_ATTACK
from pipelines.errors import AgfasError, nearest
from pipelines.evaluation.metrics import Roc, roc
from pipelines.evaluation.scores import ScoreTable

THRESHOLD_RULES = ("source_dev_eer", "source_dev_min_acer", "target_eer")
SOURCE_RULES = ("source_dev_eer", "source_dev_min_acer")
"""Those that never look at the target."""


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
    equal ones that with APCER and BPCER closest, then the highest, and the middle as above. It is the rule that
    Kuznetsov et al. state.
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
    index = curve.eer_index() if rule == "source_dev_eer" else _min_acer_index(dev, curve)
    what = "EER" if rule == "source_dev_eer" else "lowest ACER"
    domains = ", ".join(sorted(set(dev.domain.tolist())))
    return Threshold(middle_below(curve, index), rule, f"{what} of {len(dev)} held-out source videos ({domains})")


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

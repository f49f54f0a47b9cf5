"""Threshold rules by name: where the line between live and attack is drawn, and from whose scores."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.errors import AgfasError, nearest
from pipelines.evaluation.metrics import roc
from pipelines.evaluation.scores import ScoreTable

THRESHOLD_RULES = ("source_dev_eer", "target_eer")


@dataclass(frozen=True)
class Threshold:
    """A decision threshold and how it was found.

    Attributes:
        value: a face is accepted as bona fide where score >= value.
        rule: `source_dev_eer` or `target_eer`.
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
    `target_eer` (the papers'): the last minimiser of |FRR - FAR| on the target itself, so HTER is EER there.

    Raises:
        AgfasError: an unknown rule, or a table of one class.
    """
    if rule == "source_dev_eer":
        return _source_dev_eer(dev.by_video())
    if rule == "target_eer":
        return _target_eer(target.by_video())
    raise AgfasError(f"Unknown threshold rule '{rule}': {nearest(rule, THRESHOLD_RULES)}")


def _source_dev_eer(dev: ScoreTable) -> Threshold:
    dev.require_both_classes("The development score table")
    curve = roc(dev.label, dev.score)
    index = curve.eer_index()
    high = float(curve.thresholds[index])
    low = float(curve.thresholds[index - 1]) if index else high
    middle = (low + high) / 2
    # Between neighbouring doubles the middle rounds to one of them, and `low` would change a decision.
    value = middle if middle > low else high
    domains = ", ".join(sorted(set(dev.domain.tolist())))
    return Threshold(value, "source_dev_eer", f"EER of {len(dev)} held-out source videos ({domains})")


def _target_eer(target: ScoreTable) -> Threshold:
    target.require_both_classes("The target score table")
    _, value = roc(target.label, target.score).eer()
    return Threshold(value, "target_eer", f"EER of the {len(target)} target videos themselves (the papers' rule)")

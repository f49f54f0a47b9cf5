"""Selection rules by name: which checkpoint of a run is judged, and who had a say in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from pipelines.errors import AgfasError, nearest
from pipelines.evaluation.metrics import roc
from pipelines.evaluation.scores import ScoreTable

SELECTION_RULES = ("last", "source_dev", "oracle")


@dataclass(frozen=True)
class CheckpointScores:
    """The scores of one checkpoint.

    Attributes:
        step: optimiser steps when it was written.
        dev: held-out videos of the source domains.
        target: the target domain.
    """

    step: int
    dev: ScoreTable
    target: ScoreTable


class PapersBest(TypedDict):
    """The best HTER and the best AUC on the target, which may come from two checkpoints."""

    hter: float
    hter_step: int
    auc: float
    auc_step: int


def select(rule: str, checkpoints: Sequence[CheckpointScores]) -> int:
    """The step of the checkpoint that a rule chooses, from scores averaged to videos.

    `last`: the latest step; looks at nothing.
    `source_dev`: highest AUC on the development videos; ties by lower EER there, then by the later step.
    `oracle`: lowest EER on the target; ties by higher AUC there, then by the later step. It uses the test
    labels: an upper bound, never a result.

    Raises:
        AgfasError: an unknown rule, no checkpoint, or a table of one class.
    """
    if rule not in SELECTION_RULES:
        raise AgfasError(f"Unknown selection rule '{rule}': {nearest(rule, SELECTION_RULES)}")
    _require_some(checkpoints)
    if rule == "last":
        return max(checkpoint.step for checkpoint in checkpoints)
    ranks = {checkpoint.step: _rank(rule, checkpoint) for checkpoint in checkpoints}
    return max(ranks, key=lambda step: (*ranks[step], step))


def papers_best(checkpoints: Sequence[CheckpointScores]) -> PapersBest:
    """What the published code writes into its table: running minimum of HTER and maximum of AUC, kept apart.

    HTER is taken at the target's own EER threshold; of equal values the earliest stays, as in a running best.
    """
    _require_some(checkpoints)
    looks = [(c.step, *_eer_and_auc(c.target)) for c in sorted(checkpoints, key=lambda c: c.step)]
    hter_step, hter, _ = min(looks, key=lambda look: look[1])
    auc_step, _, auc = max(looks, key=lambda look: look[2])
    return {"hter": hter, "hter_step": hter_step, "auc": auc, "auc_step": auc_step}


def _rank(rule: str, checkpoint: CheckpointScores) -> tuple[float, float]:
    """Higher is better."""
    if rule == "source_dev":
        eer, auc = _eer_and_auc(checkpoint.dev)
        return auc, -eer
    eer, auc = _eer_and_auc(checkpoint.target)
    return -eer, auc


def _eer_and_auc(table: ScoreTable) -> tuple[float, float]:
    videos = table.by_video()
    curve = roc(videos.label, videos.score)
    return curve.eer()[0], curve.auc()


def _require_some(checkpoints: Sequence[CheckpointScores]) -> None:
    if not checkpoints:
        raise AgfasError("There is no evaluated checkpoint to choose from. Run `agfas train` and `agfas evaluate`.")

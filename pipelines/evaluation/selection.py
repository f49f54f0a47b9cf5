"""Selection rules by name: which checkpoint of a run is judged, and on whose scores that is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from pipelines.errors import AgfasError, nearest
from pipelines.evaluation.metrics import roc
from pipelines.evaluation.scores import ScoreTable
from pipelines.evaluation.settings import SELECTION_RULES


@dataclass(frozen=True)
class CheckpointScores:
    """The score tables of one checkpoint.

    Attributes:
        step: optimizer steps when it was written.
        dev: scores of held-out videos of the source domains.
        target: scores of the test domains.
    """

    step: int
    dev: ScoreTable
    target: ScoreTable


class PapersBest(TypedDict):
    """The best HTER and the best AUC on the target, possibly of two checkpoints."""

    hter: float
    hter_step: int
    auc: float
    auc_step: int


def select(rule: str, checkpoints: Sequence[CheckpointScores]) -> int:
    """Choose a checkpoint by a rule and return its step; the scores of a video's frames are averaged first.

    `last`: the latest step, without a look at any score.
    `source_dev`: highest AUC on the development videos; ties by lower EER there, then by the later step.
    `oracle`: lowest EER on the target; ties by higher AUC there, then by the later step. It uses the test labels, so
    it is an upper bound, never a result.

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
    """The running best of the published code: lowest HTER and highest AUC on the target, each by itself.

    HTER is taken at the target's own EER threshold. Of equal values the earliest is kept, as in a running best.
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
        raise AgfasError("No checkpoint is evaluated. Run `agfas train` and `agfas evaluate`.")

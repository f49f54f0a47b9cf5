"""How an experiment's scores become numbers: the `evaluate:` block of its configuration. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipelines.settings import Strict

SELECTION_RULES = ("last", "source_dev", "oracle")
"""Which checkpoint of a run is judged; see `selection.select`."""

SOURCE_RULES = ("source_dev_eer", "source_dev_min_acer", "source_dev_min_hter")
"""Threshold rules that never look at the target; see `thresholds.choose_threshold`."""

THRESHOLD_RULES = (*SOURCE_RULES, "target_eer")

PUBLISHED_RULE = "published"
"""The threshold that came with published weights; it exists for no other detector."""

CALIBRATED_RULE = "live_bpcer"
"""The threshold that rejects a given share of one's own live faces, see `pipelines.verdict.calibration`."""

DISTILLED_RULE = "teacher_eer"
"""The threshold at which a student errs equally often either way from its teacher's verdicts, see `agfas distill`."""

HONEST_RULES = tuple(f"{selection}/{threshold}" for selection in SELECTION_RULES[:2] for threshold in SOURCE_RULES)
"""Pairs of rules, `SELECTION/THRESHOLD`, that never look at the target."""

PAPERS_RULE = "oracle/target_eer"
"""The pair behind the tables of the literature: both rules look at the test labels."""


class EvaluateSettings(Strict):
    """Which checkpoint and threshold give an experiment's own numbers, and how their intervals are estimated."""

    threshold: Literal["source_dev_eer", "source_dev_min_acer", "source_dev_min_hter", "target_eer", "published"] = (
        Field(
            "source_dev_eer",
            description="The decision threshold: EER, lowest ACER or lowest HTER on held-out source videos;"
            " `target_eer` takes the EER of the test videos themselves, as the literature does; `published` takes that"
            " of the publisher of the weights, with train.steps = 0.",
        )
    )
    selection: Literal["last", "source_dev", "oracle"] = Field(
        "last",
        description="The judged checkpoint: the last one, the best on held-out source videos, or (`oracle`) the best"
        " on the test videos, which is an upper bound and no result.",
    )
    replicates: int = Field(1000, ge=100, le=1_000_000, description="Bootstrap replicates over videos.")
    batch_size: int = Field(64, ge=1, description="Faces scored at once; changes no score.")

    @property
    def rules(self) -> str:
        """`SELECTION/THRESHOLD`, the experiment's own pair of rules as `result.json` names it."""
        return f"{self.selection}/{self.threshold}"

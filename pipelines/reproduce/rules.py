"""The ways to a number that a paper's settings may name: `SELECTION/THRESHOLD`, or the running best of all looks."""

from __future__ import annotations

from pipelines.evaluation.selection import SELECTION_RULES
from pipelines.evaluation.thresholds import SOURCE_RULES, THRESHOLD_RULES

RUNNING_BEST = "running_best"
"""The lowest HTER, at the target's own EER threshold, and the highest AUC over the kept checkpoints, each looked for on
the target by itself, so that the two may be of two checkpoints."""

OF_RUNNING_BEST = ("hter", "auc")
"""Our metrics that it has."""

PAPERS_RULES = (RUNNING_BEST, *(f"{one}/{other}" for one in SELECTION_RULES for other in THRESHOLD_RULES))
HONEST_RULES = tuple(f"{one}/{other}" for one in ("last", "source_dev") for other in SOURCE_RULES)
"""Those that never look at the target."""

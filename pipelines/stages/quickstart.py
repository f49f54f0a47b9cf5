"""`agfas quickstart`: the whole chain within a budget of minutes."""

from __future__ import annotations

from typing import Any

from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import with_overrides
from pipelines.experiment.generator import TrainedIdentity
from pipelines.stages.sweep import print_plan as print_plan
from pipelines.stages.sweep import run as run

# The time that the configured steps take on two cores.
_CONFIGURED_MINUTES = 15.0


def scaled(experiment: Experiment, minutes: float) -> Experiment:
    """The experiment with the steps of all trainings scaled to the budget.

    Steps are scaled, not seconds, so that the same command gives the same numbers on fast and slow machines.
    """
    if minutes <= 0:
        raise AgfasError(f"--minutes must be above 0, not {minutes}.")
    factor = minutes / _CONFIGURED_MINUTES
    if factor == 1.0:
        return experiment
    changes: dict[str, Any] = {
        "generator.loop.steps": max(1, round(experiment.generator.loop.steps * factor)),
        "train.steps": max(experiment.train.evaluations, round(experiment.train.steps * factor)),
        "train.warmup": round(experiment.train.warmup * factor),
    }
    if isinstance(experiment.identity, TrainedIdentity):
        changes["identity.loop.steps"] = max(1, round(experiment.identity.loop.steps * factor))
        changes["identity.loop.warmup"] = round(experiment.identity.loop.warmup * factor)
    return with_overrides(experiment, changes)

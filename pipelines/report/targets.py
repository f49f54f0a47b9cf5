"""The smallest tests of a study: a fold, or one domain of a fold that tests several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.evaluation.scores import ScoreTable
from pipelines.report.contents import Group, Study, Trial


@dataclass(frozen=True)
class Target:
    """What one number was measured on.

    Attributes:
        fold: of the protocol.
        domain: of the fold's targets; empty where the fold tests one.
    """

    fold: str
    domain: str = ""

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.fold} on {self.domain}" if self.domain else self.fold


def targets_of(study: Study, one_class: bool = False) -> list[Target]:
    """All targets of the study's finished experiments, in the order of its folds.

    Args:
        study: the experiments.
        one_class: also domains without attacks or without bona fide.
    """
    found: dict[Target, None] = {}
    for fold in study.folds:
        for trial in study.trials:
            domains = trial.domains(fold)
            if not domains and trial.numbers(fold, study.honest):
                found[Target(fold)] = None
            for domain, judged in domains.items():
                if "rules" in judged or one_class:
                    found[Target(fold, domain)] = None
    return list(found)


def numbers_of(trial: Trial, target: Target, rule: str) -> dict[str, Any] | None:
    """The numbers of one target under one pair of rules; None where it is not judged."""
    if not target.domain:
        return trial.numbers(target.fold, rule)
    judged = trial.domains(target.fold).get(target.domain, {})
    return judged.get("rules", judged.get("one_class", {})).get(rule)


def values_of(group: Group, target: Target, rule: str, metric: str) -> dict[int, float]:
    """A metric of one target by seed, of the seeds that are judged; `classification`'s metrics among them."""
    values = {}
    for trial in group.trials:
        numbers = numbers_of(trial, target, rule)
        if numbers is not None:
            value = {**numbers.get("classification", {}), **numbers}.get(metric)
            if value is not None:
                values[trial.planned.experiment.seed] = float(value)
    return values


def scores_of(trial: Trial, target: Target, rule: str) -> ScoreTable | None:
    """The target's videos as the rule's checkpoint scored them; None where the scores are gone."""
    table = trial.test_scores(target.fold, rule)
    return table.where(table.domain == target.domain) if table is not None and target.domain else table

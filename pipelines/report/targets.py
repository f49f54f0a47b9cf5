"""The smallest tests of a study: a split, or one domain of a split that tests several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.evaluation.scores import ScoreTable
from pipelines.report.contents import Group, Study, Trial


@dataclass(frozen=True)
class Target:
    """What one number was measured on.

    Attributes:
        split: of the protocol.
        domain: of the split's targets; empty where the split tests one.
    """

    split: str
    domain: str = ""

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.split} on {self.domain}" if self.domain else self.split


def targets_of(study: Study, one_class: bool = False) -> list[Target]:
    """All targets of the study's finished experiments, in the order of its splits.

    Args:
        study: the experiments.
        one_class: also domains without attacks or without bona fide.
    """
    found: dict[Target, None] = {}
    for split in study.splits:
        for trial in study.trials:
            domains = trial.domains(split)
            if not domains and trial.numbers(split, study.honest):
                found[Target(split)] = None
            for domain, judged in domains.items():
                if "rules" in judged or one_class:
                    found[Target(split, domain)] = None
    return list(found)


def numbers_of(trial: Trial, target: Target, rule: str) -> dict[str, Any] | None:
    """The numbers of one target under one pair of rules; None where it is not judged."""
    if not target.domain:
        return trial.numbers(target.split, rule)
    judged = trial.domains(target.split).get(target.domain, {})
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
    table = trial.test_scores(target.split, rule)
    return table.where(table.domain == target.domain) if table is not None and target.domain else table

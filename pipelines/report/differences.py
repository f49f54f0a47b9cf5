"""Paired differences between the groups of a study, by bootstrap over videos.

A video that is drawn twice is drawn twice for every detector and seed at once, so what all of them find hard
cancels; videos of different targets are drawn independently. The seeds of training are taken as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipelines.evaluation.bootstrap import interval, replicate_values
from pipelines.report.contents import Group, Study, Trial

METRIC = "hter"
# Replicates times score tables that are drawn: about five seconds on one core for tables of 200 videos.
_BUDGET = 80_000
_FEWEST, _MOST = 200, 1000


@dataclass(frozen=True)
class MeanDifference:
    """HTER of `group` minus that of `reference`, averaged over folds and shared seeds; below 0 is better.

    Attributes:
        group, reference: names.
        mean, low, high: observed, and the ends of the 95 % interval.
        seeds: how many seeds both have.
    """

    group: str
    reference: str
    mean: float
    low: float
    high: float
    seeds: int


class Comparison:
    """The replicates of every finished experiment of a study under its honest rules."""

    def __init__(self, study: Study) -> None:
        self.study = study

    @cached_property
    def replicates(self) -> int:
        """How many replicates are drawn: fewer where there are many tables."""
        tables = sum(trial.finished for trial in self.study.trials) * len(self.study.folds)
        return int(np.clip(_BUDGET // max(1, tables), _FEWEST, _MOST))

    @cached_property
    def draws(self) -> dict[int, np.ndarray]:
        """Mean HTER over the folds, (R,), by the experiment's place in the study."""
        drawn = {}
        for place, trial in enumerate(self.study.trials):
            values = self._of_trial(trial)
            if values is not None:
                drawn[place] = values
        return drawn

    def interval_of(self, group: Group) -> tuple[float, float] | None:
        """The 95 % interval of a group's HTER, averaged over folds and seeds."""
        places = [place for place in self._places(group).values() if place in self.draws]
        return interval(np.mean([self.draws[place] for place in places], axis=0)) if places else None

    def difference(self, group: Group, reference: Group) -> MeanDifference | None:
        """`group` minus `reference`; None where they share no finished seed."""
        first, second = self._places(group), self._places(reference)
        shared = [seed for seed in first if seed in second]
        shared = [seed for seed in shared if first[seed] in self.draws and second[seed] in self.draws]
        if not shared:
            return None
        drawn = np.mean([self.draws[first[seed]] - self.draws[second[seed]] for seed in shared], axis=0)
        observed = np.mean([self._observed(first[seed]) - self._observed(second[seed]) for seed in shared])
        return MeanDifference(group.name, reference.name, float(observed), *interval(drawn), len(shared))

    def references(self) -> list[Group]:
        """What every other group is compared with: the first `image_only` group, then the controls."""
        baselines = [group for group in self.study.methods if not group.takes_cue][:1]
        return [group for group in (*baselines, *self.study.controls) if group.finished]

    def _of_trial(self, trial: Trial) -> np.ndarray | None:
        if not trial.finished:
            return None
        values = []
        for fold in trial.folds:
            numbers, table = trial.numbers(fold, trial.honest), trial.test_scores(fold, trial.honest)
            if numbers is None or table is None:
                return None
            drawn = replicate_values(table, numbers["threshold"], [METRIC], self.replicates, seed=0)
            values.append(drawn[METRIC])
        return np.mean(values, axis=0)

    def _observed(self, place: int) -> float:
        trial = self.study.trials[place]
        mean = trial.mean(trial.honest, METRIC)
        assert mean is not None
        return mean

    def _places(self, group: Group) -> dict[int, int]:
        """Place in the study of each of a group's experiments, by seed."""
        members = {id(trial) for trial in group.trials}
        return {
            trial.planned.experiment.seed: place
            for place, trial in enumerate(self.study.trials)
            if id(trial) in members
        }

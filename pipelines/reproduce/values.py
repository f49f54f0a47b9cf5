"""Our values for the cells of a table: per seed, under a pair of rules, averaged over what the cell tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipelines.data.protocols import Fold
from pipelines.experiment.plan import Planned
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json
from pipelines.report.contents import Group, Trial
from pipelines.report.gather import read_run
from pipelines.report.targets import Target, values_of
from pipelines.reproduce.places import short_name
from pipelines.reproduce.rules import RUNNING_BEST

OF_RUNS = ("parameters", "training seconds")
"""Metrics of the trainings themselves."""

_EXTREMES: Mapping[str, Callable[..., Target]] = {"best": max, "worst": min}


@dataclass(frozen=True)
class Ours:
    """A cell's value.

    Attributes:
        by_seed: a value for every seed that has all that the cell tests.
        text: a word beside it, such as the dataset of a best transfer.
    """

    by_seed: Mapping[int, float]
    text: str = ""

    @property
    def mean(self) -> float | None:
        """Over the seeds; None where there is none."""
        return float(np.mean(list(self.by_seed.values()))) if self.by_seed else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the seeds; None for fewer than two."""
        return float(np.std(list(self.by_seed.values()), ddof=1)) if len(self.by_seed) > 1 else None


def read_group(name: str, planned: Sequence[Planned], folds: Sequence[Fold]) -> Group:
    """The experiments of one method with what they left; one per seed."""
    return Group(name, tuple(_trial(item, folds) for item in planned), False, 0)


def value(
    groups: Sequence[Group], targets: Sequence[Target], rule: str, metric: str, domains: Mapping[str, str]
) -> Ours:
    """A cell's value.

    Args:
        groups: of the row's methods; values are averaged over them.
        targets: what the cell tests; values are averaged over them.
        rule: `selection/threshold`, or `RUNNING_BEST`.
        metric: of `values_of`, one of `OF_RUNS`, or `best` or `worst` before a metric.
        domains: the data's domain by the paper's short name.
    """
    if not targets:
        return Ours({})
    if metric in OF_RUNS:
        return _of_runs(groups, metric)
    kind, _, inner = metric.partition(" ")
    if kind in _EXTREMES:
        return _extreme(groups, targets, rule, inner, kind, domains)
    read = _running_best if rule == RUNNING_BEST else partial(values_of, rule=rule)
    found = [read(group, target, metric=metric) for group in groups for target in targets]
    seeds = sorted(set.intersection(*(set(values) for values in found)))
    return Ours({seed: float(np.mean([values[seed] for values in found])) for seed in seeds})


def _running_best(group: Group, target: Target, metric: str) -> dict[int, float]:
    """The best of all looks at one target by seed; each target is looked at by itself."""
    values = {}
    for trial in group.trials:
        judged = (trial.result or {}).get("folds", {}).get(target.fold, {})
        if target.domain:
            judged = judged.get("domains", {}).get(target.domain, {})
        if "papers_best" in judged:
            values[trial.planned.experiment.seed] = float(judged["papers_best"][metric])
    return values


def videos(groups: Sequence[Group], target: Target) -> tuple[int, int] | None:
    """How many live and attack videos judged a target; None where nothing is judged."""
    for trial in (trial for group in groups for trial in group.trials):
        domain = trial.domains(target.fold).get(target.domain, {})
        counts = domain.get("videos") if target.domain else trial.videos(target.fold)
        if counts:
            return counts["bonafide"], counts["attack"]
    return None


def one_video(counts: tuple[int, int]) -> float:
    """One video's worth of HTER in percentage points: the smallest step that it can take.

    HTER is (FAR + FRR) / 2, so one of N videos of a class moves it by 1 / 2N; the larger class has the smaller step.
    MSU-MFSD's 70 live and 210 attack videos give 0.238.
    """
    return 100 / (2 * max(counts))


def _trial(planned: Planned, folds: Sequence[Fold]) -> Trial:
    workspace = Workspace(planned.experiment)
    if not workspace.faces.is_dir():
        return Trial(planned, None, (), {}, None, "nothing made yet")
    folder, names = workspace.detector(), tuple(fold.name for fold in folds)
    begun = [name for name in names if (folder / name / "identity.json").is_file()]
    runs = {name: read_run(folder / name, "detector", name) for name in begun}
    result = folder / "result.json"
    return Trial(planned, folder, names, runs, read_json(result) if result.is_file() else None)


def _extreme(
    groups: Sequence[Group], targets: Sequence[Target], rule: str, metric: str, kind: str, domains: Mapping[str, str]
) -> Ours:
    found = {target: value(groups, [target], rule, metric, domains) for target in targets}
    means = {target: ours.mean for target, ours in found.items() if ours.mean is not None}
    if not means:
        return Ours({})
    target = _EXTREMES[kind](means, key=lambda one: means[one])
    return Ours(found[target].by_seed, short_name(target, domains))


def _of_runs(groups: Sequence[Group], metric: str) -> Ours:
    values = {}
    for trial in (trial for group in groups for trial in group.trials):
        runs = list(trial.runs.values())
        if runs and all(run.done for run in runs):
            seconds = sum(run.seconds for run in runs)
            parameters = (runs[0].done or {})["parameters"]
            values[trial.planned.experiment.seed] = float(parameters if metric == "parameters" else seconds)
    return Ours(values)

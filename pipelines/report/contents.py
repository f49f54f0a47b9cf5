"""The contents of an output folder as plain values, which tables, figures and pages read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artefacts.runs import DetectorRun
from pipelines.data.records import NO_ATTACK
from pipelines.evaluation.scores import ScoreTable
from pipelines.experiment.plan import Planned
from pipelines.experiment.workspace import Workspace
from pipelines.report.charts import style_of


@dataclass(frozen=True)
class TrainingRun:
    """One run folder.

    Attributes:
        kind: identity, generator or detector.
        title: what was trained.
        folder: of the run.
        done: contents of done.json, or None if unfinished.
        environment: versions and processor, or None.
        metrics: the lines of metrics.jsonl.
    """

    kind: str
    title: str
    folder: Path
    done: dict[str, Any] | None
    environment: dict[str, Any] | None
    metrics: list[dict[str, Any]]

    @property
    def steps(self) -> int:
        """The last logged step."""
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    @property
    def seconds(self) -> float:
        """Time of the logged steps: the seconds per step of each line times the steps since the line before."""
        before = [0, *(line["step"] for line in self.metrics)]
        lines = zip(self.metrics, before, strict=False)
        return float(sum(line["seconds_per_step"] * (line["step"] - start) for line, start in lines))


@dataclass(frozen=True)
class Data:
    """A face dataset.

    Attributes:
        folder: of the dataset.
        card: its card.
        counts: faces and videos by (domain, split, attack type), `none` for bona fide.
        columns: its metadata by column name.
    """

    folder: Path
    card: dict[str, Any]
    counts: dict[tuple[str, str, str], tuple[int, int]]
    columns: dict[str, list[Any]]

    @property
    def attack_types(self) -> list[str]:
        """Sorted, without `none`."""
        return sorted({kind for _, _, kind in self.counts} - {NO_ATTACK})


@dataclass(frozen=True)
class Target:
    """What one number was measured on: a fold, or one domain of a fold that tests several.

    Attributes:
        fold: of the protocol.
        domain: of the fold's test domains; empty if the fold tests one.
    """

    fold: str
    domain: str = ""

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.fold} on {self.domain}" if self.domain else self.fold


@dataclass(frozen=True, eq=False)
class Trial:
    """One experiment of the plan.

    Attributes:
        planned: label, axes and configuration.
        folder: of its detectors; None if the faces are missing, whose identity is part of its name.
        folds: names of the protocol's folds.
        runs: the detectors' runs that have begun, by fold.
        result: contents of result.json, or None.
        problem: why nothing could be read, or None.
    """

    planned: Planned
    folder: Path | None = None
    folds: tuple[str, ...] = ()
    runs: dict[str, TrainingRun] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    problem: str | None = None
    _scores: dict[tuple[str, int], ScoreTable] = field(default_factory=dict, repr=False)

    @property
    def seed(self) -> int:
        """Of the detector."""
        return self.planned.experiment.seed

    @property
    def honest(self) -> str:
        """The experiment's own pair of rules, `selection/threshold`."""
        return self.planned.experiment.evaluate.rules

    @property
    def finished(self) -> bool:
        """Whether every fold is trained and judged."""
        return bool(self.folds) and all(self.numbers(fold, self.honest) is not None for fold in self.folds)

    @property
    def state(self) -> str:
        """The progress, in words."""
        if self.problem:
            return self.problem
        trained = sum(run.done is not None for run in self.runs.values())
        judged = sum(self.numbers(fold, self.honest) is not None for fold in self.folds)
        return f"{trained} of {len(self.folds)} detectors trained, {judged} of {len(self.folds)} judged"

    def judged(self, target: Target) -> dict[str, Any]:
        """The block of result.json of one target; empty if it is not judged."""
        fold = (self.result or {}).get("folds", {}).get(target.fold, {})
        return dict(fold.get("domains", {}).get(target.domain, {}) if target.domain else fold)

    def numbers(self, fold: str, rule: str, domain: str = "") -> dict[str, Any] | None:
        """The numbers of a fold, or of one of its domains, under one pair of rules; None if not judged under them."""
        judged = self.judged(Target(fold, domain))
        return judged.get("rules", judged.get("one_class", {})).get(rule)

    def mean(self, rule: str, metric: str) -> float | None:
        """Mean over the folds, from result.json; None unless every fold is judged under the rules."""
        if not self.finished or self.result is None or rule not in self.result["mean"]:
            return None
        return float(self.result["mean"][rule][metric])

    def detector_run(self, fold: str) -> DetectorRun:
        """The run of a judged fold's detector."""
        assert self.folder is not None  # nothing is judged without faces
        return DetectorRun(self.folder / fold)

    def test_scores(self, fold: str, rule: str, domain: str = "") -> ScoreTable | None:
        """The target videos' scores under the checkpoint that the rules chose, read once; None if they are missing.

        Args:
            fold: of the protocol.
            rule: the pair of rules.
            domain: one of the fold's test domains; default: all.
        """
        numbers = self.numbers(fold, rule)
        if numbers is None or self.folder is None:
            return None
        key = fold, numbers["step"]
        if key not in self._scores:
            run = self.detector_run(fold)
            if not run.score_path(numbers["step"], "test").is_file():
                return None
            self._scores[key] = run.scores(numbers["step"], "test").by_video()
        table = self._scores[key]
        return table.where(table.domain == domain) if domain else table


@dataclass(frozen=True, eq=False)
class Group:
    """Experiments that differ in the seed alone: one row of a table.

    Attributes:
        name: the label, and the values of the other axes if there are any.
        trials: one per seed.
        is_control: whether its cue cannot carry what a generator learned, so that a gain must exceed its gain.
        number: index among the groups, which decides its colour.
    """

    name: str
    trials: tuple[Trial, ...]
    is_control: bool
    number: int

    @property
    def takes_cue(self) -> bool:
        """Whether its detector is given a cue."""
        return Workspace(self.trials[0].planned.experiment).needs_cue()

    @property
    def finished(self) -> bool:
        """Whether any of its experiments is finished."""
        return self.first_finished is not None

    @property
    def first_finished(self) -> Trial | None:
        """The first finished experiment."""
        return next((trial for trial in self.trials if trial.finished), None)

    @property
    def parameters(self) -> list[int]:
        """The distinct numbers of parameters of its detectors, sorted."""
        return sorted({run.done["parameters"] for t in self.trials for run in t.runs.values() if run.done})

    @property
    def style(self) -> str:
        """Its style in charts: a colour, and dashes for a control."""
        return style_of(self.number, self.is_control)

    @property
    def note(self) -> str:
        """The mark of a control."""
        return "control" if self.is_control else ""


@dataclass(frozen=True, eq=False)
class Study:
    """Experiments whose numbers are comparable: same faces, protocol and rules.

    Attributes:
        title: the protocol and the data.
        groups: in the order of the plan.
        folds: names of the protocol's folds.
        honest, papers: names of the two pairs of rules.
        data: the faces, or None if they are missing.
    """

    title: str
    groups: tuple[Group, ...]
    folds: tuple[str, ...]
    honest: str
    papers: str
    data: Data | None

    @property
    def trials(self) -> list[Trial]:
        """All experiments."""
        return [trial for group in self.groups for trial in group.trials]

    @property
    def methods(self) -> list[Group]:
        """Groups that are not controls."""
        return [group for group in self.groups if not group.is_control]

    @property
    def rows(self) -> list[Group]:
        """All groups in the order of a table's rows: methods, then controls."""
        return sorted(self.groups, key=lambda group: group.is_control)


@dataclass(frozen=True, eq=False)
class Gathered:
    """An output folder.

    Attributes:
        root: the folder.
        studies: its experiments.
        shared: runs of the identity encoders and generators.
        cue_stores: the description of every cue store, by folder name.
    """

    root: Path
    studies: tuple[Study, ...]
    shared: tuple[TrainingRun, ...]
    cue_stores: dict[str, dict[str, Any]]

    @property
    def trials(self) -> list[Trial]:
        """All experiments."""
        return [trial for study in self.studies for trial in study.trials]

    @property
    def unfinished(self) -> list[Trial]:
        """The planned experiments that are not trained and judged yet."""
        return [trial for trial in self.trials if not trial.finished]

    @property
    def is_synthetic(self) -> bool:
        """Whether any experiment is of the built-in benchmark."""
        return any(trial.planned.experiment.data.name == "synthetic" for trial in self.trials)

    @property
    def runs(self) -> list[TrainingRun]:
        """All runs, each folder once; experiments may share one."""
        detectors = {run.folder: run for trial in self.trials for run in trial.runs.values()}
        return [*self.shared, *detectors.values()]


def targets_of(study: Study, one_class: bool = False) -> list[Target]:
    """All targets of the study's judged experiments, in the order of its folds.

    Args:
        study: the experiments.
        one_class: include domains without attacks or without bona fide.
    """
    found: dict[Target, None] = {}
    for fold in study.folds:
        for trial in study.trials:
            domains = trial.judged(Target(fold)).get("domains", {})
            if not domains and trial.numbers(fold, study.honest):
                found[Target(fold)] = None
            for domain, judged in domains.items():
                if "rules" in judged or one_class:
                    found[Target(fold, domain)] = None
    return list(found)


def values_of(group: Group, target: Target, rule: str, metric: str) -> dict[int, float]:
    """A metric of one target by seed, of the judged seeds; also the metrics of the `classification` block."""
    values = {}
    for trial in group.trials:
        numbers = trial.numbers(target.fold, rule, target.domain) or {}
        value = {**numbers.get("classification", {}), **numbers}.get(metric)
        if value is not None:
            values[trial.seed] = float(value)
    return values


def means_by_seed(
    group: Group, targets: Sequence[Target], rule: str, metrics: Sequence[str]
) -> list[tuple[float, ...]]:
    """The means over the targets of each metric, a tuple for every seed that has them all."""
    found = [[values_of(group, target, rule, metric) for target in targets] for metric in metrics]
    if not targets:
        return []
    seeds = sorted(set.intersection(*(set(values) for column in found for values in column)))
    return [tuple(float(np.mean([values[seed] for values in column])) for column in found) for seed in seeds]


def mean_of(group: Group, targets: Sequence[Target], rule: str, metric: str) -> float | None:
    """The mean of a metric over targets and seeds; None if no seed has all targets."""
    values = means_by_seed(group, targets, rule, [metric])
    return float(np.mean(values)) if values else None


def class_counts(trials: Sequence[Trial], target: Target) -> tuple[int, int] | None:
    """Bona fide and attack videos of a target; None if no trial is judged on it."""
    for trial in trials:
        if counts := trial.judged(target).get("videos"):
            return counts["bonafide"], counts["attack"]
    return None

"""What an output folder holds, as plain values that tables, figures and pages read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.data.records import NO_ATTACK
from pipelines.evaluation.scores import ScoreTable
from pipelines.experiment.plan import Planned
from pipelines.experiment.workspace import Workspace


@dataclass(frozen=True)
class TrainingRun:
    """One run folder.

    Attributes:
        kind: identity, generator or detector.
        title: what was trained, for a reader.
        folder: where it lies.
        done: what the run left when it finished, or None.
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
        """Time of the logged steps: each line's seconds per step times the steps since the line before."""
        before = [0, *(line["step"] for line in self.metrics)]
        return float(
            sum(
                line["seconds_per_step"] * (line["step"] - start)
                for line, start in zip(self.metrics, before, strict=False)
            )
        )


@dataclass(frozen=True)
class Data:
    """The faces of some experiments.

    Attributes:
        folder: of the dataset.
        card: what it says of itself.
        counts: faces and videos by (domain, split, attack type), `none` for bona fide.
        columns: its metadata by name.
    """

    folder: Path
    card: dict[str, Any]
    counts: dict[tuple[str, str, str], tuple[int, int]]
    columns: dict[str, list[Any]]

    @property
    def attack_types(self) -> list[str]:
        """Sorted, bona fide's `none` left out."""
        return sorted({kind for _, _, kind in self.counts} - {NO_ATTACK})


@dataclass(frozen=True, eq=False)
class Trial:
    """One experiment of the plan.

    Attributes:
        planned: label, axes and configuration.
        folder: of its detectors; None where the faces are missing, which its name follows from.
        folds: names of the protocol's folds.
        runs: the detectors' runs that were begun, by fold.
        result: the contents of result.json, or None.
        problem: why nothing could be read, or None.
    """

    planned: Planned
    folder: Path | None
    folds: tuple[str, ...]
    runs: dict[str, TrainingRun]
    result: dict[str, Any] | None
    problem: str | None = None

    @property
    def honest(self) -> str:
        """Name of the experiment's own pair of rules, `selection/threshold`."""
        rules = self.planned.experiment.evaluate
        return f"{rules.selection}/{rules.threshold}"

    @property
    def finished(self) -> bool:
        """Every fold is trained and judged."""
        return bool(self.folds) and all(self.numbers(fold, self.honest) is not None for fold in self.folds)

    @property
    def state(self) -> str:
        """How far it is, in words."""
        if self.problem:
            return self.problem
        trained = sum(run.done is not None for run in self.runs.values())
        judged = sum(self.numbers(fold, self.honest) is not None for fold in self.folds)
        return f"{trained} of {len(self.folds)} detectors trained, {judged} of {len(self.folds)} judged"

    def numbers(self, fold: str, rule: str) -> dict[str, Any] | None:
        """What result.json holds of one fold under one pair of rules."""
        if self.result is None:
            return None
        return self.result["folds"].get(fold, {}).get("rules", {}).get(rule)

    def mean(self, rule: str, metric: str) -> float | None:
        """Mean over the folds, as result.json has it; None unless every fold is judged under the rule."""
        if not self.finished or self.result is None or rule not in self.result["mean"]:
            return None
        return float(self.result["mean"][rule][metric])

    def domains(self, fold: str) -> dict[str, dict[str, Any]]:
        """What result.json holds of each domain of a fold that tests several; empty where it tests one."""
        return dict(self.result["folds"].get(fold, {}).get("domains", {})) if self.result else {}

    def videos(self, fold: str) -> dict[str, int] | None:
        """How many bona fide and attack videos judged a fold."""
        return self.result["folds"].get(fold, {}).get("videos") if self.result else None

    def test_scores(self, fold: str, rule: str) -> ScoreTable | None:
        """The target videos' scores of the checkpoint that the rule chose; None where they are gone."""
        numbers = self.numbers(fold, rule)
        if numbers is None or self.folder is None:
            return None
        path = self.folder / fold / "scores" / f"step_{numbers['step']:06d}-test.parquet"
        return ScoreTable.load(path).by_video() if path.is_file() else None


@dataclass(frozen=True, eq=False)
class Group:
    """Experiments that differ in the seed alone: one row of a table.

    Attributes:
        name: label, and the other axes' values where there are any.
        trials: one per seed.
        is_control: its cue cannot carry what a generator knows, so a gain must be a gain over it.
        number: place among the groups, which decides its colour.
    """

    name: str
    trials: tuple[Trial, ...]
    is_control: bool
    number: int

    @property
    def takes_cue(self) -> bool:
        """Whether its detector sees a cue."""
        return Workspace(self.trials[0].planned.experiment).needs_cue()

    @property
    def finished(self) -> bool:
        """Whether any of its experiments is finished."""
        return any(trial.finished for trial in self.trials)


@dataclass(frozen=True, eq=False)
class Study:
    """Experiments whose numbers may stand in one table: same faces, protocol and rules.

    Attributes:
        title: the protocol and the data.
        groups: in the order of the plan.
        folds: names of the protocol's folds.
        honest, papers: names of the two families of rules.
        data: the faces, or None where they are missing.
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

    @cached_property
    def methods(self) -> list[Group]:
        """Groups that are no controls."""
        return [group for group in self.groups if not group.is_control]

    @cached_property
    def controls(self) -> list[Group]:
        """Groups that are controls."""
        return [group for group in self.groups if group.is_control]


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
    def runs(self) -> list[TrainingRun]:
        """All runs, each folder once; experiments may share one."""
        detectors = {run.folder: run for trial in self.trials for run in trial.runs.values()}
        return [*self.shared, *detectors.values()]

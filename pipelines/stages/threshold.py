"""`agfas threshold`: where to draw the line between live and attack, found on development scores alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import AgfasError, nearest
from pipelines.evaluation.judge import own_numbers
from pipelines.evaluation.operating_points import OperatingPoint, Rates, operating_points
from pipelines.evaluation.scores import ScoreTable
from pipelines.experiment.plan import Planned, read_plan
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json


@dataclass(frozen=True)
class Source:
    """Scores to choose on, and others to see what the choice costs.

    Attributes:
        title: what was scored, in words.
        dev: chooses.
        target: does not; None where only one table was given.
    """

    title: str
    dev: ScoreTable
    target: ScoreTable | None


def run(
    source: Path,
    target: Path | None = None,
    label: str | None = None,
    fold: str | None = None,
    max_bpcer: float = 0.05,
    as_json: bool = False,
) -> str:
    """Find the thresholds and what they cost.

    Args:
        source: an output folder, or the score table (.parquet) of development faces.
        target: the score table of other faces, where `source` is a table.
        label: which experiment of a folder; the first finished one where not given.
        fold: which of its folds; the first where not given.
        max_bpcer: share of bona fide videos that may be rejected at the threshold of that kind.
        as_json: answer in JSON instead of a table.

    Returns:
        What to print.

    Raises:
        AgfasError: nothing is there or finished, an unknown name, or options that do not go together.
    """
    opened = _open_run(source, label, fold) if source.is_dir() else _open_table(source, target, label, fold)
    if source.is_dir() and target is not None:
        raise AgfasError("--target goes with a score table; an output folder has target scores of its own.")
    points = operating_points(opened.dev, opened.target, max_bpcer)
    return _as_json(opened, points) if as_json else _as_table(opened, points)


def _open_table(source: Path, target: Path | None, label: str | None, fold: str | None) -> Source:
    if label is not None or fold is not None:
        raise AgfasError("--label and --fold choose among the detectors of an output folder, not in a score table.")
    other = None if target is None else ScoreTable.load(target)
    return Source(f"{source}" + ("" if target is None else f", then {target}"), ScoreTable.load(source), other)


def _open_run(root: Path, label: str | None, fold: str | None) -> Source:
    planned = _choose(read_plan(root), label)
    folder = Workspace(planned.experiment).detector()
    folds = read_json(folder / "result.json")["folds"]
    if fold is not None and fold not in folds:
        raise AgfasError(f"'{planned.title}' has no fold '{fold}': {nearest(fold, folds)}")
    name = fold or next(iter(folds))
    rules = planned.experiment.evaluate
    step = own_numbers(folds[name], rules, planned.title)["step"]
    dev, target = (ScoreTable.load(folder / name / "scores" / f"step_{step:06d}-{role}.parquet") for role in _ROLES)
    title = f"{planned.title}, {name}, checkpoint of step {step} (chosen by '{rules.selection}')"
    return Source(title, dev, target)


_ROLES = ("dev", "test")


def _choose(plan: list[Planned], label: str | None) -> Planned:
    labels = list(dict.fromkeys(item.label for item in plan))
    if label is not None and label not in labels:
        raise AgfasError(f"No experiment is called '{label}': {nearest(label, labels)}")
    for item in plan:
        if label in (None, item.label) and (Workspace(item.experiment).detector() / "result.json").is_file():
            return item
    what = f"'{label}' is" if label else "No experiment in this folder is"
    raise AgfasError(
        f"{what} not evaluated, so there are no scores to choose on. Run `agfas evaluate` or `agfas sweep`."
    )


def _as_json(source: Source, points: list[OperatingPoint]) -> str:
    content = {"scores": source.title, "accepted": "score >= threshold", "points": [p.to_dict() for p in points]}
    return json.dumps(content, indent=2)


def _as_table(source: Source, points: list[OperatingPoint]) -> str:
    lines = [source.title, "A video is accepted as live where its mean score >= threshold. Rates in percent.", ""]
    lines += [f"{'kind':<10}{'threshold':>11}   {'on':<7}" + "".join(f"{name:>9}" for name in _COLUMNS)]
    for point in points:
        lines.append(f"{point.kind:<10}{point.threshold.value:>11.6f}   {'dev':<7}{_cells(point.dev)}")
        if point.target is not None:
            lines.append(f"{'':<24}{'target':<7}{_cells(point.target)}")
    lines += ["", *(f"{point.kind}: {point.threshold.origin}" for point in points)]
    if source.target is None:
        lines.append("The rates on these videos are those of the videos that chose: expect worse elsewhere.")
    else:
        domains = ", ".join(sorted(set(source.target.domain.tolist())))
        lines.append(f"Every threshold is fixed before the target ({domains}) is looked at.")
    return "\n".join(lines)


_COLUMNS = ("APCER", "BPCER", "ACER", "HTER", "F1", "J", "accuracy")


def _cells(rates: Rates) -> str:
    values = (rates.apcer, rates.bpcer, rates.acer, rates.hter, rates.f1, rates.youden, rates.accuracy)
    return "".join(f"{100 * value:>9.2f}" for value in values)

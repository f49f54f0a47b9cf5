"""`agfas threshold`: thresholds between live and attack, chosen on development scores alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pipelines.artefacts.runs import detector_run
from pipelines.errors import AgfasError
from pipelines.evaluation.exact import few_videos
from pipelines.evaluation.operating_points import OperatingPoint, Rates, operating_points
from pipelines.evaluation.scores import ScoreTable
from pipelines.experiment.plan import read_plan
from pipelines.verdict.from_run import choose_fold, finished_experiments

_COLUMNS = ("APCER", "BPCER", "ACER", "HTER", "F1", "J", "accuracy")


@dataclass(frozen=True)
class Source:
    """Scores to choose thresholds on, and others to judge the choice.

    Attributes:
        title: what was scored, in words.
        dev: the thresholds are chosen on these.
        target: judged at the chosen thresholds; None if only one table was given.
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
    """Find thresholds and their error rates.

    Args:
        source: an output folder, or a score table (.parquet) of development faces.
        target: a score table of other faces, if `source` is a table.
        label: experiment of an output folder; default: the first finished one.
        fold: its fold; default: the first.
        max_bpcer: share of bona fide videos that the threshold `max_bpcer` may reject.
        as_json: answer in JSON instead of a table.

    Returns:
        What to print.

    Raises:
        AgfasError: no run, nothing finished, an unknown name, or options that exclude each other.
    """
    if source.is_dir() and target is not None:
        raise AgfasError("--target goes with a score table; an output folder has target scores already.")
    opened = _open_run(source, label, fold) if source.is_dir() else _open_table(source, target, label, fold)
    points = operating_points(opened.dev, opened.target, max_bpcer)
    return _as_json(opened, points) if as_json else _as_table(opened, points)


def _open_table(source: Path, target: Path | None, label: str | None, fold: str | None) -> Source:
    if label is not None or fold is not None:
        raise AgfasError("--label and --fold choose among the detectors of an output folder, not in a score table.")
    other = None if target is None else ScoreTable.load(target)
    return Source(f"{source}" + ("" if target is None else f", then {target}"), ScoreTable.load(source), other)


def _open_run(root: Path, label: str | None, fold: str | None) -> Source:
    planned = finished_experiments(read_plan(root), label)[0]
    name, numbers = choose_fold(planned, fold)
    step, selection = numbers["step"], planned.experiment.evaluate.selection
    detector = detector_run(planned.experiment, name)
    dev, target = detector.scores(step, "dev"), detector.scores(step, "test")
    return Source(f"{planned.title}, {name}, checkpoint of step {step} (chosen by '{selection}')", dev, target)


def _as_json(source: Source, points: list[OperatingPoint]) -> str:
    content = {"scores": source.title, "accepted": "score >= threshold", "points": [p.to_dict() for p in points]}
    return json.dumps(content, indent=2)


def _as_table(source: Source, points: list[OperatingPoint]) -> str:
    lines = [source.title, "A video is accepted as live if its mean score >= threshold. Rates in percent.", ""]
    lines += [f"{'kind':<10}{'threshold':>11}   {'on':<7}" + "".join(f"{name:>9}" for name in _COLUMNS)]
    for point in points:
        lines.append(f"{point.kind:<10}{point.threshold.value:>11.6f}   {'dev':<7}{_cells(point.dev)}")
        if point.target is not None:
            lines.append(f"{'':<24}{'target':<7}{_cells(point.target)}")
    lines += ["", *(f"{point.kind}: {point.threshold.origin}" for point in points)]
    if source.target is None:
        lines.append(
            "These rates are measured on the videos that the thresholds were chosen on: expect worse elsewhere."
        )
    else:
        domains = ", ".join(sorted(set(source.target.domain.tolist())))
        lines.append(f"Every threshold is fixed before the target ({domains}) is looked at.")
    rates = {"dev": points[0].dev, "target": points[0].target}
    if warning := few_videos({on: (found.bonafide, found.attacks) for on, found in rates.items() if found}):
        lines.append(warning)
    return "\n".join(lines)


def _cells(rates: Rates) -> str:
    values = (rates.apcer, rates.bpcer, rates.acer, rates.hter, rates.f1, rates.youden, rates.accuracy)
    return "".join(f"{100 * value:>9.2f}" for value in values)

"""The figures of a report, each a chart of the numbers in result.json, the score tables or metrics.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from pipelines.data.records import BONAFIDE
from pipelines.evaluation.metrics import roc
from pipelines.evaluation.scores import ScoreTable
from pipelines.report.contents import Gathered, Group, Study, TrainingRun, Trial
from pipelines.report.differences import Comparison
from pipelines.report.svg import Axis, Chart, even_ticks, style_of

_RATES = np.concatenate([np.linspace(0, 0.1, 51), np.linspace(0.1, 1, 91)[1:]])
_DET_LOW, _DET_HIGH = 0.005, 0.8
_DET_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6)
_BINS = 25
_CURVE_POINTS = 200
_ROW_HEIGHT = 34


class Scores:
    """The target scores under the honest rules, each table read once."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._known: dict[tuple[int, str], ScoreTable | None] = {}

    def of(self, trial: Trial, fold: str) -> ScoreTable | None:
        """The scores of one experiment on one fold."""
        key = (id(trial), fold)
        if key not in self._known:
            self._known[key] = trial.test_scores(fold, trial.honest)
        return self._known[key]

    def of_group(self, group: Group, fold: str) -> list[ScoreTable]:
        """Those of all seeds."""
        tables = (self.of(trial, fold) for trial in group.trials)
        return [table for table in tables if table is not None]


def overview_figure(study: Study, comparison: Comparison) -> str | None:
    """Mean HTER of every group with its interval, and a small dot for each seed."""
    groups = [group for group in (*study.methods, *study.controls) if group.finished]
    if not groups:
        return None
    rule = study.honest
    means = {
        group.name: [v for trial in group.trials if (v := trial.mean(rule, "hter")) is not None] for group in groups
    }
    intervals = {group.name: comparison.interval_of(group) for group in groups}
    highest = max([*(max(values) for values in means.values()), *(i[1] for i in intervals.values() if i)])
    high = 100 * highest * 1.08 or 1.0
    x = Axis("HTER, mean over the folds (%)", 0, high, even_ticks(0, high, 6))
    y = Axis("", len(groups), 0, ())
    chart = Chart("Mean HTER and its 95 % interval", x, y, 460, _ROW_HEIGHT * len(groups) + 66)
    for row, group in enumerate(groups):
        _overview_row(chart, row, group, means[group.name], intervals[group.name])
    return chart.svg()


def _overview_row(
    chart: Chart, row: int, group: Group, values: Sequence[float], interval: tuple[float, float] | None
) -> None:
    style = style_of(group.number, group.is_control)
    name = group.name if not group.is_control or "control" in group.name else f"{group.name} (control)"
    mean = 100 * float(np.mean(values))
    at = row + 0.74
    chart.text(0, row + 0.3, f"{name}: {mean:.1f} %", "small")
    if interval:
        chart.line([(100 * interval[0], at), (100 * interval[1], at)], style)
    for value in values:
        chart.dot(100 * value, at, f"{style} faint", 3, f"{name}: {100 * value:.1f} %")
    chart.dot(mean, at, style, 5, f"{name}: mean {mean:.1f} %")


def roc_figures(study: Study, scores: Scores) -> list[str]:
    """A ROC chart for each fold, every group's line the mean over its seeds at equal FAR."""
    ticks = tuple((k / 5, f"{20 * k}") for k in range(6))
    x, y = Axis("accepted attacks, FAR (%)", 0, 1, ticks), Axis("accepted live, 1 - FRR (%)", 0, 1, ticks)
    charts = []
    for fold in study.folds:
        chart = Chart(f"ROC, {fold}", x, y)
        chart.line([(0, 0), (1, 1)], "guide")
        for group, accepted in _mean_curves(study, scores, fold):
            style = style_of(group.number, group.is_control)
            chart.line(list(zip(_RATES.tolist(), accepted.tolist(), strict=True)), style, group.name)
        charts.append(chart.svg())
    return charts


def det_figures(study: Study, scores: Scores) -> list[str]:
    """A DET chart for each fold: the same lines on normal-deviate axes."""
    ticks = tuple((_deviate(rate), f"{100 * rate:g}") for rate in _DET_TICKS)
    ends = _deviate(_DET_LOW), _deviate(_DET_HIGH)
    x, y = Axis("accepted attacks, FAR (%)", *ends, ticks), Axis("rejected live, FRR (%)", *ends, ticks)
    inside = (_RATES >= _DET_LOW) & (_RATES <= _DET_HIGH)
    charts = []
    for fold in study.folds:
        chart = Chart(f"DET, {fold}", x, y)
        chart.line([(ends[0], ends[0]), (ends[1], ends[1])], "guide")
        for group, accepted in _mean_curves(study, scores, fold):
            points = [
                (_deviate(far), _deviate(1 - share))
                for far, share in zip(_RATES[inside].tolist(), accepted[inside].tolist(), strict=True)
            ]
            chart.line(points, style_of(group.number, group.is_control), group.name)
        charts.append(chart.svg())
    return charts


def histogram_figures(study: Study, scores: Scores) -> list[tuple[Group, list[str]]]:
    """For each group a small histogram of every fold: live and attack scores of its first finished seed."""
    rows = []
    for group in (*study.methods, *study.controls):
        trial = next((trial for trial in group.trials if trial.finished), None)
        if trial is not None:
            rows.append((group, [_histogram(scores.of(trial, fold), trial, fold) for fold in study.folds]))
    return rows


def training_figures(gathered: Gathered, study: Study) -> list[str]:
    """Loss over steps: of the identity encoders and generators, and of the detectors of every fold."""
    charts = [_loss_chart(f"{run.kind}, {run.folder.name}", [(run.title, "c0", [run])]) for run in gathered.shared]
    for fold in study.folds:
        lines = [
            (group.name, style_of(group.number, group.is_control), _runs_of(group, fold)) for group in study.groups
        ]
        charts.append(_loss_chart(f"detectors, {fold}", lines))
    return [chart for chart in charts if chart]


def _runs_of(group: Group, fold: str) -> list[TrainingRun]:
    return [trial.runs[fold] for trial in group.trials if fold in trial.runs]


def _loss_chart(title: str, lines: Sequence[tuple[str, str, Sequence[TrainingRun]]]) -> str:
    """One line per group, the mean over its runs where all have logged; empty where nothing was."""
    curves = [(name, style, _mean_loss(runs)) for name, style, runs in lines]
    curves = [(name, style, curve) for name, style, curve in curves if len(curve) > 1]
    if not curves:
        return ""
    values = [loss for _, _, curve in curves for _, loss in curve]
    low, high = min(0.0, min(values)), float(np.quantile(values, 0.99)) * 1.05 or 1.0
    last = max(curve[-1][0] for _, _, curve in curves)
    chart = Chart(title, Axis("step", 0, last, even_ticks(0, last)), Axis("loss", low, high, even_ticks(low, high)))
    for name, style, curve in curves:
        chart.line(curve, style, name)
    return chart.svg()


def _mean_loss(runs: Sequence[TrainingRun]) -> list[tuple[float, float]]:
    by_step: dict[int, list[float]] = {}
    for run in runs:
        for line in run.metrics:
            by_step.setdefault(line["step"], []).append(line["loss"])
    most = max((len(values) for values in by_step.values()), default=0)
    points = [(float(step), float(np.mean(v))) for step, v in sorted(by_step.items()) if len(v) == most]
    return points[:: max(1, len(points) // _CURVE_POINTS)]


def _mean_curves(study: Study, scores: Scores, fold: str) -> list[tuple[Group, np.ndarray]]:
    """Share of accepted live faces at each FAR of the grid, (R,), for every group that was judged."""
    curves = []
    for group in study.groups:
        tables = scores.of_group(group, fold)
        if tables:
            curves.append((group, np.mean([_accepted_live(table) for table in tables], axis=0)))
    return curves


def _accepted_live(table: ScoreTable) -> np.ndarray:
    """The highest share of accepted live faces with at most each FAR of the grid."""
    curve = roc(table.label, table.score)
    fpr, tpr = curve.fpr[::-1], curve.tpr[::-1]
    return tpr[np.searchsorted(fpr, _RATES + 1e-12, side="right") - 1]


def _histogram(table: ScoreTable | None, trial: Trial, fold: str) -> str:
    if table is None:
        return ""
    low, high = np.floor(10 * table.score.min()) / 10, np.ceil(10 * table.score.max() + 1e-9) / 10
    edges = np.linspace(low, high, _BINS + 1)
    shares = {}
    for name, chosen in (("live", table.label == BONAFIDE), ("attack", table.label != BONAFIDE)):
        shares[name] = np.histogram(table.score[chosen], edges)[0] / max(1, chosen.sum())
    top = max(float(share.max()) for share in shares.values()) or 1.0
    x, y = Axis("", low, high, even_ticks(low, high, 3)), Axis("", 0, top, ())
    chart = Chart(fold, x, y, 190, 120)
    for name, share in shares.items():
        steps = [(float(edge), float(v)) for k, v in enumerate(share) for edge in edges[k : k + 2]]
        chart.area(steps, name, name)
    threshold = (trial.numbers(fold, trial.honest) or {})["threshold"]
    chart.line([(threshold, 0), (threshold, top)], "threshold", f"threshold {threshold:.3f}")
    return chart.svg()


def _deviate(rate: float) -> float:
    return NormalDist().inv_cdf(min(max(rate, 1e-4), 1 - 1e-4))

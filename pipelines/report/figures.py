"""The figures of a report: charts of the numbers in result.json, of the score tables and of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np

from pipelines.data.records import BONAFIDE
from pipelines.evaluation.metrics import roc
from pipelines.evaluation.scores import ScoreTable
from pipelines.report.charts import Axis, Chart, Radar, even_ticks
from pipelines.report.comparison import Comparison
from pipelines.report.contents import (
    Gathered,
    Group,
    Study,
    Target,
    TrainingRun,
    Trial,
    mean_of,
    means_by_seed,
    targets_of,
)

# FAR of the points of a curve, denser where it matters.
_RATES = np.concatenate([np.linspace(0, 0.1, 51), np.linspace(0.1, 1, 91)[1:]])
_DET_LOW, _DET_HIGH = 0.005, 0.8
_DET_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6)
_BINS = 25
_CURVE_POINTS = 200
_ROW_HEIGHT = 34
# Axes of the radar: name, metric, whether it is an error; 0 % at the centre, 100 % at the rim.
_AXES = (
    ("AUC", "auc", False), ("100 - EER", "eer", True), ("100 - APCER", "apcer", True), ("100 - BPCER", "bpcer", True),
    ("F1", "f1", False), ("accuracy", "accuracy", False),
)  # fmt: skip
# Longest name of a radar's axis, and most axes that are legible.
_LONGEST, _MOST_AXES = 24, 16


def overview_figure(study: Study, comparison: Comparison) -> str | None:
    """Mean HTER of every group with its interval, and a small dot for each seed; None if nothing is finished."""
    groups = [group for group in study.rows if group.finished]
    if not groups:
        return None
    means = {
        group.name: [v for t in group.trials if (v := t.mean(study.honest, "hter")) is not None] for group in groups
    }
    intervals = {group.name: comparison.interval_of(group) for group in groups}
    highest = max([*(max(values) for values in means.values()), *(i[1] for i in intervals.values() if i)])
    high = 100 * highest * 1.08 or 1.0
    x = Axis("HTER, mean over the folds (%)", 0, high, even_ticks(0, high, 6))
    y = Axis("", len(groups), 0, ())
    chart = Chart("Mean HTER and its 95 % interval", x, y, 460, _ROW_HEIGHT * len(groups) + 66)
    for row, group in enumerate(groups):
        name = group.name if not group.is_control or "control" in group.name else f"{group.name} (control)"
        mean, at = 100 * float(np.mean(means[group.name])), row + 0.74
        chart.text(0, row + 0.3, f"{name}: {mean:.1f} %", "small")
        if interval := intervals[group.name]:
            chart.line([(100 * interval[0], at), (100 * interval[1], at)], group.style)
        for value in means[group.name]:
            chart.dot(100 * value, at, f"{group.style} faint", 3, f"{name}: {100 * value:.1f} %")
        chart.dot(mean, at, group.style, 5, f"{name}: mean {mean:.1f} %")
    return chart.svg()


def roc_figures(study: Study) -> list[str]:
    """A ROC chart for each fold; a group's line is the mean over its seeds at equal FAR."""
    ticks = tuple((k / 5, f"{20 * k}") for k in range(6))
    x, y = Axis("accepted attacks, FAR (%)", 0, 1, ticks), Axis("accepted live, 1 - FRR (%)", 0, 1, ticks)
    return _curve_charts(study, "ROC", x, y, lambda accepted: list(zip(_RATES.tolist(), accepted, strict=True)))


def det_figures(study: Study) -> list[str]:
    """A DET chart for each fold: the same lines on normal-deviate axes (Martin et al. 1997)."""
    ticks = tuple((_deviate(rate), f"{100 * rate:g}") for rate in _DET_TICKS)
    ends = _deviate(_DET_LOW), _deviate(_DET_HIGH)
    x, y = Axis("accepted attacks, FAR (%)", *ends, ticks), Axis("rejected live, FRR (%)", *ends, ticks)

    def points(accepted: list[float]) -> list[tuple[float, float]]:
        pairs = zip(_RATES.tolist(), accepted, strict=True)
        return [(_deviate(far), _deviate(1 - share)) for far, share in pairs if _DET_LOW <= far <= _DET_HIGH]

    return _curve_charts(study, "DET", x, y, points)


def histogram_figures(study: Study) -> list[tuple[Group, list[str]]]:
    """For each group a small histogram of every fold: bona fide and attack scores of its first finished seed."""
    rows = []
    for group in study.rows:
        if (trial := group.first_finished) is not None:
            rows.append((group, [_histogram(trial, fold) for fold in study.folds]))
    return rows


def training_figures(gathered: Gathered, study: Study) -> list[str]:
    """Training losses by step of the identity encoders and generators, and of the detectors of every fold."""
    charts = [_loss_chart(f"{run.kind}, {run.folder.name}", [(run.title, "c0", [run])]) for run in gathered.shared]
    for fold in study.folds:
        runs = {group: [trial.runs[fold] for trial in group.trials if fold in trial.runs] for group in study.groups}
        lines = [(group.name, group.style, found) for group, found in runs.items()]
        charts.append(_loss_chart(f"detectors, {fold}", lines))
    return [chart for chart in charts if chart]


def _loss_chart(title: str, lines: Sequence[tuple[str, str, Sequence[TrainingRun]]]) -> str:
    """One line per group, the mean over its runs at steps that all have logged; empty without any log."""
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


def _curve_charts(
    study: Study, name: str, x: Axis, y: Axis, points: Callable[[list[float]], list[tuple[float, float]]]
) -> list[str]:
    """A chart for each fold; `points` places the shares of accepted bona fide faces at `_RATES`."""
    charts = []
    for fold in study.folds:
        chart = Chart(f"{name}, {fold}", x, y)
        chart.line([(x.low, y.low), (x.high, y.high)], "guide")
        for group in study.groups:
            tables = [table for t in group.trials if (table := t.test_scores(fold, t.honest)) is not None]
            if tables:
                accepted = np.mean([_accepted_live(table) for table in tables], axis=0)
                chart.line(points(accepted.tolist()), group.style, group.name)
        charts.append(chart.svg())
    return charts


def _accepted_live(table: ScoreTable) -> np.ndarray:
    """(R,) the highest share of accepted bona fide faces with FAR at most each of `_RATES`."""
    curve = roc(table.label, table.score)
    fpr, tpr = curve.fpr[::-1], curve.tpr[::-1]
    return tpr[np.searchsorted(fpr, _RATES + 1e-12, side="right") - 1]


def _histogram(trial: Trial, fold: str) -> str:
    table = trial.test_scores(fold, trial.honest)
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


def radar_figures(study: Study) -> list[str]:
    """A radar of the metrics, means over targets and seeds, and one of HTER by target for 3 to 16 targets."""
    targets, rule = targets_of(study), study.honest
    groups = [group for group in study.groups if mean_of(group, targets, rule, "hter") is not None]
    if not groups:
        return []
    metrics = Radar("Metrics, mean over targets (%)", [name for name, _, _ in _AXES], 0, 100)
    for group in groups:
        means = [(mean_of(group, targets, rule, metric), error) for _, metric, error in _AXES]
        if all(mean is not None for mean, _ in means):
            values = [100 - 100 * mean if error else 100 * mean for mean, error in means if mean is not None]
            metrics.line(values, group.style, group.name)
    if not 3 <= len(targets) <= _MOST_AXES:
        return [metrics.svg()]
    by_target = Radar("100 - HTER by target (%); centre: chance", [_short(target) for target in targets], 50, 100)
    for group in groups:
        found = [mean_of(group, [target], rule, "hter") for target in targets]
        if all(mean is not None for mean in found):
            by_target.line([100 - 100 * mean for mean in found if mean is not None], group.style, group.name)
    return [metrics.svg(), by_target.svg()]


def trade_off_figures(study: Study) -> list[str]:
    """BPCER over APCER of every group at its own threshold, and HTER over its number of parameters."""
    charts = [_rates_chart(study), _size_chart(study)]
    return [chart for chart in charts if chart]


def _rates_chart(study: Study) -> str:
    targets, rule = targets_of(study), study.honest
    points = {group.name: means_by_seed(group, targets, rule, ("apcer", "bpcer")) for group in study.groups}
    everything = [rate for values in points.values() for pair in values for rate in pair]
    if not everything:
        return ""
    high = min(100.0, 100 * max(everything) * 1.1 + 1)
    ticks = even_ticks(0, high)
    chart = Chart(
        "Trade-off: APCER and BPCER",
        Axis("APCER, worst attack type (%)", 0, high, ticks),
        Axis("BPCER (%)", 0, high, ticks),
    )
    for place, words in ticks:
        if 0 < place <= high:
            chart.line([(0, place), (place, 0)], "guide", f"ACER {float(words) / 2:g} %")
    for group in study.groups:
        _dots(chart, group, [(100 * one, 100 * other) for one, other in points[group.name]], ("APCER", "BPCER"))
    return chart.svg()


def _size_chart(study: Study) -> str:
    sizes = {group.name: max(group.parameters, default=0) for group in study.groups}
    hters = {group.name: means_by_seed(group, targets_of(study), study.honest, ("hter",)) for group in study.groups}
    known = {name: size for name, size in sizes.items() if size and hters[name]}
    if len(set(known.values())) < 2:
        return ""
    low, high = np.floor(np.log10(min(known.values()))), np.ceil(np.log10(max(known.values())) + 1e-9)
    top = min(100.0, 100 * max(rate for name in known for (rate,) in hters[name]) * 1.15 + 1)
    powers = tuple((float(power), _count(10**power)) for power in range(int(low), int(high) + 1))
    chart = Chart(
        "Trade-off: parameters and HTER",
        Axis("parameters, each tick ten times as many", float(low), float(high), powers),
        Axis("HTER, mean over targets (%)", 0, top, even_ticks(0, top)),
    )
    for group in study.groups:
        if group.name in known:
            at = float(np.log10(known[group.name]))
            _dots(chart, group, [(at, 100 * rate) for (rate,) in hters[group.name]], ("", "HTER"))
    return chart.svg()


def _dots(chart: Chart, group: Group, points: Sequence[tuple[float, ...]], names: tuple[str, str]) -> None:
    """Seeds as faint dots, their mean as a large one."""
    if not points:
        return
    for x, y in points:
        chart.dot(x, y, f"{group.style} faint", 3, group.name)
    x, y = np.mean(points, axis=0).tolist()
    said = ", ".join(f"{name} {value:.1f} %" for name, value in zip(names, (x, y), strict=True) if name)
    chart.dot(x, y, group.style + (" hollow" if group.is_control else ""), 5.5, f"{group.name}: {said}")


def _count(number: float) -> str:
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def _short(target: Target) -> str:
    name = f"{target.fold.removeprefix('from_')} → {target.domain}" if target.domain else target.fold
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"

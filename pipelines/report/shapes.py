"""Radar and trade-off charts: what one error costs in another, and where a method is strong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.report.contents import Group, Study
from pipelines.report.radar import Radar
from pipelines.report.svg import Axis, Chart, even_ticks, style_of
from pipelines.report.targets import Target, targets_of, values_of

# (axis, metric, whether it is an error), from 0 at the centre to 100 at the rim.
_AXES = (
    ("AUC", "auc", False), ("100 - EER", "eer", True), ("100 - APCER", "apcer", True), ("100 - BPCER", "bpcer", True),
    ("F1", "f1", False), ("accuracy", "accuracy", False),
)  # fmt: skip
_LONGEST = 24
# More axes than that cannot be read.
_MOST_AXES = 16


def radar_figures(study: Study) -> list[str]:
    """A radar of the metrics, means over targets and seeds, and one of the targets where there are three to sixteen."""
    targets, rule = targets_of(study), study.honest
    groups = [group for group in study.groups if _mean(group, targets, rule, "hter") is not None]
    if not groups:
        return []
    metrics = Radar("Metrics, mean over targets (%)", [name for name, _, _ in _AXES], 0, 100)
    for group in groups:
        means = [(_mean(group, targets, rule, metric), error) for _, metric, error in _AXES]
        if all(mean is not None for mean, _ in means):
            values = [100 - 100 * mean if error else 100 * mean for mean, error in means if mean is not None]
            metrics.line(values, _style(group), group.name)
    if not 3 <= len(targets) <= _MOST_AXES:
        return [metrics.svg()]
    by_target = Radar("100 - HTER by target (%); centre: chance", [_short(target) for target in targets], 50, 100)
    for group in groups:
        found = [_mean(group, [target], rule, "hter") for target in targets]
        if all(mean is not None for mean in found):
            by_target.line([100 - 100 * mean for mean in found if mean is not None], _style(group), group.name)
    return [metrics.svg(), by_target.svg()]


def trade_off_figures(study: Study) -> list[str]:
    """BPCER over APCER of every group at its own threshold, and HTER over the number of parameters."""
    charts = [_rates_chart(study), _size_chart(study)]
    return [chart for chart in charts if chart]


def _rates_chart(study: Study) -> str:
    targets, rule = targets_of(study), study.honest
    points = {group.name: _by_seed(group, targets, rule, ("apcer", "bpcer")) for group in study.groups}
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
    sizes = {group.name: _parameters(group) for group in study.groups}
    hters = {group.name: _by_seed(group, targets_of(study), study.honest, ("hter",)) for group in study.groups}
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


def _dots(chart: Chart, group: Group, points: Sequence[tuple[float, float]], names: tuple[str, str]) -> None:
    """Seeds as faint dots, their mean as a large one."""
    if not points:
        return
    for x, y in points:
        chart.dot(x, y, f"{_style(group)} faint", 3, group.name)
    x, y = np.mean(points, axis=0).tolist()
    said = ", ".join(f"{name} {value:.1f} %" for name, value in zip(names, (x, y), strict=True) if name)
    chart.dot(x, y, _style(group) + (" hollow" if group.is_control else ""), 5.5, f"{group.name}: {said}")


def _by_seed(group: Group, targets: Sequence[Target], rule: str, metrics: tuple[str, ...]) -> list[tuple[float, ...]]:
    """Means over the targets of each seed that has them all."""
    found = [[values_of(group, target, rule, metric) for target in targets] for metric in metrics]
    if not targets:
        return []
    seeds = sorted(set.intersection(*(set(values) for column in found for values in column)))
    return [tuple(float(np.mean([values[seed] for values in column])) for column in found) for seed in seeds]


def _mean(group: Group, targets: Sequence[Target], rule: str, metric: str) -> float | None:
    values = _by_seed(group, targets, rule, (metric,))
    return float(np.mean(values)) if values else None


def _parameters(group: Group) -> int:
    counts = [run.done["parameters"] for t in group.trials for run in t.runs.values() if run.done]
    return max(counts, default=0)


def _count(number: float) -> str:
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def _short(target: Target) -> str:
    name = f"{target.fold.removeprefix('from_')} → {target.domain}" if target.domain else target.fold
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _style(group: Group) -> str:
    return style_of(group.number, group.is_control)

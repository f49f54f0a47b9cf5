"""Figures of score tables: ROC, DET and histograms. They need no display and share no global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipelines.data.records import NO_ATTACK
from pipelines.evaluation.metrics import roc
from pipelines.evaluation.scores import ScoreTable

_SIZE = (5.6, 4.6)
_POINTS = 2000
_DET_LIMITS = (0.001, 0.6)
_DET_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6)
_NO_SCORE = 1e-6


def roc_figure(tables: Mapping[str, ScoreTable]) -> Figure:
    """Accepted bona fide against accepted attacks, one line per named table, its AUC in the legend."""
    figure, axes = _new_figure()
    for name, table in tables.items():
        curve = roc(table.label, table.score)
        keep = _thinned(len(curve.thresholds))
        axes.plot(curve.fpr[keep], curve.tpr[keep], label=f"{name} (AUC {100 * curve.auc():.1f} %)", lw=1.6)
    axes.plot([0, 1], [0, 1], color="0.7", lw=0.8, ls="--", zorder=0)
    axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel="accepted attacks (FAR)", ylabel="accepted bona fide (1 - FRR)")
    axes.legend(loc="lower right", fontsize=8)
    return figure


def det_figure(tables: Mapping[str, ScoreTable]) -> Figure:
    """Rejected bona fide against accepted attacks on normal-deviate axes, the EER in the legend.

    Scores of two normal distributions give straight lines there. Rates below 0.1 %, which small tables cannot
    resolve, and above 60 % lie outside the axes.
    """
    figure, axes = _new_figure()
    for name, table in tables.items():
        curve = roc(table.label, table.score)
        keep = _thinned(len(curve.thresholds))
        far, frr = _deviates(curve.fpr[keep]), _deviates(1 - curve.tpr[keep])
        axes.plot(far, frr, label=f"{name} (EER {100 * curve.eer()[0]:.1f} %)", lw=1.6)
    limits = _deviates(np.array(_DET_LIMITS))
    axes.plot(limits, limits, color="0.7", lw=0.8, ls="--", zorder=0)
    ticks, labels = _deviates(np.array(_DET_TICKS)), [f"{100 * rate:g}" for rate in _DET_TICKS]
    axes.set_xticks(ticks, labels)
    axes.set_yticks(ticks, labels)
    axes.set(xlim=limits, ylim=limits, xlabel="accepted attacks, FAR (%)", ylabel="rejected bona fide, FRR (%)")
    axes.legend(loc="upper right", fontsize=8)
    return figure


def histogram_figure(table: ScoreTable, thresholds: Mapping[str, float], bins: int = 40) -> Figure:
    """Scores of bona fide and of each attack type, and where the named thresholds lie.

    Heights are shares of the class, since attacks usually outnumber bona fide.
    """
    figure, axes = _new_figure()
    codes, names = table.attack_codes
    low, high = min(0.0, float(table.score.min())), max(1.0, float(table.score.max()))
    edges = np.linspace(low, high, bins + 1)
    for name in _bonafide_first(names):
        scores = table.score[codes == names.index(name)]
        share = np.histogram(scores, edges)[0] / len(scores)
        label = f"{'bona fide' if name == NO_ATTACK else name} ({len(scores)})"
        axes.stairs(share, edges, label=label, fill=name == NO_ATTACK, alpha=0.45 if name == NO_ATTACK else 1, lw=1.4)
    for style, (name, value) in zip(("-", "--", ":", "-.") * len(thresholds), thresholds.items(), strict=False):
        axes.axvline(value, color="black", ls=style, lw=1, label=f"{name}: {value:.3f}")
    axes.set(xlim=(low, high), xlabel="score (probability of bona fide)", ylabel="share of the class")
    axes.legend(fontsize=8)
    return figure


def _new_figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(color="0.9", lw=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _thinned(count: int) -> np.ndarray:
    """Indices of at most `_POINTS` operating points, both ends among them: more than a screen can show."""
    return np.unique(np.linspace(0, count - 1, min(count, _POINTS)).round().astype(np.int64))


def _deviates(rates: np.ndarray) -> np.ndarray:
    """Normal deviates of rates; 0 and 1 would be infinitely far and are drawn just outside the axes."""
    inverse = NormalDist().inv_cdf
    return np.array([inverse(rate) for rate in np.clip(rates, _NO_SCORE, 1 - _NO_SCORE).tolist()])


def _bonafide_first(names: Sequence[str]) -> list[str]:
    return sorted(names, key=lambda name: (name != NO_ATTACK, name))

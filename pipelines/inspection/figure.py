"""The figure of an inspection."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines.inspection.theorems import Theorems

_CONDITIONS = {"identity": "right identity", "wrong": "wrong identity", "none": "no identity"}
_STYLES = {"identity": "-", "wrong": "--", "none": ":"}


def inspection_figure(rows: list[dict[str, Any]], curves: list[Theorems], proposed: int | None) -> Figure:
    """Restoration error, noise error and identity similarity by t; below them both theorems and the proposed t.

    Args:
        rows: of inspect.csv.
        curves: may be empty.
        proposed: t, marked in the last panel; None without curves.
    """
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    axes = figure.subplots(2, 3).flatten()
    panels = (
        ("mean_abs_error", "restoration error (grey levels)"),
        ("noise_error", "noise-prediction error (mean square)"),
        ("identity_similarity", "identity kept (cosine)"),
    )
    for panel, (name, label) in zip(axes, panels, strict=False):
        _lines(panel, rows, name, label)
    if rows:
        axes[0].legend(fontsize=6)
    _theorem_one(axes[3], curves)
    _theorem_two(axes[4], curves)
    _trade_off(axes[5], curves, proposed)
    return figure


def as_svg(figure: Figure) -> str:
    """The figure as SVG, reproducible byte for byte."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "agfas", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _lines(axes: Axes, rows: list[dict[str, Any]], name: str, label: str) -> None:
    groups = list(dict.fromkeys(row["group"] for row in rows))
    for number, group in enumerate(groups):
        for condition, words in _CONDITIONS.items():
            chosen = [row for row in rows if (row["group"], row["condition"]) == (group, condition)]
            values = [(row["timestep"], row[name]) for row in chosen if row[name] is not None]
            if values:
                axes.plot(*zip(*values, strict=True), _STYLES[condition], color=f"C{number}", label=f"{group}, {words}")
    axes.set(xlabel="t", ylabel=label)


def _theorem_one(axes: Axes, curves: list[Theorems]) -> None:
    axes.plot(_t(curves), [one.live_error for one in curves], "o-", color="C0")
    axes.set(xlabel="t", ylabel="live latents, error of restoring (RMS)", title="Theorem 1")


def _theorem_two(axes: Axes, curves: list[Theorems]) -> None:
    axes.plot(_t(curves), [one.kl for one in curves], "o-", color="C3", label="live against attack")
    axes.plot(_t(curves), [one.kl_floor for one in curves], ":", color="0.5", label="live against live")
    axes.set(xlabel="t", ylabel="KL divergence (nats per latent value)", title="Theorem 2")
    if curves:
        axes.set_yscale("log")
        axes.legend(fontsize=8)


def _trade_off(axes: Axes, curves: list[Theorems], proposed: int | None) -> None:
    axes.plot(_t(curves), [one.removed for one in curves], "o-", color="C3", label="divergence removed")
    axes.plot(_t(curves), [one.lost for one in curves], "o-", color="C0", label="live face lost")
    title = "no attacks to compare with"
    if proposed is not None:
        axes.axvline(proposed, color="0.5", ls="--", lw=0.8)
        axes.legend(fontsize=8)
        title = f"widest gap at t = {proposed}"
    axes.set(xlabel="t", ylabel="share", title=title)


def _t(curves: list[Theorems]) -> list[int]:
    return [one.timestep for one in curves]

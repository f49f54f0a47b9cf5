"""The one table and the one plot of all studies in a folder."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines.errors import AgfasError
from pipelines.files import csv_text, write_text
from pipelines.inspection.figure import as_svg
from pipelines.markdown import table
from scripts.gain.measure import Found, Table

KINDS = ("generators", "gains", "trends")
_OVER = {"image": "over image_only", "autoencoder": "over the autoencoder's cue"}


def write_tables(folder: Path, name: str, found: Found) -> None:
    """NAME_generators.csv, NAME_gains.csv and NAME_trends.csv."""
    for kind in KINDS:
        write_text(folder / f"{name}_{kind}.csv", csv_text(getattr(found, kind)))


def draw(folder: Path) -> None:
    """gain.md and gain.svg, of every study in the folder.

    Raises:
        AgfasError: it holds none, or a table of one is missing.
    """
    studies = [_read(folder, path.name.removesuffix("_gains.csv")) for path in sorted(folder.glob("*_gains.csv"))]
    if not studies:
        raise AgfasError(f"{folder} holds no NAME_gains.csv. Run `python -m scripts.cue_gain measure` first.")
    write_text(folder / "gain.md", page(studies))
    write_text(folder / "gain.svg", as_svg(figure(studies)))


def page(studies: list[Found]) -> str:
    """One table of all studies, the trends below it."""
    header = (
        *("data", "detector and cue", "noise loss", "restoration error", "error alone", "AUC", "over image_only"),
        *("over the autoencoder", "HTER", "over image_only", "over the autoencoder"),
    )
    rows = []
    for study in studies:
        known = {one["generator"]: one for one in study.generators}
        for line in study.gains:
            made = known.get(line["row"])
            quality = (made["noise_loss"], made["restoration_grey_levels"]) if made else ("", "")
            rates = [
                _cell(line, f"{metric}{what}")
                for metric in ("auc", "hter")
                for what in ("", "_gain_over_image", "_gain_over_autoencoder")
            ]
            rows.append(
                (f"{line['study']}, {line['on']}", line["row"], *quality, line["auc_of_the_error_alone"], *rates)
            )
    trends = [
        (
            *(f"{one['study']}, {one['on']}", one["metric"].upper(), one["generators"], one["seeds"]),
            *(_cell(one, name) for name in ("points_per_halving_of_the_noise_loss", "best_minus_worst")),
            f"{100 * float(one['share_of_draws_that_rise']):.0f} %",
        )
        for study in studies
        for one in study.trends
    ]
    below = (
        *("data", "metric", "generators", "seeds", "points per halving of the noise loss"),
        *("best minus worst generator", "draws in which it rises throughout"),
    )
    return f"{table(header, rows)}\n\n{table(below, trends)}\n"


def figure(studies: list[Found]) -> Figure:
    """A column per mean; gains in AUC by noise loss (of comparable generators) and by restoration error (of all).

    Generators whose autoencoder is the first one's are joined by a line; the others are squares.
    """
    columns = [(study, name) for study in studies for name in dict.fromkeys(line["on"] for line in study.gains)]
    drawn = Figure(figsize=(3.2 * len(columns) + 0.6, 6.4), layout="constrained")
    axes = drawn.subplots(2, len(columns), squeeze=False, sharey="col")
    for place, (study, name) in enumerate(columns):
        lines = [line for line in study.gains if line["on"] == name]
        known = {one["generator"]: one for one in study.generators}
        _panel(axes[0, place], lines, known, "noise_loss", "noise loss on unseen live faces", study)
        _panel(axes[1, place], lines, known, "restoration_grey_levels", "restoration error (grey levels)", study)
        axes[0, place].set_title(f"{lines[0]['study']}: {name}", fontsize=9)
    axes[0, 0].legend(fontsize=7)
    return drawn


def _panel(axes: Axes, lines: Table, known: dict[str, dict[str, Any]], what: str, label: str, study: Found) -> None:
    counted = int(study.trends[0]["generators"]) if study.trends else len(known)
    alike, others = list(known)[:counted], list(known)[counted:]
    for number, (over, words) in enumerate(_OVER.items()):
        _points(axes, [line for line in lines if line["row"] in alike], known, what, over, number, "o-", words)
        if what != "noise_loss":  # that of other latents is on another scale
            _points(axes, [line for line in lines if line["row"] in others], known, what, over, number, "s", "")
    axes.axhline(0, color="0.5", lw=0.8, ls="--")
    axes.invert_xaxis()
    axes.set_xlabel(f"{label}, better to the right", fontsize=8)
    if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
        axes.set_ylabel("gain in AUC (points)")


def _points(
    axes: Axes, lines: Table, known: dict[str, dict[str, Any]], what: str, over: str, number: int, form: str, label: str
) -> None:
    points = []
    for line in lines:
        if line[f"auc_gain_over_{over}"] != "":
            value, low, high = (float(line[f"auc_gain_over_{over}{end}"]) for end in ("", "_low", "_high"))
            points.append((float(known[line["row"]][what]), value, value - low, high - value))
    if points:
        x, y, below, above = zip(*sorted(points), strict=True)
        shift = [one * (1 + 0.006 * number) for one in x]  # so that neither interval hides the other
        axes.errorbar(shift, y, (below, above), fmt=form, color=f"C{number}", capsize=3, ms=4, label=label)


def _cell(line: dict[str, Any], name: str) -> str:
    """`value ± deviation [low, high]`; gains with their sign, empty without a value."""
    if line[name] in ("", None):
        return ""
    value, low, high, deviation = (float(line[f"{name}{end}"]) for end in ("", "_low", "_high", "_sd"))
    sign = "+" if name not in ("auc", "hter") else ""
    spread = f" ± {deviation:.1f}" if int(line["seeds"]) > 1 else ""
    return f"{value:{sign}.1f}{spread} [{low:.1f}, {high:.1f}]"


def _read(folder: Path, name: str) -> Found:
    tables = []
    for kind in KINDS:
        path = folder / f"{name}_{kind}.csv"
        if not path.is_file():
            raise AgfasError(f"{path} is missing. Run `python -m scripts.cue_gain measure` for {name} again.")
        with path.open(encoding="utf-8", newline="") as file:
            tables.append(list(csv.DictReader(file)))
    return Found(*tables)

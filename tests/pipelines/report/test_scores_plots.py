"""Figures hold what they should show."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from score_tables import make_table, random_table

from pipelines.evaluation.plots import det_figure, histogram_figure, roc_figure


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def png(figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


@pytest.mark.parametrize("make", [roc_figure, det_figure])
def test_curves_have_a_line_for_each_table(make):
    tables = {"image_only": random_table(5000, 0), "oanet": random_table(5000, 1, shift=2)}
    figure = make(tables)
    lines = [line.get_xydata() for line in figure.axes[0].get_lines()]
    assert [name.split(" ")[0] for name in legend(figure)] == ["image_only", "oanet"]
    assert all(np.isfinite(points).all() and len(points) <= 2000 for points in lines)
    assert png(figure).startswith(b"\x89PNG")


def test_roc_runs_from_corner_to_corner():
    points = roc_figure({"x": random_table(50)}).axes[0].get_lines()[0].get_xydata()
    assert sorted([points[0].tolist(), points[-1].tolist()]) == [[0.0, 0.0], [1.0, 1.0]]


def test_perfect_scores_can_be_drawn():
    perfect = make_table([0, 1], [0.0, 1.0])
    assert legend(det_figure({"x": perfect})) == ["x (EER 0.0 %)"]
    assert legend(roc_figure({"x": perfect})) == ["x (AUC 100.0 %)"]


def test_histogram_names_classes_and_thresholds():
    table = random_table(200)
    figure = histogram_figure(table, {"source_dev_eer": 0.4, "target_eer": 0.6})
    names = legend(figure)
    assert names[0] == f"bona fide ({np.sum(table.label == 1)})"
    assert [name.split(" ")[0] for name in names[1:4]] == ["mask", "print", "replay"]
    assert names[4:] == ["source_dev_eer: 0.400", "target_eer: 0.600"]
    assert png(figure).startswith(b"\x89PNG")


def test_figures_leave_no_global_state():
    roc_figure({"x": random_table(20)})
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()

"""Cells, axes and charts, on values whose result is worked out by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from made_up_study import HONEST, NOWHERE, DrawnChart, data, leave_one_out, run_of
from score_tables import make_table

from pipelines.report import figures
from pipelines.report.cells import Cell, Row, Table, listed, percent, rate_cell, span, to_markdown
from pipelines.report.charts import Axis, Chart, HeatMap, even_ticks, style_of
from pipelines.report.contents import Study, Target, Trial
from pipelines.report.gather import _studies


@pytest.fixture
def drawn(monkeypatch) -> None:
    monkeypatch.setattr(figures, "Chart", DrawnChart)


def study_of(trials: list[Trial]) -> Study:
    return _studies(trials, {NOWHERE / "faces": data()})[0]


def test_cells():
    assert [percent(rate) for rate in (0.12345, -0.0004, 1.0)] == ["12.3", "0.0", "100.0"]
    assert [percent(rate, "+") for rate in (0.01, -0.01, 0.0)] == ["+1.0", "-1.0", "+0.0"]
    assert span(0.1, 0.256) == "[10.0, 25.6]"
    assert (listed([]), listed([1, "b"])) == ("none", "1, b")
    assert rate_cell([], "mean") == Cell("–", kind="mean")
    assert rate_cell([0.5]) == Cell("50.0")
    assert rate_cell([0.4, 0.6], "mean") == Cell("50.0 ± 14.1", kind="mean")
    titles = [Row("a", (), note).title for note in ("", "control", "a")]
    assert titles == ["a", "a (control)", "a"]
    table = Table("T", ("x",), (Row("a", (Cell("1", "[0, 2]", "better"),)),), (("What", "how"),), "row")
    assert to_markdown(table) == "## T\n\n| row | x |\n| --- | --- |\n| a | 1 [0, 2] |\n\n- What: how.\n"


def test_an_axis_places_values_between_its_ends():
    axis = Axis("x", 10, 20, ())
    assert [axis.place(value, 100, 300) for value in (10, 12.5, 20, 5, 25)] == [100, 150, 300, 100, 300]
    assert Axis("x", 3, 3, ()).place(3, 100, 300) == 100
    assert Axis("y", 4, 0, ()).place(1, 0, 100) == 75


@pytest.mark.parametrize(
    ("low", "high", "count", "ticks"),
    [
        (0, 1, 4, [0, 0.5, 1]), (0, 40, 4, [0, 10, 20, 30, 40]), (0, 41, 4, [0, 20, 40]), (0.3, 1.7, 4, [0.5, 1, 1.5]),
        (-3, 3, 3, [-2, 0, 2]), (5, 5, 4, [5]), (6, 5, 4, [6]), (0, 21, 4, [0, 10, 20]), (0, 19, 4, [0, 5, 10, 15]),
        (0, 8, 4, [0, 2, 4, 6, 8]), (0, 0.004, 4, [0, 0.001, 0.002, 0.003, 0.004]),
        (0, 1.0, 6, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.6, 1.4, 4, [0.6, 0.8, 1, 1.2, 1.4]),
        (-1, -0.2, 4, [-1, -0.8, -0.6, -0.4, -0.2]),
    ],
)  # fmt: skip
def test_ticks_are_round(low, high, count, ticks):
    assert even_ticks(low, high, count) == tuple((tick, f"{tick:g}") for tick in ticks)
    if count == 4:
        assert even_ticks(low, high) == even_ticks(low, high, 4)


def test_styles_repeat_their_colours_dotted():
    assert [style_of(number) for number in (0, 7, 8, 17)] == ["c0", "c7", "c0 dotted", "c1 dotted"]
    assert [style_of(number, dashed=True) for number in (0, 8)] == ["c0 dashed", "c0 dashed"]


def test_a_chart_has_a_left_margin_for_ticks_or_a_label():
    ticks = ((0.0, "a<b"),)
    for y, left in ((Axis("", 0, 1, ()), 8), (Axis("y", 0, 1, ()), 46), (Axis("", 0, 1, ticks), 46)):
        svg = Chart('a "b"', Axis("x & x", 0, 1, ()), y).svg()
        assert f'<text class="title" x="{left}" y="16">a &quot;b&quot;</text>' in svg
        assert ("rotate(-90)" in svg) == bool(y.label)
    assert 'viewBox="0 0 380 300" role="img" aria-label="a &quot;b&quot;" style="max-width:532px"' in svg
    assert 'x="368" y="295">x &amp; x</text></svg>' in svg
    assert '<line class="grid" x1="46" x2="368" y1="260.0" y2="260.0"/>' in svg


def test_marks_of_a_chart():
    chart = Chart("t", Axis("", 0, 10, ()), Axis("", 0, 10, ()), 120, 166)
    chart.line([(0, 0), (10, 10)], "c0")
    chart.area([(5, 5), (10, 5)], "c1", "tip")
    chart.dot(5, 5, "c2")
    chart.text(0, 10, "a < b", "small")
    # From 8 to 108 across, from 126 up to 26.
    assert chart._marks == [
        '<polyline class="line c0" points="8.0,126.0 108.0,26.0"></polyline>',
        '<polygon class="area c1" points="58.0,126.0 58.0,76.0 108.0,76.0 108.0,126.0"><title>tip</title></polygon>',
        '<circle class="dot c2" cx="58.0" cy="76.0" r="4.0"></circle>',
        '<text class="small" x="8.0" y="30.0">a &lt; b</text>',
    ]


def test_a_heat_maps_cells():
    values = [[0.0, 0.275, None], [0.2751, 0.5, 0.9]]
    svg = HeatMap("title", ["one", "second"], ["a", "b", "c"], values, [(1, 2)], "across", "down").svg()
    cells = re.findall(r'x="(\d+)" y="(\d+)" [^>]*fill-opacity="([\d.]+)"><title>(.*?)</title>', svg)
    left = 16 + 38  # six letters of 6.4
    assert cells == [
        (f"{left + 1}", "47", "0.050", "one, a: 0.0"), (f"{left + 69}", "47", "0.573", "one, b: 27.5"),
        (f"{left + 137}", "47", "0.050", "one, c: –"), (f"{left + 1}", "81", "0.573", "second, a: 27.5"),
        (f"{left + 69}", "81", "1.000", "second, b: 50.0"), (f"{left + 137}", "81", "1.000", "second, c: 90.0"),
    ]  # fmt: skip
    assert re.findall(r'class="value( over)?"', svg) == ["", "", "", " over", " over", " over"]
    assert f'<rect class="frame" x="{left + 137}" y="81" width="66" height="32" rx="3"/>' in svg
    assert 'viewBox="0 0 268 140"' in svg
    assert f'<text class="label" x="{left}" y="132">across; framed: trained on as well</text>' in svg
    assert f'<text class="label" x="{left - 8}" y="38" text-anchor="end">down</text>' in svg
    assert f'<text class="tick" text-anchor="middle" x="{left + 34.0}" y="38">a</text>' in svg
    assert f'<text class="tick" text-anchor="end" x="{left - 8}" y="67">one</text>' in svg
    assert f'x="{left + 34.0}" y="67">0.0</text>' in svg


@pytest.mark.parametrize(
    ("title", "columns", "width"), [("t", 1, 260), ("t" * 60, 1, 29 + 216), ("t" * 80, 1, 29 + 288), ("t", 5, 379)]
)
def test_a_heat_map_is_as_wide_as_its_columns_and_half_its_title(title, columns, width):
    svg = HeatMap(title, ["a"], ["b"] * columns, [[0.1] * columns], (), "x", "yy").svg()
    assert f'viewBox="0 0 {max(width, 260)} 106"' in svg
    assert ">x</text>" in svg


def means(monkeypatch: pytest.MonkeyPatch, rate: float) -> Any:
    monkeypatch.setattr(Trial, "mean", lambda trial, rule, metric: rate)
    return SimpleNamespace(interval_of=lambda group: None)


@pytest.mark.parametrize(
    ("rate", "high", "ticks"),
    [(0.0, 1.0, 6), (0.55 / 1.08, 55.0, 6), (0.65 / 1.08, 65.0, 4), (0.1, 10.8, 6)],
)
def test_the_axis_of_the_overview_ends_behind_the_highest(rate, high, ticks, monkeypatch, drawn):
    chart: Any = figures.overview_figure(study_of(leave_one_out()), means(monkeypatch, rate))
    assert (chart.x.low, chart.x.high) == pytest.approx((0, high))
    assert len(chart.x.ticks) == ticks
    assert (chart.y.low, chart.y.high, chart.size) == (3, 0, (460, 168))


def test_the_overview_is_as_wide_as_its_widest_interval_or_seed(monkeypatch, drawn):
    study = study_of(leave_one_out())
    wide: Any = SimpleNamespace(interval_of=lambda group: (0.1, 0.5) if group.number else None)
    assert figures.overview_figure(study, wide).x.high == pytest.approx(54)
    narrow: Any = SimpleNamespace(interval_of=lambda group: (0.1, 0.2))
    highest = max(trial.mean(HONEST, "hter") for trial in study.trials if trial.finished)
    assert figures.overview_figure(study, narrow).x.high == pytest.approx(108 * highest)
    named = replace(study, groups=(replace(study.groups[2], name="a control"),))
    (text, *_) = figures.overview_figure(named, narrow).seen
    assert text == ("text", 0, 0.3, "a control: 27.7 %", "small")


@pytest.mark.parametrize(("count", "charts"), [(2, 1), (3, 2), (16, 2), (17, 1)])
def test_a_radar_of_targets_has_three_to_sixteen_axes(count, charts, monkeypatch):
    monkeypatch.setattr(figures, "targets_of", lambda study: [Target(f"to_{number}") for number in range(count)])
    monkeypatch.setattr(figures, "mean_of", lambda group, targets, rule, metric: 0.1)
    assert len(figures.radar_figures(study_of(leave_one_out()))) == charts


def test_a_group_without_a_metric_or_target_is_not_in_the_radars(monkeypatch):
    study = study_of(leave_one_out())
    known = figures.mean_of

    def mean_of(group: Any, targets: Any, rule: str, metric: str) -> float | None:
        lacking = (group.number, metric) == (0, "f1") or (group.number == 1 and [t.name for t in targets] == ["to_car"])
        return None if lacking else known(group, targets, rule, metric)

    monkeypatch.setattr(figures, "mean_of", mean_of)
    metrics, targets = figures.radar_figures(study)
    assert [f'class="line c{number}' in metrics for number in range(3)] == [False, True, True]
    assert [f'class="line c{number}' in targets for number in range(3)] == [True, False, True]


def test_names_of_targets_are_short():
    names = [Target("to_a"), Target("from_a", "b"), Target("x", "y"), Target("t" * 24), Target("t" * 25)]
    assert [figures._short(target) for target in names] == ["to_a", "a → b", "x → y", "t" * 24, "t" * 23 + "…"]


def test_counts_have_a_letter():
    numbers = (999, 1e3, 999_000, 1e6, 2.5e7, 1e9)
    assert [figures._count(number) for number in numbers] == ["999", "1 k", "999 k", "1 M", "25 M", "1 G"]


def test_deviates_end_at_a_ten_thousandth():
    assert [round(figures._deviate(rate), 3) for rate in (0, 1e-4, 0.5, 0.975, 1)] == [-3.719, -3.719, 0, 1.96, 3.719]


def test_a_mean_loss_is_of_steps_that_all_runs_have_and_thinned():
    runs = [run_of("detector", "a", NOWHERE, 1), run_of("detector", "b", NOWHERE, None, level=3.0)]
    assert figures._mean_loss(runs) == [(10.0, 4.0), (30.0, 2.0)]
    assert figures._mean_loss([]) == []
    for count, kept in ((399, 399), (400, 200), (599, 300), (600, 200)):
        lines = [{"step": step, "loss": 1.0} for step in range(1, count + 1)]
        points = figures._mean_loss([replace(runs[0], metrics=lines)])
        assert (len(points), points[0]) == (kept, (1.0, 1.0))


@pytest.mark.parametrize("losses", [[2.0], [0.0, 0.0], [3.0, 1.0], [-1.0, 1.0]])
def test_a_loss_chart_needs_two_points_and_shows_zero(losses, drawn):
    run = replace(run_of("d", "a", NOWHERE, 1), metrics=[{"step": 5 * k, "loss": v} for k, v in enumerate(losses, 1)])
    chart: Any = figures._loss_chart("losses", [("a", "c3", [run]), ("none", "c4", [])])
    if len(losses) == 1:
        assert chart == ""
        return
    low, high = {0.0: (0.0, 1.0), 3.0: (0.0, 2.98 * 1.05), -1.0: (-1.0, 0.98 * 1.05)}[losses[0]]
    assert (chart.x.low, chart.x.high, chart.y.low, chart.y.high) == pytest.approx((0, 10, low, high))
    assert chart.seen == [("line", [(5.0, losses[0]), (10.0, losses[1])], "c3", "a")]


def test_a_histogram_by_hand(drawn):
    table = make_table([1, 1, 1, 0, 0], [0.23, 0.5, 0.97, 0.24, 0.61])
    numbers = {"threshold": 0.4321}
    trial: Any = SimpleNamespace(test_scores=lambda fold, rule: table, numbers=lambda fold, rule: numbers, honest="h")
    chart: Any = figures._histogram(trial, "a fold")
    assert (chart.title, chart.size, chart.x.low, chart.x.high) == ("a fold", (190, 120), 0.2, 1.0)
    assert [text for _, text in chart.x.ticks] == ["0.5", "1"]
    assert (chart.y.low, chart.y.high) == (0, 0.5)
    live, attack, line = chart.seen
    # Bins of 0.032, each a step between its edges.
    assert [(round(x, 3), y) for x, y in live[1] if y] == [
        (0.2, 1 / 3), (0.232, 1 / 3), (0.488, 1 / 3), (0.52, 1 / 3), (0.968, 1 / 3), (1.0, 1 / 3)
    ]  # fmt: skip
    assert [(round(x, 3), y) for x, y in attack[1] if y] == [(0.232, 0.5), (0.264, 0.5), (0.584, 0.5), (0.616, 0.5)]
    assert (len(live[1]), live[2:], attack[2:]) == (50, ("live", "live"), ("attack", "attack"))
    assert line == ("line", [(0.4321, 0), (0.4321, 0.5)], "threshold", "threshold 0.432")
    whole = make_table([1, 0], [1.0, 0.0])
    trial.test_scores = lambda fold, rule: whole
    chart = figures._histogram(trial, "a fold")
    assert (chart.x.low, chart.x.high) == (0.0, 1.1)
    trial.test_scores = lambda fold, rule: None
    assert figures._histogram(trial, "a fold") == ""


def test_accepted_live_faces_at_a_rate_of_accepted_attacks():
    accepted = figures._accepted_live(make_table([1, 1, 0, 0], [0.9, 0.4, 0.5, 0.1]))
    rates = figures._RATES
    assert (len(rates), rates[0], rates[50], rates[-1]) == (141, 0.0, 0.1, 1.0)
    assert rates[1] == pytest.approx(0.002)
    assert rates[51] == pytest.approx(0.11)
    assert set(accepted[rates < 0.499]) == {0.5}
    assert set(accepted[rates > 0.499]) == {1.0}


def test_the_trade_off_charts_axes(drawn):
    study = study_of(leave_one_out())
    rates, sizes = figures._rates_chart(study), figures._size_chart(study)
    highest = 100 * (0.3 + 53 / 300)  # of the control, over three targets
    assert (rates.x.high, rates.y.high) == pytest.approx((highest * 1.1 + 1,) * 2)
    assert (rates.x.low, rates.y.low, sizes.x.low, sizes.x.high, sizes.y.low) == (0, 0, 6.0, 8.0, 0)
    assert sizes.y.high == pytest.approx((10 + 53 / 3) * 1.15 + 1)
    assert [each[1:] for each in rates.seen if each[0] == "line"] == [
        ([(0, 20.0), (20.0, 0)], "guide", "ACER 10 %"), ([(0, 40.0), (40.0, 0)], "guide", "ACER 20 %"),
    ]  # fmt: skip
    equal = replace(study, groups=study.groups[:1])
    assert figures._size_chart(equal) == ""
    assert figures._rates_chart(study_of([replace(trial, result=None) for trial in leave_one_out()])) == ""


def test_errors_of_a_hundred_per_cent_end_the_axes(monkeypatch, drawn):
    monkeypatch.setattr(figures, "means_by_seed", lambda group, targets, rule, metrics: [(0.95,) * len(metrics)])
    study = study_of(leave_one_out())
    assert (figures._rates_chart(study).x.high, figures._size_chart(study).y.high) == (100, 100)

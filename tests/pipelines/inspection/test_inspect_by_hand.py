"""Tables, theorems and panels of an inspection on numbers that can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from pipelines.inspection import measure
from pipelines.inspection.figure import as_svg, inspection_figure
from pipelines.inspection.measure import (
    HELD_OUT,
    OTHERS,
    Measured,
    Subjects,
    conditions_of,
    groups_of,
    measure_all,
    row_of,
    strangers_distance,
    strangers_similarity,
)
from pipelines.inspection.theorems import Theorems, fit_cameras, mean_divergence, theorem_curves


def subjects(values: list[float], cameras: str, persons: str = "", pooled: list[list[float]] | None = None) -> Subjects:
    """Faces whose latents are one value each, in two positions of one channel."""
    latents = torch.tensor(values)[:, None, None, None].expand(-1, 1, 1, 2)
    unit = None if pooled is None else torch.tensor(pooled)
    people = np.array([*(persons or "abcdefgh"[: len(values)])])
    return Subjects(latents, latents, latents, {}, unit, np.array([*cameras]), people)


def test_a_row_of_the_table():
    measured = Measured(
        np.array([1.0, 2.0, 4.5], np.float32), np.zeros(3, np.float32), np.array([0.1, 0.2, 0.6], np.float32),
        np.array([0.5, 0.25, 0.12345], np.float32),
    )  # fmt: skip
    row = row_of("print", 401, "wrong", measured)
    # Deviations with n - 1 are 1.8028 and 0.26458, over the root of three.
    assert row == {
        "group": "print", "timestep": 401, "condition": "wrong", "mean_abs_error": 2.5, "standard_error": 1.041,
        "noise_error": 0.3, "noise_standard_error": 0.15275, "identity_similarity": 0.2912, "faces": 3,
    }  # fmt: skip
    none = replace(measured, similarity=np.full(3, np.nan, np.float32))
    assert row_of("print", 401, "none", none)["identity_similarity"] is None


def test_groups_are_held_out_live_faces_and_those_of_other_domains_by_kind():
    kinds = ["none"] * 4 + ["print", "replay"] * 3 + ["none"] * 7 + ["print"] * 5 + ["replay"]
    domains = ["own"] * 10 + ["other"] * 13
    asked = []

    def live(names: list[str], splits: tuple[str, ...]) -> np.ndarray:
        asked.append((names, splits))
        return np.array([1, 3])

    faces: Any = SimpleNamespace(domains=np.array(domains), attack_types=np.array(kinds), live=live)
    experiment: Any = SimpleNamespace(generator=SimpleNamespace(domains=["own"]))
    found = {name: rows.tolist() for name, rows in groups_of(experiment, faces, 5).items()}
    # Five of seven, evenly spread; all of five; and one replay alone is left out.
    assert found == {HELD_OUT: [1, 3], OTHERS: [10, 11, 12, 14, 15], "print": [17, 18, 19, 20, 21]}
    assert list(found) == ["live, held out", "live, other domains", "print"]
    assert asked == [(["own"], ("dev", "test"))]
    two = {name: len(rows) for name, rows in groups_of(experiment, faces, 2).items()}
    assert two == {HELD_OUT: 2, OTHERS: 2, "print": 2}


def test_conditions_need_an_encoder():
    with_encoder, without = (SimpleNamespace(identity_encoder=each) for each in (object(), None))
    assert conditions_of(with_encoder) == ("identity", "wrong", "none")
    assert conditions_of(without) == ("none",)


def test_strangers_are_half_the_group_away():
    some = subjects([0.0, 1.0, 4.0, 9.0], "aaaa", pooled=[[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.8, 0.6]])
    assert strangers_distance(some) == pytest.approx(math.sqrt((16 + 64 + 16 + 64) / 4))
    assert strangers_similarity(some) == pytest.approx((0.0 + 0.96) / 2)
    assert strangers_similarity(replace(some, pooled=None)) is None
    three = subjects([0.0, 1.0, 4.0], "aaa")
    assert strangers_distance(three) == pytest.approx(math.sqrt((16 + 1 + 9) / 3))


def test_every_group_is_measured_with_a_bar(monkeypatch):
    seen = []

    class Bar:
        def __init__(self, total: int, what: str, unit: str) -> None:
            seen.append((total, what, unit))

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *error: object) -> None: ...

        def update(self) -> None: ...

    monkeypatch.setattr(measure, "bar", Bar)
    monkeypatch.setattr(measure, "measure", lambda pipeline, some, timesteps, cue, each: (some, timesteps, cue))
    pipeline: Any = SimpleNamespace(identity_encoder=object())
    experiment: Any = SimpleNamespace(cue="cue")
    assert measure_all(pipeline, {"a": 1, "b": 2}, [201, 401], experiment) == {
        "a": (1, [201, 401], "cue"), "b": (2, [201, 401], "cue"),
    }  # fmt: skip
    assert seen == [(2 * 2 * 3, "inspect", "setting")]


def divergence(variances: tuple[float, float], distance: float) -> float:
    ratio = variances[0] / variances[1]
    return 0.5 * (ratio - 1 - math.log(ratio) + distance**2 / variances[1])


def measured(restoration: list[float], latent: float) -> Measured:
    values = np.array(restoration)
    return Measured(values, np.full(len(values), latent), values, values)


def test_both_theorems_by_hand():
    """Live latents of mean 0 and variance 1, attacks of mean 3 and variance 4; at t = 1, half is noise."""
    pipeline: Any = SimpleNamespace(
        scheduler=SimpleNamespace(alphas_cumprod=torch.tensor([1.0, 0.5])), identity_encoder=object()
    )
    live = subjects([-1.0, -1.0, 1.0, 1.0], "cccc", "aabb")
    held = subjects([0.0, 0.0, 2.0, 2.0], "hhhh")
    attack = subjects([1.0, 5.0, 9.0], "ccx")
    people = {HELD_OUT: held, OTHERS: live, "print": attack}
    found = {
        HELD_OUT: {(1, "identity"): measured([9.0, 9.0], 0.25)},
        OTHERS: {(1, "identity"): measured([1.0, 3.0], 0.36)},
        "print": {(1, "identity"): measured([6.0, 8.0], 4.0)},
    }
    (one,) = theorem_curves(pipeline, people, found, [1])
    noised = divergence((1.0, 2.5), math.sqrt(0.5) * 3)
    assert (one.timestep, one.live_error, one.lost) == (1, pytest.approx(0.5), pytest.approx(0.5 / 2))
    assert one.kl == pytest.approx(noised)
    assert one.removed == pytest.approx(1 - noised / divergence((1.0, 4.0), 3.0))
    # Of one person -1 twice, of the other 1.
    assert one.kl_floor == pytest.approx(divergence((0.5, 0.5), math.sqrt(0.5) * 2))
    assert one.separation == pytest.approx((7 - 2) / math.sqrt(2))
    assert one.gap == pytest.approx(one.removed - 0.25)
    # Without other domains' live faces, or without held-out ones, the others take their place.
    alone = {HELD_OUT: live, "print": attack}
    (own,) = theorem_curves(pipeline, alone, {HELD_OUT: found[OTHERS], "print": found["print"]}, [1])
    assert (own.kl, own.live_error, own.separation) == pytest.approx((noised, 0.6, one.separation))
    (other,) = theorem_curves(pipeline, {OTHERS: live, "print": attack}, found, [1])
    assert other.live_error == pytest.approx(0.6)
    assert theorem_curves(pipeline, {OTHERS: live}, found, [1]) == []
    assert theorem_curves(pipeline, {"print": attack}, found, [1]) == []
    cameras = fit_cameras(subjects([0.0, 2.0, 10.0, 14.0], "aabb"), [subjects([1.0, 5.0, 1.0, 1.0], "aabc")])
    assert len(cameras) == 2
    assert [float(each.live.mean) for each in cameras] == [1.0, 12.0]
    assert math.isnan(mean_divergence([], 1.0))


def test_a_row_of_the_theorems_is_rounded():
    nan = float("nan")
    row = Theorems(401, 0.123456, 0.000987654, 12.34567, nan, 0.98765, 1234.567).row()
    assert row == {
        "timestep": 401, "live_error": 0.1235, "lost": 0.0009877, "kl": 12.35, "kl_floor": None, "removed": 0.9877,
        "separation": 1235.0, "gap": 0.9867,
    }  # fmt: skip


def described(axes: Axes) -> dict[str, Any]:
    """What a panel shows."""
    lines = [
        (list(map(float, line.get_xdata())), list(map(float, line.get_ydata())), line.get_linestyle(),
         line.get_marker(), line.get_color(), line.get_label())
        for line in axes.lines
    ]  # fmt: skip
    legend = axes.get_legend()
    texts = None if legend is None else [(text.get_text(), text.get_fontsize()) for text in legend.get_texts()]
    words = axes.get_xlabel(), axes.get_ylabel(), axes.get_title(), axes.get_yscale()
    return {"lines": lines, "legend": texts, "words": words}


def test_the_panels_of_the_figure():
    rows = [
        {"group": group, "condition": condition, "timestep": t, "mean_abs_error": error, "noise_error": error / 10,
         "identity_similarity": None if condition == "none" else error / 100}
        for group, condition, t, error in (
            ("live", "identity", 201, 1.0), ("live", "identity", 401, 2.0), ("live", "none", 201, 3.0),
            ("print", "wrong", 401, 4.0),
        )
    ]  # fmt: skip
    curves = [Theorems(201, 0.5, 0.25, 2.0, 0.5, 0.75, 1.0), Theorems(401, 0.75, 0.5, 1.0, 0.25, 0.875, 1.0)]
    figure = inspection_figure(rows, curves, 201)
    assert (figure.get_figwidth(), figure.get_figheight()) == (13, 7.5)
    errors, noise, identity, first, second, gap = map(described, figure.axes)
    t = [201.0, 401.0]
    assert errors == {
        "lines": [
            (t, [1.0, 2.0], "-", "None", "C0", "live, right identity"),
            ([201.0], [3.0], ":", "None", "C0", "live, no identity"),
            ([401.0], [4.0], "--", "None", "C1", "print, wrong identity"),
        ],
        "legend": [("live, right identity", 6), ("live, no identity", 6), ("print, wrong identity", 6)],
        "words": ("t", "restoration error (grey levels)", "", "linear"),
    }
    assert [line[1] for line in noise["lines"]] == [[0.1, 0.2], [0.3], [0.4]]
    assert noise["words"][1] == "noise-prediction error (mean square)"
    assert [line[1] for line in identity["lines"]] == [[0.01, 0.02], [0.04]]
    assert (identity["words"][1], noise["legend"], identity["legend"]) == ("identity kept (cosine)", None, None)
    assert [line[:5] for line in first["lines"]] == [(t, [0.5, 0.75], "-", "o", "C0")]
    assert first["words"] == ("t", "live latents, error of restoring (RMS)", "Theorem 1", "linear")
    assert second == {
        "lines": [
            (t, [2.0, 1.0], "-", "o", "C3", "live against attack"),
            (t, [0.5, 0.25], ":", "None", "0.5", "live against live"),
        ],
        "legend": [("live against attack", 8), ("live against live", 8)],
        "words": ("t", "KL divergence (nats per latent value)", "Theorem 2", "log"),
    }  # fmt: skip
    removed, lost, proposed = gap["lines"]
    assert removed == (t, [0.75, 0.875], "-", "o", "C3", "divergence removed")
    assert lost == (t, [0.25, 0.5], "-", "o", "C0", "live face lost")
    assert (proposed[0], *proposed[2:5]) == ([201.0, 201.0], "--", "None", "0.5")
    assert figure.axes[5].lines[2].get_linewidth() == 0.8
    assert gap["legend"] == [("divergence removed", 8), ("live face lost", 8)]
    assert gap["words"] == ("t", "share", "widest gap at t = 201", "linear")


def test_an_empty_figure_has_no_legend_and_says_why():
    figure = inspection_figure([], [], None)
    assert [axes.get_legend() for axes in figure.axes] == [None] * 6
    assert figure.axes[5].get_title() == "no attacks to compare with"
    assert (figure.axes[4].get_yscale(), len(figure.axes[5].lines)) == ("linear", 2)
    drawn = as_svg(figure)
    assert drawn.startswith("<?xml")
    assert "<dc:date>" not in drawn
    assert ">no attacks to compare with</text>" in drawn

"""Maps of features and the choice of pictures, on tables whose result is worked out by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sklearn.decomposition
import sklearn.manifold
import torch
from made_up_study import HONEST, NOWHERE, DrawnChart, data, leave_one_out, matrix, unseen
from score_tables import make_table

from pipelines.errors import AgfasError
from pipelines.report import embedding, pictures
from pipelines.report.contents import Study, Trial
from pipelines.report.gather import _studies


def study_of(trials: list[Trial]) -> Study:
    return _studies(trials, {NOWHERE / "faces": data()})[0]


def opened(monkeypatch: pytest.MonkeyPatch, rows: int) -> Study:
    table = make_table([1, 0] * (rows // 2) + [1] * (rows % 2), np.linspace(0, 1, rows))
    half = rows // 2
    parts = {"test": table.where(np.arange(half)), "dev": table.where(np.arange(half, rows))}
    run = SimpleNamespace(scores=lambda step, role: parts[role] if step == 90 else None)
    planned = SimpleNamespace(title="a (seed=0)")
    trial: Any = SimpleNamespace(
        planned=planned, folds=("to_a", "to_b"), honest=HONEST, detector_run=lambda fold: run,
        numbers=lambda fold, rule: {"step": 90} if (fold, rule) == ("to_a", HONEST) else None,
    )  # fmt: skip
    monkeypatch.setattr(embedding, "shown_trial", lambda study: trial)
    monkeypatch.setattr(embedding, "_features", lambda trial, fold, step, shown: np.tile(shown.score[:, None], (1, 3)))
    for name in ("principal_axes", "neighbour_map"):
        monkeypatch.setattr(embedding, name, lambda features: features[:, :2] * [1, -1])
    return study_of(leave_one_out())


@pytest.mark.parametrize(("rows", "shown"), [(12, 12), (400, 400), (401, 400)])
def test_a_map_has_twelve_to_four_hundred_faces(rows, shown, monkeypatch):
    found = embedding.feature_map(opened(monkeypatch, rows))
    assert found.caption == (
        f"a (seed=0), to_a, step 90: the normalised features of {shown} of {rows} faces, of the targets and of held-out"
        " source videos, drawn evenly from each domain and label. PCA shows the two directions of largest variance;"
        " t-SNE preserves neighbours, not distances or sizes of clusters."
    )
    titles = [re.search(r'aria-label="(.*?)"', chart).group(1) for chart in found.charts]
    assert titles == ["PCA, by label", "PCA, by domain", "t-SNE, by label", "t-SNE, by domain"]
    assert [chart.count("<circle") for chart in found.charts] == [shown] * 4
    assert 'class="dot live point"' in found.charts[0]
    assert 'class="dot c0 point"' in found.charts[1]


def test_a_map_of_eleven_faces_is_refused(monkeypatch):
    with pytest.raises(AgfasError, match=r"^A map of features needs 12 faces or more, but fold 'to_a' has 11\.$"):
        embedding.feature_map(opened(monkeypatch, 11))


def test_a_map_keeps_a_margin(monkeypatch):
    monkeypatch.setattr(embedding, "Chart", DrawnChart)
    table = make_table([1, 0], [0.5, 0.5])
    chart: Any = embedding._scatter("t", np.array([[0.0, 5.0], [10.0, 5.0]]), ["live", "attack"], table)
    assert (chart.x.low, chart.x.high) == pytest.approx((-0.4, 10.4))
    assert chart.y.low < 5.0 < chart.y.high
    assert (chart.size, chart.x.ticks, chart.y.ticks) == ((360, 320), (), ())
    kinds = ["live" if kind == "none" else kind for kind in table.attack_type]
    assert chart.seen == [
        ("dot", x, 5.0, f"{style} point", 2.6, f"{domain}, {kind}")
        for x, style, domain, kind in zip((0.0, 10.0), ("live", "attack"), table.domain, kinds, strict=True)
    ]


@pytest.mark.parametrize(("faces", "perplexity"), [(91, 30.0), (92, 30.0), (31, 10.0)])
def test_the_projections_are_seeded(faces, perplexity, monkeypatch):
    asked = []

    class Fit:
        def __init__(self, *given: Any, **named: Any) -> None:
            asked.append((given, named))

        def fit_transform(self, features: np.ndarray) -> np.ndarray:
            return features

    monkeypatch.setattr(sklearn.decomposition, "PCA", Fit)
    monkeypatch.setattr(sklearn.manifold, "TSNE", Fit)
    features = np.zeros((faces, 4))
    assert embedding.principal_axes(features) is embedding.neighbour_map(features) is features
    assert asked == [
        ((2,), {"random_state": 0}), ((2,), {"perplexity": perplexity, "init": "pca", "random_state": 0}),
    ]  # fmt: skip


def test_features_are_those_of_the_shown_faces(monkeypatch):
    given = SimpleNamespace(detector="detector", faces="faces", reader="reader", rows=np.array([4, 2]))
    asked = []

    def answers(*of: Any) -> Any:
        asked.append(of)
        return [(None, SimpleNamespace(features=torch.full((2, 3), float(k)))) for k in (1, 2)]

    monkeypatch.setattr(embedding, "open_detector", lambda *of: asked.append(of) or given)
    monkeypatch.setattr("pipelines.evaluation.scoring.answers", answers)
    shown = SimpleNamespace(key=np.array(["b", "a"]))
    found = embedding._features("trial", "fold", 90, shown)
    assert (found.shape, found.dtype, found[:, 0].tolist()) == ((4, 3), np.float64, [1, 1, 2, 2])
    assert asked == [
        ("trial", "fold", 90, ["b", "a"]), ("detector", "faces", "reader", given.rows, 32),
    ]  # fmt: skip


def test_a_sample_takes_one_of_each_cell_in_turn():
    table = make_table([1] * 6 + [0] * 2, np.linspace(0, 1, 8), domain=np.array(["a"] * 4 + ["b"] * 4))
    for most in (3, 5, 8, 9):
        rows = embedding.sample_rows(table, most)
        assert rows.tolist() == sorted(set(rows.tolist()))
        assert len(rows) == min(most, 8)
    cells = [("a" if row < 4 else "b", row < 6) for row in embedding.sample_rows(table, 3).tolist()]
    assert len(set(cells)) == 3
    generator = np.random.default_rng(0)
    order = generator.permutation(8).tolist()
    firsts = {next(row for row in order if row in cell) for cell in (range(4), range(4, 6), range(6, 8))}
    assert set(embedding.sample_rows(table, 3).tolist()) == firsts


# Pictures.


def test_the_shown_experiment_is_the_last_that_takes_a_cue_and_is_no_control():
    assert pictures.shown_trial(study_of(leave_one_out())).planned.title == 'ours "401" (seed=0)'
    assert pictures.shown_trial(study_of(matrix())).planned.title == "ssdg (seed=0)"
    alone = [trial for trial in leave_one_out() if trial.planned.label != 'ours "401"']
    assert pictures.shown_trial(study_of(alone)).planned.label == "<shuffled>"
    begun = [replace(trial, result=None) if trial.seed == 0 else trial for trial in matrix()]
    assert pictures.shown_trial(study_of(begun)).planned.title == "ssdg (seed=1)"
    with pytest.raises(AgfasError, match=r"^No experiment is finished yet\.$"):
        pictures.shown_trial(study_of([replace(trial, result=None) for trial in unseen()]))


def test_a_typical_and_the_hardest_face_of_each_kind():
    table = make_table([1] * 4 + [0] * 5, [0.9, 0.2, 0.5, 0.5, 0.1, 0.8, 0.3, 0.6, 0.7])
    kinds = np.array(["none"] * 4 + ["replay"] * 3 + ["mask"] * 2)
    assert pictures._choose(replace(table, attack_type=kinds)) == {
        # The median of an even number is the upper one, of equal scores the one whose key comes first.
        "live, typical": 3, "live, hardest": 1, "mask, typical": 8, "mask, hardest": 8,
        "replay, typical": 6, "replay, hardest": 5,
    }  # fmt: skip


def test_faces_that_are_scored_and_gone_are_counted(monkeypatch):
    faces = SimpleNamespace(keys=["a", "b", "c"], folder="F")
    monkeypatch.setattr(pictures, "open_faces", lambda experiment: faces)
    monkeypatch.setattr(pictures, "cue_reader", lambda experiment, faces: "reader")
    run = SimpleNamespace(load=lambda step: f"detector {step}")
    trial: Any = SimpleNamespace(planned=SimpleNamespace(experiment=None), detector_run=lambda fold: run)
    found = pictures.open_detector(trial, "fold", 90, ["c", "a"])
    assert (found.detector, found.faces, found.rows.tolist(), found.reader) == ("detector 90", faces, [2, 0], "reader")
    with pytest.raises(AgfasError, match=r"^The faces F lack 2 of the scored ones, such as 'x'\.$"):
        pictures.open_detector(trial, "fold", 90, ["a", "x", "y"])

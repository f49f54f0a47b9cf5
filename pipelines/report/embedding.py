"""What a detector makes of faces: its features in two dimensions, by PCA and t-SNE, by label and by domain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.data.records import BONAFIDE
from pipelines.errors import AgfasError
from pipelines.evaluation.scores import ScoreTable, concat
from pipelines.report.contents import Study, Trial
from pipelines.report.pictures import last_finished, open_detector
from pipelines.report.svg import COLOURS, Axis, Chart

# More take t-SNE long and hide each other.
MOST = 400
_FEWEST = 12
_BATCH = 32
_PERPLEXITY = 30.0


@dataclass(frozen=True)
class FeatureMap:
    """Scatter charts of one detector's features.

    Attributes:
        caption: which faces and which detector.
        charts: SVG; PCA and t-SNE, each by label and by domain.
        domains: (name, style) of the domains' colours.
    """

    caption: str
    charts: tuple[str, ...]
    domains: tuple[tuple[str, str], ...]


def feature_map(study: Study) -> FeatureMap:
    """Of the first fold of the last finished experiment: its test faces and the held-out faces of its sources.

    Raises:
        AgfasError: nothing is finished, too few faces, or the detector or its faces are gone; says what.
    """
    trial = last_finished(study)
    fold = trial.folds[0]
    step = (trial.numbers(fold, trial.honest) or {})["step"]
    table = _scored(trial, fold, step)
    rows = sample_rows(table, MOST)
    if len(rows) < _FEWEST:
        raise AgfasError(f"A map of features needs {_FEWEST} faces or more, but fold '{fold}' has {len(rows)}.")
    shown = table.where(rows)
    features = _features(trial, fold, step, shown)
    domains = sorted(set(shown.domain.tolist()))
    styles = {name: f"c{number % COLOURS}" for number, name in enumerate(domains)}
    charts = []
    for name, places in (("PCA", principal_axes(features)), ("t-SNE", neighbour_map(features))):
        by_label = ["live" if label == BONAFIDE else "attack" for label in shown.label.tolist()]
        charts.append(_scatter(f"{name}, by label", places, by_label, shown))
        by_domain = [styles[domain] for domain in shown.domain.tolist()]
        charts.append(_scatter(f"{name}, by domain", places, by_domain, shown))
    caption = (
        f"{trial.planned.title}, {fold}, step {step}: the normalised features of {len(shown)} of {len(table)} faces,"
        " of the targets and of held-out source videos, drawn evenly from each domain and label. PCA keeps the two"
        " directions of largest variance; t-SNE keeps neighbours, and its distances and group sizes mean nothing."
    )
    return FeatureMap(caption, tuple(charts), tuple(styles.items()))


def sample_rows(table: ScoreTable, most: int, seed: int = 0) -> np.ndarray:
    """At most `most` rows, rising, as even as possible over domain and label; the same for the same table and seed."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(table))
    cells: dict[tuple[str, int], int] = {}
    turn = np.empty(len(table), dtype=np.int64)
    for row in order.tolist():
        cell = (str(table.domain[row]), int(table.label[row]))
        turn[row] = cells[cell] = cells.get(cell, -1) + 1
    return np.sort(np.lexsort((order.argsort(), turn))[:most])


def principal_axes(features: np.ndarray) -> np.ndarray:
    """(N, D) -> (N, 2): the two directions of largest variance, their signs fixed."""
    from sklearn.decomposition import PCA

    return PCA(2, random_state=0).fit_transform(features)


def neighbour_map(features: np.ndarray) -> np.ndarray:
    """(N, D) -> (N, 2) by t-SNE from the principal axes, seeded."""
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(features)


def _scored(trial: Trial, fold: str, step: int) -> ScoreTable:
    """Scores of every face of targets and sources, by face."""
    assert trial.folder is not None
    folder = trial.folder / fold / "scores"
    return concat([ScoreTable.load(folder / f"step_{step:06d}-{role}.parquet") for role in ("test", "dev")])


def _features(trial: Trial, fold: str, step: int, shown: ScoreTable) -> np.ndarray:
    """(N, D) float64."""
    import torch

    from pipelines.pixels import to_unit_range

    opened = open_detector(trial, fold, step, shown.key.tolist())
    parts = []
    with torch.no_grad():
        for start in range(0, len(opened.rows), _BATCH):
            rows = opened.rows[start : start + _BATCH]
            cue = None if opened.reader is None else opened.reader.batch(rows)
            image = to_unit_range(opened.faces.images[rows])
            parts.append(opened.detector(image, cue).features.double().numpy())
    return np.concatenate(parts)


def _scatter(title: str, places: np.ndarray, styles: list[str], shown: ScoreTable) -> str:
    low, high = places.min(axis=0), places.max(axis=0)
    margin = 0.04 * (high - low) + 1e-9
    x, y = (Axis("", float(low[k] - margin[k]), float(high[k] + margin[k]), ()) for k in range(2))
    chart = Chart(title, x, y, 360, 320)
    for (at_x, at_y), style, kind, domain in zip(
        places.tolist(), styles, shown.attack_type.tolist(), shown.domain.tolist(), strict=True
    ):
        chart.dot(at_x, at_y, f"{style} point", 2.6, f"{domain}, {'live' if kind == 'none' else kind}")
    return chart.svg()

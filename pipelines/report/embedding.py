"""Maps of a detector's features in two dimensions by PCA and t-SNE, coloured by label and by domain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.data.records import BONAFIDE
from pipelines.errors import AgfasError
from pipelines.evaluation.scores import ScoreTable, concat
from pipelines.report.charts import COLOURS, Axis, Chart
from pipelines.report.contents import Study, Trial
from pipelines.report.pictures import open_detector, shown_trial

# Most faces of a map: t-SNE takes seconds, and more dots would hide each other.
_MOST = 400
_FEWEST = 12
_BATCH = 32
_PERPLEXITY = 30.0


@dataclass(frozen=True)
class FeatureMap:
    """Scatter charts of one detector's features.

    Attributes:
        caption: the detector and the faces.
        charts: SVG; PCA and t-SNE, each by label and by domain.
        domains: (name, style) of each domain.
    """

    caption: str
    charts: tuple[str, ...]
    domains: tuple[tuple[str, str], ...]


def feature_map(study: Study) -> FeatureMap:
    """The features of the first fold's test faces and of held-out source faces, for the trial that pictures show.

    Raises:
        AgfasError: no experiment is finished, too few faces, or the detector, its faces or cues are missing.
    """
    trial = shown_trial(study)
    fold = trial.folds[0]
    step = (trial.numbers(fold, trial.honest) or {})["step"]
    table = concat([trial.detector_run(fold).scores(step, role) for role in ("test", "dev")])
    rows = sample_rows(table, _MOST)
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
        " of the targets and of held-out source videos, drawn evenly from each domain and label. PCA shows the two"
        " directions of largest variance; t-SNE preserves neighbours, not distances or sizes of clusters."
    )
    return FeatureMap(caption, tuple(charts), tuple(styles.items()))


def sample_rows(table: ScoreTable, most: int, seed: int = 0) -> np.ndarray:
    """At most `most` sorted rows, as even as possible over domain and label; a function of table and seed."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(table))
    cells: dict[tuple[str, int], int] = {}
    turn = np.empty(len(table), dtype=np.int64)
    for row in order.tolist():
        cell = (str(table.domain[row]), int(table.label[row]))
        turn[row] = cells[cell] = cells.get(cell, -1) + 1
    return np.sort(np.lexsort((order.argsort(), turn))[:most])


def principal_axes(features: np.ndarray) -> np.ndarray:
    """(N, D) -> (N, 2): projection on the two directions of largest variance, with deterministic signs."""
    from sklearn.decomposition import PCA

    return PCA(2, random_state=0).fit_transform(features)


def neighbour_map(features: np.ndarray) -> np.ndarray:
    """(N, D) -> (N, 2): t-SNE (van der Maaten and Hinton 2008), initialised by PCA and seeded."""
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(features)


def _features(trial: Trial, fold: str, step: int, shown: ScoreTable) -> np.ndarray:
    """(N, D) float64."""
    from pipelines.evaluation.scoring import answers

    opened = open_detector(trial, fold, step, shown.key.tolist())
    outputs = answers(opened.detector, opened.faces, opened.reader, opened.rows, _BATCH)
    return np.concatenate([output.features.double().cpu().numpy() for _, output in outputs])


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

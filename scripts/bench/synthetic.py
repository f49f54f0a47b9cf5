"""The built-in benchmark: faces rendered a second, and what simple image statistics reach on it.

The statistics are the bar that a detector has to clear.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.data.protocol_settings import CORPUS
from pipelines.data.records import NO_ATTACK, load_faces
from pipelines.streams import stream
from pipelines.synthetic.benchmark import build, plan_videos, render_faces
from pipelines.synthetic.settings import SyntheticSettings
from pipelines.synthetic.videos import shoot

if TYPE_CHECKING:
    from datasets import Dataset

_SECONDS = 6.0


def render_benchmark() -> list[dict[str, Any]]:
    """One process and one per core, at 64 pixels."""
    rows = []
    for workers in sorted({1, os.cpu_count() or 1}):
        speed = render_speed(64, _SECONDS, workers)
        rows.append({"benchmark": "render", "processes": workers, **{k: round(v, 1) for k, v in speed.items()}})
    return rows


def render_speed(size: int, seconds: float, workers: int) -> dict[str, float]:
    """Speed over videos of all domains in turn; each process renders other videos.

    Returns:
        `faces_per_second` of all processes together, `live_faces_per_second` over live videos alone,
        `faces_per_cpu_second`: what one core gives, however busy the machine is; `faces`.
    """
    if workers == 1:
        return _speed(size, seconds, 0)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(_speed, [size] * workers, [seconds] * workers, range(workers)))
    total = {name: sum(part[name] for part in parts) for name in parts[0]}
    return {**total, "faces_per_cpu_second": total["faces_per_cpu_second"] / workers}


def _speed(size: int, seconds: float, seed: int) -> dict[str, float]:
    videos = plan_videos(SyntheticSettings(seed=seed, size=size, subjects=5, corpus_subjects=0))
    order = stream(seed, "speed").permutation(len(videos))
    render_faces([videos[order[0]]], seed, size)  # imports and caches are not measured
    busy = time.process_time()
    spent, faces = {True: 0.0, False: 0.0}, {True: 0, False: 0}
    for index in itertools.cycle(order):
        video = videos[index]
        start = time.perf_counter()
        shoot(video, seed, size)
        live = video.attack_type == NO_ATTACK
        spent[live] += time.perf_counter() - start
        faces[live] += video.frames
        if sum(spent.values()) > seconds:
            break
    total = sum(faces.values())
    return {
        "faces_per_second": total / sum(spent.values()),
        "faces_per_cpu_second": total / (time.process_time() - busy),
        "live_faces_per_second": faces[True] / max(spent[True], 1e-9),
        "faces": total,
    }


def statistics_benchmark() -> list[dict[str, Any]]:
    """`statistics_baseline` of the default benchmark, a row per domain and their mean."""
    with tempfile.TemporaryDirectory() as scratch:
        made = build(SyntheticSettings(corpus_subjects=0), Path(scratch) / "benchmark")
        return baseline_rows(statistics_baseline(load_faces(made)))


def baseline_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """AUC within and left out of each domain, and their means."""
    rows = [(name, result["within"][name], result["across"][name]) for name in result["within"]]
    rows.append(("mean", result["within_mean"], result["across_mean"]))
    return [{"domain": name, "within": round(within, 3), "left_out": round(out, 3)} for name, within, out in rows]


def statistics_baseline(faces: Dataset) -> dict[str, Any]:
    """AUC of a logistic regression on `image_statistics`, frames judged one by one.

    Args:
        faces: a face dataset; its live corpus is ignored.

    Returns:
        `within`: domain to AUC, trained on its train split, tested on its test split. `across`: domain to AUC, trained
        on the train splits of the other domains, tested on all of this one. `within_mean`, `across_mean`.

    Raises:
        ValueError: fewer than two domains with attacks.
    """
    domain, split, label = (np.asarray(faces[name]) for name in ("domain", "split", "label"))
    kept = np.flatnonzero(domain != CORPUS)
    domain, split, label = domain[kept], split[kept], label[kept]
    names = list(dict.fromkeys(domain.tolist()))
    if len(names) < 2:
        raise ValueError(f"Leaving a domain out needs at least two domains with attacks; found {names}.")
    features = np.concatenate([_statistics(faces, part) for part in np.array_split(kept, max(1, len(kept) // 256))])
    train, test = split == "train", split == "test"
    within, across = {}, {}
    for name in names:
        here = domain == name
        within[name] = _auc(features, label, here & train, here & test)
        across[name] = _auc(features, label, ~here & train, here)
    means = {
        "within_mean": float(np.mean(list(within.values()))),
        "across_mean": float(np.mean(list(across.values()))),
    }
    return {"within": within, "across": across, **means}


def image_statistics(pictures: np.ndarray) -> np.ndarray:
    """Per channel: mean, deviation and high-pass energy (RMS of the picture minus its 3 x 3 mean).

    Args:
        pictures: (n, H, W, 3) uint8.

    Returns:
        (n, 9) float64.
    """
    values = pictures.astype(np.float64) / 255.0
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = values.shape[1:3]
    local = sum(padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)) / 9.0
    high = np.sqrt(((values - local) ** 2).mean(axis=(1, 2)))
    return np.concatenate([values.mean(axis=(1, 2)), values.std(axis=(1, 2)), high], axis=1)


def _statistics(faces: Dataset, indices: np.ndarray) -> np.ndarray:
    pictures = faces.select(indices.tolist())["image"]
    return image_statistics(np.stack([np.asarray(picture.convert("RGB")) for picture in pictures]))


def _auc(features: np.ndarray, label: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
    model.fit(features[train], label[train])
    return float(roc_auc_score(label[test], model.decision_function(features[test])))

"""What simple image statistics reach on the benchmark: the bar for a detector to clear.

Run it with `python -m pipelines.synthetic.baseline`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.data.records import load_faces
from pipelines.synthetic.benchmark import build, render_speed
from pipelines.synthetic.settings import CORPUS, SyntheticSettings

if TYPE_CHECKING:
    from datasets import Dataset


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


def statistics_baseline(faces: Dataset) -> dict[str, Any]:
    """AUC of a logistic regression on `image_statistics`, frames judged one by one.

    Args:
        faces: a face dataset; its live corpus is left out.

    Returns:
        `within`: domain to AUC, trained on its train split, tested on its test split. `across`: likewise,
        trained on the train splits of all other domains, tested on all of this one. `within_mean`,
        `across_mean`.

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


def baseline_table(result: dict[str, Any]) -> str:
    """The baseline's AUCs as a Markdown table."""
    lines = ["| domain | within | left out |", "| --- | --- | --- |"]
    lines += [f"| {name} | {result['within'][name]:.3f} | {result['across'][name]:.3f} |" for name in result["within"]]
    return "\n".join([*lines, f"| mean | {result['within_mean']:.3f} | {result['across_mean']:.3f} |"])


def _main() -> None:
    parser = argparse.ArgumentParser(description="AUC of simple image statistics on the built-in benchmark.")
    parser.add_argument("folder", nargs="?", type=Path, help="a benchmark on disk; the default one is made if left out")
    parser.add_argument("--speed", action="store_true", help="also measure rendering, by one process and by two")
    arguments = parser.parse_args()
    if arguments.folder:
        print(baseline_table(statistics_baseline(load_faces(arguments.folder))))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            made = build(SyntheticSettings(corpus_subjects=0), Path(scratch) / "benchmark")
            print(baseline_table(statistics_baseline(load_faces(made))))
    if arguments.speed:
        for workers in (1, 2):
            speed = render_speed(workers=workers)
            print(
                f"{workers} process(es): {speed['faces_per_second']:.0f} faces/s, "
                f"{speed['faces_per_cpu_second']:.0f} per second of CPU time, "
                f"live alone {speed['live_faces_per_second']:.0f} faces/s"
            )


if __name__ == "__main__":
    _main()

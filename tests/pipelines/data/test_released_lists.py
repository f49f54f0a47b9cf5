"""`configs/released.yaml` trains and tests the videos of the released lists, counted by hand from SSDG's numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.data.protocols import build_folds, indices
from pipelines.experiment.file import read_experiment

ROOT = Path(__file__).parents[3]

# Live and attack videos by split. SSDG's lists hold train and test: M 70/210, C 150/450, I 140/700, O 720/2880; the dev
# videos of I and O are in none.
VIDEOS = {
    "M": {"train": (30, 90), "test": (40, 120)},
    "C": {"train": (60, 180), "test": (90, 270)},
    "I": {"train": (60, 300), "dev": (60, 300), "test": (80, 400)},
    "O": {"train": (360, 1440), "dev": (270, 1080), "test": (360, 1440)},
}
TRAINED = {"O": 280 + 600 + 840, "I": 280 + 600 + 3600, "M": 600 + 840 + 3600, "C": 280 + 840 + 3600}
TESTED = {"O": 3600, "I": 840, "M": 280, "C": 600}


def records(frames: int) -> dict[str, np.ndarray]:
    """The columns of a prepared dataset with these videos."""
    rows = [
        (domain, split, label, f"{domain}-{split}-{label}-{number}", frame)
        for domain, splits in VIDEOS.items()
        for split, counts in splits.items()
        for label, count in zip((1, 0), counts, strict=True)
        for number in range(count)
        for frame in range(frames)
    ]
    domain, split, label, video, frame = (np.array(column) for column in zip(*rows, strict=True))
    return {"domain": domain, "split": split, "label": label, "video": video, "subject": video, "frame": frame}


@pytest.mark.parametrize("target", TESTED)
def test_the_lists_have_ssdgs_numbers_of_videos(target):
    columns = records(frames=10)
    protocol = read_experiment(ROOT / "configs" / "released.yaml").protocol
    fold = next(fold for fold in build_folds(protocol, list(VIDEOS)) if fold.name == f"to_{target}")
    rows = indices(columns, fold)
    assert len(rows["train"]) == len(set(columns["video"][rows["train"]])) == TRAINED[target]
    assert len(rows["test"]) == 2 * len(set(columns["video"][rows["test"]])) == 2 * TESTED[target]
    assert [set(columns["frame"][rows[part]].tolist()) for part in ("train", "test")] == [{6}, {1, 6}]
    assert set(columns["split"][rows["train"]]) == set(columns["split"][rows["test"]]) == {"train", "test"}
    assert target not in columns["domain"][rows["train"]]

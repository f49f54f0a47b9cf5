"""Which frames of a video a dataset keeps, and which of them an experiment uses.

The public code of SSDG, which that of AG-FAS follows, lists the n frames of a video and takes (6 + j floor(n/k)) mod n
for j < k: one frame (k = 1) of a training video, two (k = 2) of a test video. The AG-FAS code does not say which frames
were listed. A face dataset of 10 uniform frames a video, the paper's number, holds both lists over the frames that it
stores: number 6 for training, 6 and 1 for tests. `agfas prepare --frame-rule` also keeps those over all frames of the
video, as SSDG lists them, and marks them in the column `frame_rule`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from pipelines.data.video import frame_indices

UNIFORM, RELEASED_TRAIN, RELEASED_TEST = "uniform", "released_train", "released_test"
_FIRST = 6
# Frames of a video in each part of an experiment, and their mark.
_RELEASED = {"train": (1, RELEASED_TRAIN), "dev": (2, RELEASED_TEST), "test": (2, RELEASED_TEST)}


class Sampled(NamedTuple):
    """One frame to keep of a video.

    Attributes:
        source_frame: its index in the video.
        number: in the record and its key. Uniform frames have the same numbers under every rule, since the noise of a
            cue comes from the key; other frames follow them.
        rules: marks, separated by spaces, as in the column `frame_rule`.
    """

    source_frame: int
    number: int
    rules: str


def released(count: int, many: int) -> list[int]:
    """Places of `many` of `count` listed frames by the public code's rule; fewer if the list is shorter.

    Examples:
        >>> released(10, 1), released(10, 2), released(300, 2), released(4, 2), released(1, 2)
        ([6], [6, 1], [6, 156], [2, 0], [0])
    """
    return list(dict.fromkeys((_FIRST + place * (count // many)) % count for place in range(many)))


def sampled_frames(count: int, frames: int, rule: str) -> list[Sampled]:
    """The frames to keep of a video, in the order of time.

    Args:
        count: frames of the video.
        frames: uniform ones to keep.
        rule: `uniform`, `released` (those of training and tests, over all `count` frames) or `both`.
    """
    uniform = [] if rule == "released" else frame_indices(count, frames)
    marks = {index: [UNIFORM] for index in uniform}
    if rule != "uniform":
        for index in sorted(released(count, 2)):
            marks.setdefault(index, []).append(RELEASED_TEST)
        for index in released(count, 1):
            marks[index].append(RELEASED_TRAIN)
    return sorted(Sampled(index, number, " ".join(rules)) for number, (index, rules) in enumerate(marks.items()))


def expected_frames(frames: int, rule: str) -> int:
    """Most frames that `sampled_frames` keeps of a video."""
    return {"uniform": frames, "released": 2, "both": frames + 2}[rule]


def used_frames(columns: Mapping[str, Any], choice: str, part: str) -> np.ndarray:
    """The records whose frames serve in a part of an experiment.

    `released` takes a video's marked frames; of a video without the mark, the rule's places in its stored records, by
    `frame`. A dataset of pictures has no marks: its frames are all stored ones.

    Args:
        columns: `domain`, `video` and `frame`, and `frame_rule` if the dataset has it, (N,) each.
        choice: `all`, `uniform` or `released`.
        part: `train`, `dev` or `test`.

    Returns:
        (N,) bool.
    """
    domains = np.asarray(columns["domain"])
    if choice == "all":
        return np.ones(len(domains), dtype=bool)
    marks = [set((text or "").split()) for text in columns.get("frame_rule", [""] * len(domains))]
    if choice == "uniform":
        return np.array([not mark or UNIFORM in mark for mark in marks], dtype=bool)
    many, name = _RELEASED[part]
    marked = np.array([name in mark for mark in marks], dtype=bool)
    videos = _numbered(domains, columns["video"])
    has_mark = np.bincount(videos, weights=marked) > 0
    return np.where(has_mark[videos], marked, _by_place(videos, np.asarray(columns["frame"]), many))


def _by_place(videos: np.ndarray, frames: np.ndarray, many: int) -> np.ndarray:
    """(N,) bool: whether a record's place among those of its video is one of the rule's."""
    order = np.lexsort((frames, videos))
    counts = np.bincount(videos)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - (np.cumsum(counts) - counts)[videos[order]]
    count = counts[videos]
    return np.any([(_FIRST + j * (count // many)) % count == place for j in range(many)], axis=0)


def _numbered(domains: np.ndarray, videos: Any) -> np.ndarray:
    """(N,) int64: the number of each record's video; names are unique within a domain only."""
    numbers: dict[tuple[Any, Any], int] = {}
    pairs = zip(domains, videos, strict=True)
    return np.array([numbers.setdefault(pair, len(numbers)) for pair in pairs], dtype=np.int64)

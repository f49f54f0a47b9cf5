"""What a detector is shown of a dataset's faces, and what becomes of its answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from oanet.published import RejectedInput
from pipelines.errors import AgfasError
from pipelines.evaluation import scoring
from pipelines.evaluation.scoring import answers, score_faces
from pipelines.evaluation.sight import check_sight, look

BLANK = np.full((4, 4, 3), 7, np.uint8)


class Sees(nn.Module):
    """Sees what it is made to see; its logits are the mean of the input and that of the cue."""

    name = "probe"

    def __init__(self, sees: str = "crop") -> None:
        super().__init__()
        self.sees, self.given, self.batches = sees, [], []
        self.train()

    def look_at_nobody(self) -> np.ndarray:
        return BLANK

    def look(self, picture: np.ndarray, box: Any = None, points: Any = None) -> np.ndarray:
        self.given.append((int(picture[0, 0, 0]), box, points))
        if picture[0, 0, 0] == 200:
            raise RejectedInput("too near the edge")
        if picture[0, 0, 0] == 201:
            raise ValueError("the box is no face's")
        return np.full((4, 4, 3), picture[0, 0, 0], np.uint8)

    def forward(self, image, cue=None):
        if not torch.isfinite(image).all() or (image == 1).all():
            raise ValueError("a probability of nothing")
        self.batches.append((len(image), self.training, None if cue is None else cue.flatten().tolist()))
        logits = torch.stack([torch.zeros(len(image)), image.mean(dim=(1, 2, 3))], dim=1)
        return Output(logits)


class Output:
    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits

    @property
    def probability_bonafide(self) -> torch.Tensor:
        return self.logits.softmax(dim=1)[:, 1]


class Shades:
    """Faces of one shade each, the pictures around them 20 brighter; the boxes are the rows' numbers."""

    folder = "faces"

    def __init__(self, shades: list[int], boxes: bool = True, points: bool = False) -> None:
        count = len(shades)
        self.keys = [f"key {row}" for row in range(count)]
        self.images = np.repeat(np.array(shades, np.uint8), 12).reshape(count, 2, 2, 3)
        self.boxes = np.arange(4.0 * count).reshape(count, 4) if boxes else None
        self.points = np.arange(10.0 * count).reshape(count, 5, 2) if points else None
        self.has_picture = np.ones(count, dtype=bool)

    def __len__(self) -> int:
        return len(self.images)

    def picture(self, row: int) -> np.ndarray | None:
        return self.images[row] + np.uint8(20) if self.has_picture[row] else None


class Cues:
    def batch(self, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.asarray(rows, dtype=np.float32))[:, None]


def test_the_crop_is_what_is_stored_and_batches_are_of_the_size_asked_for(monkeypatch):
    precise: list[bool] = []
    monkeypatch.setattr(scoring, "use_tf32", precise.append)
    detector, faces = Sees(), Shades([0, 50, 100, 150, 250])
    scores = score_faces(detector, faces, Cues(), np.array([4, 1, 2]), 2)
    expected = [1 / (1 + math.exp(-(shade - 127.5) / 127.5)) for shade in (250, 50, 100)]
    assert scores == pytest.approx(expected, abs=1e-6)
    assert scores.dtype == np.float64
    assert detector.batches == [(2, False, [4.0, 1.0]), (1, False, [2.0])]
    assert [rows.tolist() for rows, _ in answers(detector, faces, None, np.arange(5), 4)] == [[0, 1, 2, 3], [4]]
    assert detector.batches[2:] == [(4, False, None), (1, False, None)]
    assert detector.given == []
    assert look(detector, faces, np.arange(2))[1].dtype == bool
    assert precise == [False, False]  # whatever a training on a GPU left


def test_the_picture_with_box_and_points_is_what_a_network_makes_its_input_of():
    detector, faces = Sees("box"), Shades([0, 60, 180], points=True)
    seen, rejected = look(detector, faces, np.array([1, 0]))
    assert seen.tolist() == [np.full((4, 4, 3), shade).tolist() for shade in (80, 20)]
    assert rejected.tolist() == [False, False]
    given = sorted(detector.given, key=lambda one: one[0])
    assert [(shade, box.tolist(), points[0].tolist()) for shade, box, points in given] == [
        (20, [0, 1, 2, 3], [0, 1]),
        (80, [4, 5, 6, 7], [10, 11]),
    ]
    assert look(Sees("picture"), Shades([0], boxes=False), np.array([0]))[0].tolist() == [[[[20] * 3] * 4] * 4]


def test_a_rejected_input_is_black_and_scores_0():
    detector, faces = Sees("picture"), Shades([60, 180, 100])
    seen, rejected = look(detector, faces, np.array([0, 1]))
    assert rejected.tolist() == [False, True]
    assert (seen[0] == 80).all()
    assert not seen[1].any()
    scores = score_faces(detector, faces, None, np.arange(3), 2)
    assert scores[1] == 0
    assert 0 < scores[0] < scores[2] < 0.5


def test_mistakes_name_the_face():
    broken = Shades([181, 60])
    with pytest.raises(AgfasError, match="The face key 0 of faces: the box is no face's"):
        look(Sees("box"), broken, np.array([0, 1]))
    broken.has_picture[1] = False
    with pytest.raises(AgfasError, match="The face key 1 of faces has no picture around it, which 'probe' sees"):
        look(Sees("picture"), broken, np.array([1]))
    with pytest.raises(AgfasError, match="a probability of nothing"):
        score_faces(Sees(), Shades([255]), None, np.array([0]), 1)


def test_a_dataset_that_lacks_what_a_detector_sees_is_refused_before_anything_is_judged():
    faces, judged = Shades([0, 1, 2, 3], points=True), np.array([True, True, True, False])
    for sees in ("crop", "picture", "box", "points"):
        check_sight("probe", sees, faces, judged)
    faces.has_picture[[1, 3]] = False
    check_sight("probe", "crop", faces, judged)
    with pytest.raises(
        AgfasError, match=r"sees the whole picture, which faces lacks for 1 of 3 faces: .*--keep-picture`"
    ):
        check_sight("probe", "picture", faces, judged)
    check_sight("probe", "picture", faces, np.array([True, False, True, False]))
    faces.boxes[0, 2] = np.nan
    with pytest.raises(
        AgfasError, match=r"with the face's box, which faces lacks for 2 of 3 .*--face-detector yunet --weights"
    ):
        check_sight("probe", "box", faces, judged)
    with pytest.raises(AgfasError, match=r"the face's five points, which faces lacks for 1 of 3"):
        check_sight("probe", "points", faces, judged)
    faces.points = None
    with pytest.raises(AgfasError, match=r"five points, which faces lacks for 3 of 3"):
        check_sight("probe", "points", faces, judged)

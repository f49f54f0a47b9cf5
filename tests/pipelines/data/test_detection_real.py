"""YuNet on real photographs, where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipelines.data.detection import load_detector

REALDATA = os.environ.get("AGFAS_REALDATA")


needs_realdata = pytest.mark.skipif(not REALDATA, reason="AGFAS_REALDATA is not set")


@pytest.fixture(scope="module")
def yunet():
    return load_detector("yunet", Path(str(REALDATA)).parent / "weights" / "yunet.onnx")


def real(pattern: str, count: int) -> list[np.ndarray]:
    from pipelines.data.images import read_picture

    paths = sorted(Path(str(REALDATA)).glob(pattern))
    return [np.asarray(read_picture(path)) for path in paths[:: max(1, len(paths) // count)][:count]]


def in_order(landmarks: np.ndarray) -> bool:
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks
    return bool(
        left_eye[0] < right_eye[0]
        and left_mouth[0] < right_mouth[0]
        and max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    )


@pytest.mark.realdata
@needs_realdata
@pytest.mark.parametrize("pattern", ["live/utkface/*.jpg", "nuaa/*/*/*.jpg", "replay/attack/*"])
def test_yunet_finds_real_faces_with_landmarks_in_order(yunet, pattern):
    found = [yunet(picture) for picture in real(pattern, 20)]
    assert sum(bool(faces) for faces in found) >= 19
    assert sum(in_order(faces[0].landmarks) for faces in found if faces) >= 18


@pytest.mark.realdata
@needs_realdata
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_yunet_finds_faces_of_sideways_phone_pictures(yunet, quarters):
    good = 0
    for picture in real("live/utkface/*.jpg", 12):
        upright = yunet(picture)[0].landmarks
        turned = yunet(np.ascontiguousarray(np.rot90(picture, quarters)))[0].landmarks
        x, y, side = turned[:, 0], turned[:, 1], picture.shape[0] - 1
        back = {1: (side - y, x), 2: (side - x, side - y), 3: (y, side - x)}[quarters]
        error = np.abs(np.stack(back, axis=1) - upright).mean() / np.linalg.norm(upright[1] - upright[0])
        good += error < 0.12
    assert good >= 10


@pytest.mark.realdata
@needs_realdata
def test_yunet_finds_every_face_of_a_large_group_picture(yunet):
    import cv2

    picture = np.full((3000, 4000, 3), 120, np.uint8)
    places = [(200, 1500, 900), (1500, 400, 500), (2400, 1600, 300), (3000, 600, 240)]
    for (left, top, side), one in zip(places, real("live/utkface/*.jpg", 4), strict=True):
        picture[top : top + side, left : left + side] = cv2.resize(one, (side, side))
    faces = yunet(picture)
    assert len(faces) == 4
    for found, (left, top, side) in zip(faces, places, strict=True):  # the largest first
        assert np.abs(found.box[:2] + found.box[2:] / 2 - (left + side / 2, top + side / 2)).max() < side * 0.15

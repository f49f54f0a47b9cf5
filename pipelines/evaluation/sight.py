"""What a detector sees of the faces of a dataset: the stored crop, or what it makes itself of the picture around it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from oanet.published import BOX, CROP, PICTURE, POINTS, RejectedInput
from pipelines.errors import AgfasError
from pipelines.processes import threads

if TYPE_CHECKING:
    from oanet.detectors import Detector
    from pipelines.data.faces import Faces

_NEEDS: dict[str, str] = {
    PICTURE: "the whole picture",
    BOX: "the whole picture with the face's box",
    POINTS: "the whole picture with the face's five points",
}


def check_sight(name: str, sees: str, faces: Faces, judged: np.ndarray) -> None:
    """Refuse a dataset that cannot give a detector its input.

    Args:
        name: of the detector.
        sees: as of `Detector.sees`.
        faces: the dataset.
        judged: (N,) bool, the faces that the detector is to judge.

    Raises:
        AgfasError: says how to prepare it.
    """
    if sees == CROP:
        return
    has = faces.has_picture
    if sees != PICTURE:
        places = faces.boxes if sees == BOX else faces.points
        has = has & (places is not None and np.isfinite(places).reshape(len(faces), -1).all(axis=1))
    lacking = int((judged & ~has).sum())
    if lacking:
        detected = "" if sees == PICTURE else " --face-detector yunet --weights yunet.onnx"
        raise AgfasError(
            f"The detector '{name}' sees {_NEEDS[sees]}, which {faces.folder} lacks for {lacking} of"
            f" {int(judged.sum())} faces: prepare it again with"
            f" `agfas prepare SOURCE --out OUT --keep-picture{detected}`."
        )


def look(detector: Detector, faces: Faces, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a detector sees of some faces.

    Args:
        detector: its `look` is used unless it sees the crop.
        faces: the dataset, which must hold what the detector sees (`check_sight`).
        rows: (B,) indices of the faces.

    Returns:
        (B, H, W, C) uint8, and (B,) bool, which faces the publisher's program rejects; those are black.

    Raises:
        AgfasError: a face without a picture, a box or points, or with one that is no face's.
    """
    if detector.sees == CROP:
        return faces.images[rows], np.zeros(len(rows), dtype=bool)
    boxes, points = faces.boxes, faces.points

    def one(row: int) -> np.ndarray | None:
        place = [None if values is None else values[row] for values in (boxes, points)]
        return _look(detector, faces, row, *place)

    with ThreadPoolExecutor(threads()) as pool:
        seen = list(pool.map(one, rows.tolist()))
    rejected = np.array([picture is None for picture in seen])
    black = np.zeros_like(detector.look_at_nobody())
    return np.stack([black if picture is None else picture for picture in seen]), rejected


def _look(
    detector: Detector, faces: Faces, row: int, box: np.ndarray | None, points: np.ndarray | None
) -> np.ndarray | None:
    """What the detector sees of one face; None if it is rejected."""
    picture, where = faces.picture(row), f"The face {faces.keys[row]} of {faces.folder}"
    if picture is None:
        raise AgfasError(
            f"{where} has no picture around it, which '{detector.name}' sees: prepare the dataset again with"
            " `agfas prepare SOURCE --out OUT --keep-picture`."
        )
    try:
        return detector.look(picture, box, points)
    except RejectedInput:
        return None
    except ValueError as error:
        raise AgfasError(f"{where}: {error}") from error

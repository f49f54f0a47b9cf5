"""YuNet (Wu et al., Machine Intelligence Research 2023) in OpenCV's FaceDetectorYN: small and fast."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.data.detection import DetectedFace, in_short
from pipelines.data.detection.scales import ScaledDetector, SearchScales, ordered, search_scales
from pipelines.data.detection.turns import find_turned, look_again
from pipelines.errors import AgfasError

if TYPE_CHECKING:
    import cv2

_WHERE = (
    "Download face_detection_yunet_2023mar.onnx (0.2 MB) from models/face_detection_yunet of"
    " github.com/opencv/opencv_zoo and name the file with --weights"
)
_MOST_FACES = 5000


class YuNet(ScaledDetector):
    """The YuNet face detector.

    Its landmarks are named after the person (right eye first), so they have the order of `DetectedFace`.

    Args:
        weights: the ONNX file, 2023 layout (cls, obj, bbox and kps at strides of 8, 16 and 32).
        score_threshold: in [0, 1]; a face's score is the square root of class score times objectness.
        nms_threshold: intersection over union above which the box with the lower score is dropped.
        sure: a face with a lower score is searched again in rotated copies, and a picture without a face in its
            quarter turns; 0 turns both off. Of upright faces, 19 in 20 score above 0.9.
        longer_side, largest_side, small_face: as in `SearchScales`.

    Raises:
        AgfasError: no file, another file, or a threshold outside [0, 1].
    """

    name = "yunet"
    licence = "MIT (the YuNet files of opencv/opencv_zoo)"

    def __init__(
        self,
        weights: Path | None = None,
        score_threshold: float = 0.6,
        nms_threshold: float = 0.3,
        sure: float = 0.9,
        longer_side: int = 640,
        largest_side: int = 4096,
        small_face: int = 32,
    ) -> None:
        scales = SearchScales(longer_side, largest_side, small_face)
        super().__init__(scales, score_threshold=score_threshold, nms_threshold=nms_threshold, sure=sure)
        model = _read(weights)
        self.sha256 = hashlib.sha256(model).hexdigest()
        self._net = _open(model, score_threshold, nms_threshold, weights)

    def __call__(self, picture: np.ndarray) -> list[DetectedFace]:
        """The faces of a picture (H, W, 3) uint8 RGB, the largest first."""
        faces = super().__call__(picture)
        sure = self.thresholds["sure"]
        if sure == 0:
            return faces
        if not faces:
            faces = search_scales(picture, lambda copy: find_turned(copy, self._search), self.scales.first())
        return ordered(look_again(picture, faces, self._search, sure))

    def _search(self, picture: np.ndarray) -> list[DetectedFace]:
        import cv2

        self._net.setInputSize((picture.shape[1], picture.shape[0]))
        # Rows of 15: left, top, width, height, five times x and y, score; None where there is no face.
        _, rows = self._net.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if rows is None:
            return []
        rows = np.asarray(rows, dtype=np.float32)
        return [DetectedFace(row[:4], row[4:14].reshape(5, 2), float(row[14])) for row in rows]


def _read(weights: Path | None) -> bytes:
    if weights is None:
        raise AgfasError(f"The face detector 'yunet' needs its weight file. {_WHERE}.")
    if not weights.is_file():
        raise AgfasError(f"No weight file for the face detector 'yunet' at {weights}. {_WHERE}.")
    return weights.read_bytes()


def _open(model: bytes, score_threshold: float, nms_threshold: float, weights: Path | None) -> cv2.FaceDetectorYN:
    import cv2

    level = cv2.utils.logging.getLogLevel()
    # OpenCV 5 warns at every start that its engine chooses the target.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        buffer, no_config = np.frombuffer(model, np.uint8), np.zeros(0, np.uint8)
        net = cv2.FaceDetectorYN.create(
            "onnx", buffer, no_config, (64, 64), score_threshold, nms_threshold, _MOST_FACES
        )
        net.detect(np.zeros((64, 64, 3), np.uint8))  # a graph with other outputs fails only at its first run
    except cv2.error as error:
        raise AgfasError(
            f"{weights} is not a YuNet model that OpenCV can run ({in_short(error)}). {_WHERE}."
        ) from error
    finally:
        cv2.utils.logging.setLogLevel(level)
    return net

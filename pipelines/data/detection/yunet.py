"""YuNet (Wu et al., Machine Intelligence Research 2023) by OpenCV's FaceDetectorYN: small, fast, five landmarks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.data.detection.base import DetectedFace
from pipelines.data.detection.scales import SearchScales, ordered, search_scales
from pipelines.data.detection.turns import find_turned, look_again
from pipelines.errors import AgfasError

if TYPE_CHECKING:
    import cv2

LICENCE = "MIT (the YuNet files of opencv/opencv_zoo)"
_WHERE = (
    "It is face_detection_yunet_2023mar.onnx (0.2 MB) in models/face_detection_yunet of github.com/opencv/opencv_zoo;"
    " download it and name the file as the detector's weights (--weights)"
)
_MOST_FACES = 5000


class YuNet:
    """Finds faces with YuNet.

    Its rows name the landmarks after the person (right eye, left eye, nose, right and left mouth corner), which in the
    picture of a face is left to right: the order of `DetectedFace`.

    Args:
        weights: the ONNX file, 2023 layout (cls, obj, bbox and kps at strides of 8, 16 and 32).
        score_threshold: in [0, 1]; a face's score is the root of its class score times its objectness.
        nms_threshold: overlap (intersection over union) above which the less sure of two boxes is dropped.
        sure: a face with a score below this is looked at again in turned copies, and a picture without a face in its
            quarter turns; 0 leaves both out. Of upright faces, 19 in 20 score above 0.9.
        longer_side, largest_side, small_face: as in `SearchScales`.

    Raises:
        AgfasError: no file, another file, or a threshold outside [0, 1].
    """

    name = "yunet"
    licence = LICENCE

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
        _check_shares(score_threshold=score_threshold, nms_threshold=nms_threshold, sure=sure)
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.sure = sure
        self.scales = SearchScales(longer_side, largest_side, small_face)
        model = _read(weights)
        self._sha256 = hashlib.sha256(model).hexdigest()
        self._net = _open(model, score_threshold, nms_threshold, weights)

    def fingerprint(self) -> dict[str, Any]:
        """Weights, thresholds and sizes."""
        return {
            "detector": self.name,
            "weights": self._sha256,
            "score_threshold": self.score_threshold,
            "nms_threshold": self.nms_threshold,
            "sure": self.sure,
            **self.scales.fingerprint(),
        }

    def __call__(self, picture: np.ndarray) -> list[DetectedFace]:
        """The faces of a picture (H, W, 3) uint8 RGB, the largest first."""
        faces = search_scales(picture, self._search, self.scales)
        if self.sure == 0:
            return faces
        if not faces:
            faces = search_scales(picture, lambda copy: find_turned(copy, self._search), self.scales.first())
        return ordered(look_again(picture, faces, self._search, self.sure))

    def _search(self, picture: np.ndarray) -> list[DetectedFace]:
        import cv2

        self._net.setInputSize((picture.shape[1], picture.shape[0]))
        # Rows of 15: left, top, width, height, five times x and y, score; None where there is no face.
        _, rows = self._net.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if rows is None:
            return []
        rows = np.asarray(rows, dtype=np.float32)
        return [DetectedFace(row[:4], row[4:14].reshape(5, 2), float(row[14])) for row in rows]


def _check_shares(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise AgfasError(f"{name} is a share from 0 to 1; got {value}.")


def _read(weights: Path | None) -> bytes:
    if weights is None:
        raise AgfasError(f"The detector 'yunet' needs its weight file. {_WHERE}.")
    if not weights.is_file():
        raise AgfasError(f"No weight file for the detector 'yunet' at {weights}. {_WHERE}.")
    return weights.read_bytes()


def _open(model: bytes, score_threshold: float, nms_threshold: float, weights: Path | None) -> cv2.FaceDetectorYN:
    import cv2

    level = cv2.utils.logging.getLogLevel()
    # OpenCV 5 warns on every start that its engine chooses the target itself.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        buffer, no_config = np.frombuffer(model, np.uint8), np.zeros(0, np.uint8)
        net = cv2.FaceDetectorYN.create(
            "onnx", buffer, no_config, (64, 64), score_threshold, nms_threshold, _MOST_FACES
        )
        net.detect(np.zeros((64, 64, 3), np.uint8))  # a graph with other outputs fails only when it runs
    except cv2.error as error:
        raise AgfasError(f"{weights} is not a YuNet model that OpenCV can run ({_reason(error)}). {_WHERE}.") from error
    finally:
        cv2.utils.logging.setLogLevel(level)
    return net


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

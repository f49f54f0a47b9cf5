"""Face detectors, each in a file of its own under one contract: where the faces are, with five landmarks.

A new one is a class as `FaceDetector` describes it, in a file of its own, with a line here.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

from pipelines.data.detection.base import DetectedFace, FaceDetector
from pipelines.errors import AgfasError, nearest

__all__ = ["DETECTORS", "DetectedFace", "FaceDetector", "load_detector"]

DETECTORS = {
    "yunet": "pipelines.data.detection.yunet:YuNet",
    "insightface": "pipelines.data.detection.insightface:InsightFace",
    "retinaface": "pipelines.data.detection.retinaface:RetinaFace",
}


def load_detector(name: str, weights: Path | None = None, **options: Any) -> FaceDetector:
    """The detector of a name in `DETECTORS`, ready to run.

    Args:
        name: `yunet`, `insightface` or `retinaface`.
        weights: its weight file or folder. `yunet` needs one; the others download theirs where it is left out.
        options: thresholds and sizes, as the class documents them.

    Raises:
        AgfasError: unknown name or option, or weights that are missing or do not fit.
    """
    if name not in DETECTORS:
        raise AgfasError(f"There is no face detector {name!r}: {nearest(name, DETECTORS)}")
    module, kind = DETECTORS[name].split(":")
    detector = getattr(import_module(module), kind)
    allowed = [option for option in inspect.signature(detector).parameters if option != "weights"]
    for option in options:
        if option not in allowed:
            raise AgfasError(f"The detector {name!r} has no option {option!r}: {nearest(option, allowed)}")
    return detector(weights, **options)

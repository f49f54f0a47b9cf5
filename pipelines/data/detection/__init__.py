"""Face detectors, each in a file of its own under one contract: where the faces are, with five landmarks."""

from __future__ import annotations

from pipelines.data.detection.base import DetectedFace, FaceDetector

__all__ = ["DetectedFace", "FaceDetector"]

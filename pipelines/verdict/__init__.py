"""From a picture or a video to a verdict: live, attack, no face, or refused with a reason.

from pipelines.verdict import FaceAntiSpoofing
detector = FaceAntiSpoofing.from_pretrained("folder")
print(detector("photo.jpg"))
"""

from __future__ import annotations

from pipelines.verdict.answers import ANSWERS, FaceVerdict, FrameVerdict, Verdict
from pipelines.verdict.anti_spoofing import FaceAntiSpoofing

__all__ = ["ANSWERS", "FaceAntiSpoofing", "FaceVerdict", "FrameVerdict", "Verdict"]

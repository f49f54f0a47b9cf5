"""CASIA Face Anti-Spoofing Database: warped and cut photographs and replays before three cameras.

    train_release/1..20/{1..8,HR_1..HR_4}.avi
    test_release/1..30/{1..8,HR_1..HR_4}.avi

Layout after the paper and Idiap's interface `bob.db.casia_fasd`: 1, 2 and HR_1 are genuine, 3, 4 and HR_2 warped
photographs, 5, 6 and HR_3 photographs with cut eyes, 7, 8 and HR_4 replays on a tablet. There is no official
development split.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.data.importers.layout import Layout, expected
from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import CUT, PRINT, REPLAY
from pipelines.data.records import NO_ATTACK

TITLE = "CASIA-FASD"
CITATION = (
    "Z. Zhang, J. Yan, S. Liu, Z. Lei, D. Yi, S. Z. Li: A Face Antispoofing Database with Diverse Attacks. ICB 2012."
)
LICENCE = "For research, under the agreement of the Institute of Automation, Chinese Academy of Sciences."
VERIFIED = "Not checked against a real copy; names follow the paper and of Idiap's published interface."
EXPECTED = (*expected(60, 180, "train"), *expected(90, 270, "test"))

_TYPES = {
    **dict.fromkeys(("1", "2", "HR_1"), NO_ATTACK),
    **dict.fromkeys(("3", "4", "HR_2"), PRINT),
    **dict.fromkeys(("5", "6", "HR_3"), CUT),
    **dict.fromkeys(("7", "8", "HR_4"), REPLAY),
}
_LAYOUT = Layout(
    TITLE,
    ("train_release", "test_release"),
    r"(?P<split>train|test)_release/(?P<person>\d+)/(?P<take>[1-8]|HR_[1-4])\.\w+",
    "train_release/1/HR_2.avi",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """One face per video."""
    faces = []
    for path, match in _LAYOUT.files(source):
        # Both folders number their persons from 1: person 1 of one is not person 1 of the other.
        subject = f"{match['split']}-{int(match['person']):02d}"
        video = f"{subject}-{match['take']}"
        faces.append(SourceFace(path, domain, _TYPES[match["take"]], subject, video, split=match["split"]))
    return faces

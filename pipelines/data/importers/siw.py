"""Spoof in the Wild: prints and replays of 165 persons before two cameras.

    Train/live/003/003-1-1-1-1.mov        subject-sensor-type-medium-session: type 1 live, 2 print, 3 replay
    Train/spoof/003/003-1-2-1-1.mov
    Test/...

Layout after the database's page and Idiap's interface `bob.db.siw`, whose file lists give the counts (the paper
announces 4,620 videos; 4,478 were distributed). The `.face` file beside every video is not read. A few names have a
second ending (`.m.mov`). There is no official development split.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.data.importers.layout import Layout, expected
from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import PRINT, REPLAY
from pipelines.data.records import NO_ATTACK

TITLE = "SiW"
CITATION = (
    "Y. Liu, A. Jourabloo, X. Liu: Learning Deep Models for Face Anti-Spoofing: Binary or Auxiliary Supervision."
    " CVPR 2018."
)
LICENCE = "For research, under the agreement of Michigan State University."
VERIFIED = "Not checked against a real copy; names and counts follow Idiap's published file lists."
EXPECTED = (*expected(714, 1703, "train"), *expected(599, 1462, "test"))

_TYPES = {"1": NO_ATTACK, "2": PRINT, "3": REPLAY}
_LAYOUT = Layout(
    TITLE,
    ("Train", "Test"),
    # The look-aheads refuse a type that contradicts the folder.
    r"(?P<split>Train|Test)/(?:live/\d{3}/(?=\d{3}-\d-1)|spoof/\d{3}/(?=\d{3}-\d-[23]))"
    r"(?P<video>(?P<subject>\d{3})-\d-(?P<type>[123])-\d-\d)(?:\.m)?\.\w+",
    "Train/live/003/003-1-1-1-1.mov",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """One face per video; subjects are numbered across both splits."""
    return [
        SourceFace(path, domain, _TYPES[match["type"]], match["subject"], match["video"], split=match["split"].lower())
        for path, match in _LAYOUT.files(source)
    ]

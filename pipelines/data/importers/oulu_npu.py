"""OULU-NPU: prints and replays before the front cameras of six phones in three sessions.

    Train_files/1_1_01_1.avi        phone_session_user_file: file 1 live, 2 and 3 prints, 4 and 5 replays
    Dev_files/..., Test_files/...
    Protocols/Protocol_1..4/{Train,Dev,Test}.txt

Layout after the paper and Idiap's interface `bob.db.oulunpu`. The three folders are the official splits. Not read: the
`.txt` file with the eyes beside every video, and the lists under `Protocols`, which choose phones, sessions and
instruments within the splits.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.data.importers.layout import TRAIN_AND_TEST, Layout, expected
from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import PRINT, REPLAY
from pipelines.data.records import NO_ATTACK

TITLE = "OULU-NPU"
CITATION = (
    "Z. Boulkenafet, J. Komulainen, L. Li, X. Feng, A. Hadid: OULU-NPU: A Mobile Face Presentation Attack Database with"
    " Real-World Variations. FG 2017."
)
LICENCE = "For research, under the agreement of the University of Oulu."
VERIFIED = "Not checked against a real copy; names follow the paper and of Idiap's published interface."
EXPECTED = (*expected(720, 2880, "train", "test", what=TRAIN_AND_TEST), *expected(270, 1080, "dev"))

_TYPES = {"1": NO_ATTACK, "2": PRINT, "3": PRINT, "4": REPLAY, "5": REPLAY}
_LAYOUT = Layout(
    TITLE,
    ("Train_files", "Dev_files", "Test_files"),
    r"(?P<split>Train|Dev|Test)_files/(?:.*/)?(?P<video>[1-6]_[1-3]_(?P<user>\d{2})_(?P<file>[1-5]))\.\w+",
    "Train_files/1_1_01_1.avi",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """One face per video; users are numbered across all three splits."""
    return [
        SourceFace(path, domain, _TYPES[match["file"]], match["user"], match["video"], split=match["split"].lower())
        for path, match in _LAYOUT.files(source)
    ]

"""NUAA photograph imposter database: printed photographs held before a webcam.

    raw/ClientRaw/0001/0001_00_00_01_0.jpg, raw/ImposterRaw/...            PERSON_GLASSES_PLACE_SESSION_FRAME
    Detectedface/ClientFace/..., Detectedface/ImposterFace/...             the same pictures cut to the face
    bonafide/PERSON/..., attack/PERSON/...                                 as this program names the classes

Layout after the paper, Idiap's interface `xbob.db.nuaa` and published readers of the distribution. The lists
`client_train_raw.txt` and so on divide by session (1 and 2 against 3), so the same persons are in training and test.
They are not read: the splits stay empty and persons are dealt out. No number is expected: the distribution's 12,614
pictures are frames, and no list names its videos.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.data.importers.layout import Layout
from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import PRINT
from pipelines.data.records import NO_ATTACK
from pipelines.errors import AgfasError

TITLE = "NUAA"
CITATION = (
    "X. Tan, Y. Li, J. Liu, L. Jiang: Face Liveness Detection from a Single Image with Sparse Low Rank Bilinear"
    " Discriminative Model. ECCV 2010."
)
LICENCE = "For research, under the terms of Nanjing University of Aeronautics and Astronautics."
VERIFIED = "Names checked against a part of a real copy (persons 1 to 8, every fourth frame, in bonafide/ and attack/)."

# Folders of the two classes; raw pictures come before the faces cut from them.
_PAIRS = (("bonafide", "attack"), ("ClientRaw", "ImposterRaw"), ("ClientFace", "ImposterFace"))
_PATTERN = r"(?P<class>\w+)/(?:.*/)?(?P<video>(?P<person>\d{4})_\d{2}_\d{2}_\d{2})_(?P<frame>\d+)\.\w+"


def find(source: Path, domain: str) -> list[SourceFace]:
    """One face per picture; a video is a person, glasses, place and session, all named by the file.

    Raises:
        AgfasError: besides the errors of every importer, one of the two folders is missing.
    """
    layout = _layout(source)
    root = layout.root(source)
    missing = [name for name in layout.folders if not (root / name).is_dir()]
    if missing:
        raise AgfasError(
            f"{root} lacks the folder {missing[0]}/ of {TITLE}, whose two classes are {' and '.join(layout.folders)}."
        )
    faces = []
    for path, match in layout.match(root):
        live = match["class"] == layout.folders[0]
        video = f"{'bonafide' if live else 'attack'}-{match['video']}"
        kind = NO_ATTACK if live else PRINT
        faces.append(SourceFace(path, domain, kind, match["person"], video, int(match["frame"])))
    return faces


def _layout(source: Path) -> Layout:
    """The layout with the first pair of folders that exists; with all of them, for the message, if none does."""
    layouts = [Layout(TITLE, pair, _PATTERN, f"{pair[0]}/0001/0001_00_00_01_12.jpg") for pair in _PAIRS]
    every = Layout(TITLE, sum(_PAIRS, ()), _PATTERN, "ClientRaw/0001/0001_00_00_01_12.jpg")
    return next((layout for layout in layouts if layout.roots(source)), every)

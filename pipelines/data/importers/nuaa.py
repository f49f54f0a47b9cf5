"""NUAA photograph imposter database: printed photographs held before a webcam.

    raw/ClientRaw/0001/0001_00_00_01_0.jpg, raw/ImposterRaw/...            PERSON_GLASSES_PLACE_SESSION_FRAME
    Detectedface/ClientFace/..., Detectedface/ImposterFace/...             the same pictures cut to the face
    bonafide/PERSON/..., attack/PERSON/...                                 as this program names the classes

Layout after the paper, Idiap's interface `xbob.db.nuaa` and published readers of the distribution. The lists
`client_train_raw.txt` and so on divide by session (1 and 2 against 3), so that the same persons are trained on and
tested; they are not read, the splits stay empty, and persons are dealt out. No number is expected, since the
distribution's 12,614 pictures are frames and its videos are not listed.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.data.importers.attack_types import PRINT
from pipelines.data.importers.expected import Expected
from pipelines.data.importers.layout import Layout
from pipelines.data.importers.source import SourceFace
from pipelines.data.records import ATTACK, BONAFIDE, NO_ATTACK
from pipelines.errors import AgfasError

TITLE = "NUAA"
CITATION = (
    "X. Tan, Y. Li, J. Liu, L. Jiang: Face Liveness Detection from a Single Image with Sparse Low Rank Bilinear"
    " Discriminative Model. ECCV 2010."
)
LICENCE = "For research, under the terms of Nanjing University of Aeronautics and Astronautics."
VERIFIED = "Names checked against a part of a real copy (persons 1 to 8, every fourth frame, in bonafide/ and attack/)."
EXPECTED: tuple[Expected, ...] = ()

_CLASSES = {
    "bonafide": BONAFIDE,
    "ClientRaw": BONAFIDE,
    "ClientFace": BONAFIDE,
    "attack": ATTACK,
    "ImposterRaw": ATTACK,
    "ImposterFace": ATTACK,
}
_PAIRS = (("bonafide", "attack"), ("ClientRaw", "ImposterRaw"), ("ClientFace", "ImposterFace"))
_NAMES = re.compile(
    r"(?P<class>\w+)/(?:.*/)?(?P<video>(?P<person>\d{4})_\d{2}_\d{2}_\d{2})_(?P<frame>\d+)\.\w+",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """A video is what the name calls person, glasses, place and session. The raw pictures are read where there are
    both they and the faces.

    Raises:
        AgfasError: a folder is missing, or a file is not called as in NUAA.
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
        label = _CLASSES[match["class"]]
        kind, word = (NO_ATTACK, "bonafide") if label == BONAFIDE else (PRINT, "attack")
        video = f"{word}-{match['video']}"
        faces.append(SourceFace(path, label, kind, domain, match["person"], video, int(match["frame"])))
    return faces


def _layout(source: Path) -> Layout:
    """The first pair of folders that is there; else one of all of them, for the message."""
    layouts = [Layout(TITLE, pair, _NAMES, f"{pair[0]}/0001/0001_00_00_01_12.jpg") for pair in _PAIRS]
    every = Layout(TITLE, tuple(_CLASSES), _NAMES, "ClientRaw/0001/0001_00_00_01_12.jpg")
    return next((layout for layout in layouts if layout.roots(source)), every)

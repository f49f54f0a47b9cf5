"""NUAA photograph imposter database: printed photographs held before a webcam.

X. Tan, Y. Li, J. Liu, L. Jiang: "Face Liveness Detection from a Single Image with Sparse Low Rank Bilinear
Discriminative Model", ECCV 2010. A file is called PERSON_GLASSES_PLACE_SESSION_FRAME; the attack pictures of a
person are of the same persons, so persons must not cross splits. Checked against a part of a real copy
(persons 1 to 8, every fourth frame, in bonafide/PERSON and attack/PERSON).
"""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.data.importers.source import SourceFace, pictures_in
from pipelines.data.records import ATTACK, BONAFIDE, NO_ATTACK
from pipelines.errors import AgfasError

_NAME = re.compile(r"(?P<person>\d{4})_(?P<glasses>\d{2})_(?P<place>\d{2})_(?P<session>\d{2})_(?P<frame>\d+)")


def find(source: Path, domain: str) -> list[SourceFace]:
    """Faces of `bonafide/` and `attack/`; a video is what the name calls person, glasses, place and session.

    Raises:
        AgfasError: a folder is missing, or a file is not called as in NUAA.
    """
    faces = []
    for name, label, kind in (("bonafide", BONAFIDE, NO_ATTACK), ("attack", ATTACK, "print")):
        for path in pictures_in(source / name):
            match = _NAME.fullmatch(path.stem)
            if match is None:
                raise AgfasError(
                    f"{path} is not called as in NUAA (PERSON_GLASSES_PLACE_SESSION_FRAME, as 0001_00_00_01_12.jpg)."
                )
            video = f"{name}-{path.stem.rpartition('_')[0]}"
            faces.append(SourceFace(path, label, kind, domain, match["person"], video, int(match["frame"])))
    return faces

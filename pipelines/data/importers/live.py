"""A folder of live faces without identities, such as All-Age-Faces: every picture its own subject.

    SOURCE/[ANYTHING/]FILE

Our own layout. For UTKFace, whose names say age, sex and ethnicity, see `utkface`.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.data.importers.expected import Expected
from pipelines.data.importers.source import SourceFace, media_in, names_below
from pipelines.data.records import BONAFIDE, NO_ATTACK

TITLE = "a folder of live faces"
CITATION = ""
LICENCE = "That of the pictures."
VERIFIED = "Our own layout; used on real pictures."
EXPECTED: tuple[Expected, ...] = ()


def find(source: Path, domain: str) -> list[SourceFace]:
    """One subject and one video per file.

    Raises:
        AgfasError: no such folder, or neither a picture nor a video in it.
    """
    paths = media_in(source, expected="pictures or videos of live faces, in folders of any names")
    return [
        SourceFace(path, BONAFIDE, NO_ATTACK, domain, name, name, 0, subject_known=False)
        for path, name in zip(paths, names_below(source, paths), strict=True)
    ]

"""`bonafide/` and `attack/` folders, optionally with one folder per subject below them.

SOURCE/bonafide/[SUBJECT/]PICTURE
SOURCE/attack/[SUBJECT/]PICTURE
"""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.data.importers.source import SourceFace, pictures_in
from pipelines.data.records import ATTACK, BONAFIDE, NO_ATTACK
from pipelines.errors import AgfasError

_CLASSES = {"bonafide": BONAFIDE, "attack": ATTACK}
# Where no subject is known, runs of neighbouring files are held together, since they may be frames of one video.
_RUN = 40


def find(source: Path, domain: str) -> list[SourceFace]:
    """Subjects are the folders below the classes; without them, runs of 40 neighbouring files are kept together.

    Raises:
        AgfasError: one of the two folders is missing or holds no picture.
    """
    faces = []
    for name, label in _CLASSES.items():
        if not (source / name).is_dir():
            raise AgfasError(f"{source} needs the folders bonafide/ and attack/; {name}/ is missing.")
        for place, path in enumerate(sorted(pictures_in(source / name), key=_natural)):
            below = path.relative_to(source / name).parts[:-1]
            subject = below[0] if below else f"{name}-run-{place // _RUN:04d}"
            kind = NO_ATTACK if label == BONAFIDE else "attack"
            video = f"{name}-{'-'.join(below)}" if below else subject
            faces.append(SourceFace(path, label, kind, domain, subject, video, place))
    return faces


def _natural(path: Path) -> list[tuple[int, str]]:
    """Names with numbers in them in the order of the numbers: 9 before 10."""
    parts = re.findall(r"\d+|\D+", str(path))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]

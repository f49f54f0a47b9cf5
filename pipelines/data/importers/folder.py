"""`bonafide/` and `attack/` folders of pictures and videos, optionally with one folder per subject below them.

    SOURCE/bonafide/[SUBJECT/]FILE
    SOURCE/attack/[SUBJECT/]FILE

Our own layout, for anyone's files. Where an attack lies in a subject's folder, the subject is whom it shows.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.data.importers.attack_types import UNKNOWN
from pipelines.data.importers.expected import Expected
from pipelines.data.importers.source import VIDEO_SUFFIXES, SourceFace, media_in, names_below
from pipelines.data.records import ATTACK, BONAFIDE, NO_ATTACK
from pipelines.errors import AgfasError

TITLE = "your own pictures and videos"
CITATION = ""
LICENCE = "Yours; ask the people whom they show."
VERIFIED = "Our own layout; used on real pictures."
EXPECTED: tuple[Expected, ...] = ()

_CLASSES = {"bonafide": BONAFIDE, "attack": ATTACK}
# Where no subject is known, runs of neighbouring files are held together, since they may be frames of one video.
_RUN = 40


def find(source: Path, domain: str) -> list[SourceFace]:
    """Subjects are the folders below the classes. Without them, runs of 40 neighbouring pictures are kept together and
    a video stands for itself, and `subject_known` says that no person is known.

    Raises:
        AgfasError: one of the two folders is missing or holds neither a picture nor a video.
    """
    faces = []
    for name, label in _CLASSES.items():
        if not (source / name).is_dir():
            raise AgfasError(f"{source} needs the folders bonafide/ and attack/; {name}/ is missing.")
        paths = sorted(media_in(source / name), key=_natural)
        kind = NO_ATTACK if label == BONAFIDE else UNKNOWN
        for place, (path, own) in enumerate(zip(paths, names_below(source / name, paths), strict=True)):
            below = path.relative_to(source / name).parts[:-1]
            known = bool(below)
            if path.suffix.lower() in VIDEO_SUFFIXES:
                video, frame = f"{name}-{own}", 0
            else:
                run = f"{name}-run-{place // _RUN:04d}"
                video, frame = f"{name}-{'-'.join(below)}" if known else run, place
            subject = below[0] if known else video
            faces.append(SourceFace(path, label, kind, domain, subject, video, frame, subject_known=known))
    return faces


def _natural(path: Path) -> list[tuple[int, str]]:
    """Names with numbers in them in the order of the numbers: 9 before 10."""
    parts = re.findall(r"\d+|\D+", str(path))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]

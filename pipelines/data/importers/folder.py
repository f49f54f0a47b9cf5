"""Your own pictures and videos: in folders `bonafide` and `attack` (importer `folder`), or live faces only (`live`).

    SOURCE/bonafide/[SUBJECT/]FILE        folder
    SOURCE/attack/[SUBJECT/]FILE
    SOURCE/[ANYTHING/]FILE                live, such as All-Age-Faces

Our own layout. An attack in the folder of a subject shows that subject. For UTKFace, whose file names say age, sex and
ethnicity, use `utkface`.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.data.importers.source import VIDEO_SUFFIXES, SourceFace, media_in, names_below
from pipelines.data.importers.words import UNKNOWN
from pipelines.data.records import NO_ATTACK
from pipelines.errors import AgfasError

TITLE = "your own pictures and videos"
CITATION = ""
LICENCE = "That of the pictures; ask the people in them."
VERIFIED = "Our own layout; used on real pictures."

# Without subjects, runs of this many neighbouring pictures stay together: they may be frames of one video.
_RUN = 40


def find(source: Path, domain: str) -> list[SourceFace]:
    """Subjects are the folders below the classes. Without such folders a video, or a run of pictures, is a subject.

    Raises:
        AgfasError: one of the two folders is missing or holds neither a picture nor a video.
    """
    faces = []
    for name, kind in (("bonafide", NO_ATTACK), ("attack", UNKNOWN)):
        if not (source / name).is_dir():
            raise AgfasError(f"{source} needs the folders bonafide/ and attack/; {name}/ is missing.")
        paths = sorted(media_in(source / name), key=_natural)
        for place, (path, own) in enumerate(zip(paths, names_below(source / name, paths), strict=True)):
            below = path.relative_to(source / name).parts[:-1]
            known = bool(below)
            if path.suffix.lower() in VIDEO_SUFFIXES:
                video, frame = f"{name}-{own}", 0
            else:
                run = f"{name}-run-{place // _RUN:04d}"
                video, frame = f"{name}-{'-'.join(below)}" if known else run, place
            subject = below[0] if known else video
            faces.append(SourceFace(path, domain, kind, subject, video, frame, subject_known=known))
    return faces


def find_live(source: Path, domain: str) -> list[SourceFace]:
    """Live faces without identities: every picture or video is its own subject.

    Raises:
        AgfasError: no such folder, or neither a picture nor a video in it.
    """
    paths = media_in(source, expected="pictures or videos of live faces, in folders of any names")
    return [
        SourceFace(path, domain, NO_ATTACK, name, name, subject_known=False)
        for path, name in zip(paths, names_below(source, paths), strict=True)
    ]


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts names by the numbers in them: 9 before 10."""
    parts = re.findall(r"\d+|\D+", str(path))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]

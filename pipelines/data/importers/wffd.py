"""Wax Figure Face Database: pictures of wax figures and of the people they show.

    Protocol1/{Train,Dev,Test}, Protocol2/..., Protocol3/...        Protocol3 is the first two together

Folders after the database's README (shanface33/Wax_Figure_Face_DB). It says that real and wax are marked in every
subset, but not how: a folder or a part of the name that is `real` or `wax` is accepted. If Protocol3 exists, only it is
read, since it repeats the others. No number is expected: the README counts pairs, and not the files of a pair.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from pipelines.data.importers.layout import Layout
from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import WAX
from pipelines.data.records import NO_ATTACK

TITLE = "WFFD"
CITATION = (
    "S. Jia, C. Hu, G. Guo, Z. Xu: A Database for Face Presentation Attack Using Wax Figure Faces. ICIAP Workshops"
    " 2019."
)
LICENCE = "For academic, noncommercial research."
VERIFIED = "Not checked against a real copy; the marks of real and wax in it are a guess."

_LAYOUT = Layout(
    TITLE,
    ("Protocol3", "Protocol1", "Protocol2"),
    r"(?i)(?P<protocol>Protocol\d)/(?:.*/)?(?P<split>train|dev|test)/(?P<rest>.+)\.\w+",
    "Protocol3/Train/real/0001.jpg",
)
_MARK = re.compile(r"(?<![a-z])(real|wax)(?![a-z])", re.IGNORECASE)


def find(source: Path, domain: str) -> list[SourceFace]:
    """Every picture is a video.

    Raises:
        AgfasError: besides the errors of every importer, pictures marked neither real nor wax, or both.
    """
    root = _LAYOUT.root(source)
    both, *single = _LAYOUT.folders
    layout = replace(_LAYOUT, folders=(both,) if (root / both).is_dir() else tuple(single))
    matches = layout.match(root)
    strange = [path for path, match in matches if len({m.lower() for m in _MARK.findall(match["rest"])}) != 1]
    if strange:
        raise layout.not_so_called(strange)
    return [_face(path, match, domain) for path, match in matches]


def _face(path: Path, match: re.Match[str], domain: str) -> SourceFace:
    mark = _MARK.findall(match["rest"])[0].lower()
    # No identities are given. The name without its mark is the subject, so that a pair stays in one split.
    pair = "-".join(part for part in re.split(r"[/_\- ]+", _MARK.sub("", match["rest"])) if part)
    split = match["split"].lower()
    subject = f"{match['protocol'].lower()}-{split}-{pair}"
    kind = NO_ATTACK if mark == "real" else WAX
    return SourceFace(path, domain, kind, subject, f"{mark}-{subject}", split=split, subject_known=False)

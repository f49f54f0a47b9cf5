"""Wax Figure Face Database: pictures of wax figures and of the people whom they show.

    Protocol1/{Train,Dev,Test}, Protocol2/..., Protocol3/...        Protocol3 is the first two together

Folders after the database's README (shanface33/Wax_Figure_Face_DB), which says that real and wax are marked in every
subset and not how: a folder or a part of the name that is `real` or `wax` is accepted. Where Protocol3 is there, it
alone is read, since it repeats the others. No number is expected, since the README counts pairs and does not say how
many files a pair has.

No identities are given. A picture's name without `real` and `wax` stands for its subject, so that the two of a pair
stay on one side.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from pipelines.data.importers.attack_types import WAX
from pipelines.data.importers.expected import Expected
from pipelines.data.importers.layout import Layout
from pipelines.data.importers.source import SourceFace
from pipelines.data.records import ATTACK, BONAFIDE, NO_ATTACK

TITLE = "WFFD"
CITATION = (
    "S. Jia, C. Hu, G. Guo, Z. Xu: A Database for Face Presentation Attack Using Wax Figure Faces. ICIAP Workshops"
    " 2019."
)
LICENCE = "For academic, noncommercial research."
VERIFIED = "Not checked against a real copy; the marks of real and wax in it are a guess."
EXPECTED: tuple[Expected, ...] = ()

_LAYOUT = Layout(
    TITLE,
    ("Protocol3",),
    re.compile(r"(?P<protocol>Protocol\d)/(?:.*/)?(?P<split>train|dev|test)/(?P<rest>.+)\.\w+", re.IGNORECASE),
    "Protocol3/Train/real/0001.jpg",
)
_PAIR = replace(_LAYOUT, folders=("Protocol1", "Protocol2"))
_MARK = re.compile(r"(?<![a-z])(real|wax)(?![a-z])", re.IGNORECASE)


def find(source: Path, domain: str) -> list[SourceFace]:
    """Every picture is a video of its own.

    Raises:
        AgfasError: another layout, or pictures that are marked neither real nor wax, or both.
    """
    root = replace(_LAYOUT, folders=(*_LAYOUT.folders, *_PAIR.folders)).root(source)
    layout = _LAYOUT if (root / _LAYOUT.folders[0]).is_dir() else _PAIR
    matches = layout.match(root)
    strange = [path for path, match in matches if len({m.lower() for m in _MARK.findall(match["rest"])}) != 1]
    if strange:
        raise layout.not_so_called(strange)
    return [_face(path, match, domain) for path, match in matches]


def _face(path: Path, match: re.Match[str], domain: str) -> SourceFace:
    mark = _MARK.findall(match["rest"])[0].lower()
    label, kind = (BONAFIDE, NO_ATTACK) if mark == "real" else (ATTACK, WAX)
    place = f"{match['protocol']}-{match['split']}".lower()
    pair = "-".join(part for part in re.split(r"[/_\- ]+", _MARK.sub("", match["rest"])) if part)
    subject = f"{place}-{pair}"
    split = match["split"].lower()
    return SourceFace(path, label, kind, domain, subject, f"{mark}-{subject}", 0, split, subject_known=False)

"""HKBU 3D Mask Attack with Real World Variations: resin masks under changing light.

    real/01/SENSOR_LIGHT_....avi, attack/01/...        version 2: a folder per person
    01_03_02.mp4                                       versions 1 and 1+: person_session_shot; session 3 is the mask

Layouts after published readers: Gradiant's `bob.gradiant.face.databases` (version 1) and the preprocessing of
adamhtoolwin/meta-fas (version 2). No official split; persons are dealt out. No number is expected, since the versions
differ (the paper on version 2 has 1,008 videos of 12 persons, half of them masks). Version 2's sensors 04 to 06 are
stored sideways without saying so.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.data.importers.attack_types import MASK
from pipelines.data.importers.expected import Expected
from pipelines.data.importers.layout import Layout
from pipelines.data.importers.source import SourceFace
from pipelines.data.records import ATTACK, BONAFIDE, NO_ATTACK

TITLE = "HKBU-MARs"
CITATION = (
    "S. Liu, B. Yang, P. C. Yuen, G. Zhao: A 3D Mask Face Anti-spoofing Database with Real World Variations. CVPR"
    " Workshops 2016."
)
LICENCE = "For research, under the agreement of Hong Kong Baptist University."
VERIFIED = "Not checked against a real copy; names are those of two published readers."
EXPECTED: tuple[Expected, ...] = ()

_MASK_SESSION = 3
_SECOND = Layout(
    TITLE,
    ("real", "attack"),
    re.compile(r"(?P<class>real|attack)/(?P<person>\d+)/(?P<name>\d+_\d+\w*)\.\w+"),
    "real/01/01_01_1.avi",
)
_FIRST = Layout(
    TITLE,
    (),
    re.compile(r"(?:.*/)?(?P<video>(?P<person>\d+)_(?P<session>\d+)_\d+)\.\w+"),
    "real/01/01_01_1.avi (version 2) or 01_03_02.mp4 (version 1)",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """One face per video; the subject of an attack is the person whose mask it is.

    Raises:
        AgfasError: neither version's layout.
    """
    if _SECOND.roots(source):
        return [_second(path, match, domain) for path, match in _SECOND.files(source)]
    return [_first(path, match, domain) for path, match in _FIRST.files(source)]


def _first(path: Path, match: re.Match[str], domain: str) -> SourceFace:
    mask = int(match["session"]) == _MASK_SESSION
    label, kind = (ATTACK, MASK) if mask else (BONAFIDE, NO_ATTACK)
    return SourceFace(path, label, kind, domain, f"{int(match['person']):02d}", match["video"], 0)


def _second(path: Path, match: re.Match[str], domain: str) -> SourceFace:
    label, kind = (ATTACK, MASK) if match["class"] == "attack" else (BONAFIDE, NO_ATTACK)
    person = f"{int(match['person']):02d}"
    return SourceFace(path, label, kind, domain, person, f"{match['class']}-{person}-{match['name']}", 0)

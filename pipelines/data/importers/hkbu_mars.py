"""HKBU 3D Mask Attack with Real World Variations: resin masks under changing light.

    real/01/SENSOR_LIGHT_....avi, attack/01/...        version 2: a folder per person
    01_03_02.mp4                                       versions 1 and 1+: person_session_shot; session 3 is the mask

Layouts after published readers: Gradiant's `bob.gradiant.face.databases` (version 1) and the preprocessing of
adamhtoolwin/meta-fas (version 2). There are no official splits; persons are dealt out. No number is expected, since the
versions differ (the paper on version 2 has 1,008 videos of 12 persons, half of them masks). Sensors 04 to 06 of
version 2 are stored sideways without a rotation tag.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.data.importers.layout import Layout
from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import MASK
from pipelines.data.records import NO_ATTACK

TITLE = "HKBU-MARs"
CITATION = (
    "S. Liu, B. Yang, P. C. Yuen, G. Zhao: A 3D Mask Face Anti-spoofing Database with Real World Variations. CVPR"
    " Workshops 2016."
)
LICENCE = "For research, under the agreement of Hong Kong Baptist University."
VERIFIED = "Not checked against a real copy; names follow two published readers."

_SECOND = Layout(
    TITLE,
    ("real", "attack"),
    r"(?P<class>real|attack)/(?P<person>\d+)/(?P<name>\d+_\d+\w*)\.\w+",
    "real/01/01_01_1.avi",
)
_FIRST = Layout(
    TITLE,
    (),
    r"(?:.*/)?(?P<video>(?P<person>\d+)_(?P<session>\d+)_\d+)\.\w+",
    "real/01/01_01_1.avi (version 2) or 01_03_02.mp4 (version 1)",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """One face per video; the subject of an attack is the person whose mask it is."""
    faces = []
    second = bool(_SECOND.roots(source))
    for path, match in (_SECOND if second else _FIRST).files(source):
        person = f"{int(match['person']):02d}"
        masked = match["class"] == "attack" if second else int(match["session"]) == 3
        video = f"{match['class']}-{person}-{match['name']}" if second else match["video"]
        faces.append(SourceFace(path, domain, MASK if masked else NO_ATTACK, person, video))
    return faces

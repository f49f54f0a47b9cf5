"""ROSE-Youtu: prints, replays and paper masks before five phones and tablets.

    2/G_NT_5s_wg_E_2_1.mp4        label_speaking_device_glasses_background_person_number, in a folder per person

Layout after the database's page and Gradiant's interface `bob.gradiant.face.databases`: labels G genuine, Ps and Pq
still and quivering prints, Vl and Vm replays on two displays, Mc a paper mask with eyes and mouth cut out, Mf one
without holes, Mu and Ml one of which the upper or lower part is cut away. Where the person folders lie in `train` and
`test` folders, those are the splits; otherwise the splits stay empty and are dealt out by person. The page speaks of
3,350 videos of 20 persons, published readers of real copies count 3,497, so no number is expected here. The videos of
several devices are stored sideways or upside down without saying so.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.data.importers.attack_types import CUT, PAPER_MASK, PARTIAL, PRINT, REPLAY
from pipelines.data.importers.expected import Expected
from pipelines.data.importers.layout import Layout
from pipelines.data.importers.source import SourceFace
from pipelines.data.records import ATTACK, BONAFIDE, NO_ATTACK

TITLE = "ROSE-Youtu"
CITATION = (
    "H. Li, W. Li, H. Cao, S. Wang, F. Huang, A. C. Kot: Unsupervised Domain Adaptation for Face Anti-Spoofing. IEEE"
    " Transactions on Information Forensics and Security 13(7), 2018."
)
LICENCE = "For research, under the release agreement of the ROSE Lab, Nanyang Technological University."
VERIFIED = "Not checked against a real copy; names are those of published readers."
EXPECTED: tuple[Expected, ...] = ()

_KINDS = {
    "G": NO_ATTACK,
    "Ps": PRINT,
    "Pq": PRINT,
    "Vl": REPLAY,
    "Vm": REPLAY,
    "Mc": CUT,
    "Mf": PAPER_MASK,
    "Mu": PARTIAL,
    "Ml": PARTIAL,
}
_LAYOUT = Layout(
    TITLE,
    (),
    re.compile(
        r"(?:.*?/)??(?:(?P<split>train|test)/)?(?:_?\d+/)?"
        r"(?P<video>(?P<kind>G|P[sq]|V[lm]|M[cful])_N?T_[^_/]+_w?g_[^_/]+_(?P<person>\d+)_\d+)\.\w+"
    ),
    "2/G_NT_5s_wg_E_2_1.mp4",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """One face per video; the subject of an attack is the person whom it shows.

    Raises:
        AgfasError: another layout.
    """
    faces = []
    for path, match in _LAYOUT.files(source):
        kind = _KINDS[match["kind"]]
        label = BONAFIDE if kind == NO_ATTACK else ATTACK
        split = match["split"] or ""
        faces.append(SourceFace(path, label, kind, domain, match["person"], match["video"], 0, split))
    return faces

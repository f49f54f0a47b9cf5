"""ROSE-Youtu: prints, replays and paper masks before five phones and tablets.

    2/G_NT_5s_wg_E_2_1.mp4        label_speaking_device_glasses_background_person_number, in a folder per person

Layout after the database's page and Gradiant's interface `bob.gradiant.face.databases`: labels G genuine, Ps and Pq
still and quivering prints, Vl and Vm replays on two displays, Mc a paper mask with eyes and mouth cut out, Mf one
without holes, Mu and Ml one without its upper or lower part. If the person folders are in folders `train` and `test`,
those are the splits; otherwise the splits stay empty and persons are dealt out. No number is expected: the page speaks
of 3,350 videos of 20 persons, published readers of real copies count 3,497. Videos of several devices are stored
sideways or upside down without a rotation tag.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.data.importers.layout import Layout
from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import CUT, PAPER_MASK, PARTIAL, PRINT, REPLAY
from pipelines.data.records import NO_ATTACK

TITLE = "ROSE-Youtu"
CITATION = (
    "H. Li, W. Li, H. Cao, S. Wang, F. Huang, A. C. Kot: Unsupervised Domain Adaptation for Face Anti-Spoofing. IEEE"
    " Transactions on Information Forensics and Security 13(7), 2018."
)
LICENCE = "For research, under the release agreement of the ROSE Lab, Nanyang Technological University."
VERIFIED = "Not checked against a real copy; names follow published readers."

_TYPES = {
    "G": NO_ATTACK,
    **dict.fromkeys(("Ps", "Pq"), PRINT),
    **dict.fromkeys(("Vl", "Vm"), REPLAY),
    "Mc": CUT,
    "Mf": PAPER_MASK,
    **dict.fromkeys(("Mu", "Ml"), PARTIAL),
}
_LAYOUT = Layout(
    TITLE,
    (),
    r"(?:.*?/)??(?:(?P<split>train|test)/)?(?:_?\d+/)?"
    r"(?P<video>(?P<label>G|P[sq]|V[lm]|M[cful])_N?T_[^_/]+_w?g_[^_/]+_(?P<person>\d+)_\d+)\.\w+",
    "2/G_NT_5s_wg_E_2_1.mp4",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """One face per video; the subject of an attack is the person it shows."""
    return [
        SourceFace(path, domain, _TYPES[match["label"]], match["person"], match["video"], split=match["split"] or "")
        for path, match in _LAYOUT.files(source)
    ]

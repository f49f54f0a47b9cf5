"""Custom Silicone Mask Attack Dataset: masks of six of 14 persons, worn and on a stand.

    bonafide/A/A_gen_i0_061.h5            person_gen_illumination_number; `genglasses` with glasses
    attack/WEAR/A/E_atk_A1_i0_001.h5      wearer_atk_target-mask_illumination_number
    attack/STAND/A/Mask_atk_A1_i0_001.h5

Layout after the dataset's page at Idiap, Gradiant's `bob.gradiant.face.databases` and published readers; counts after
the paper (87 genuine presentations, 108 worn masks and 51 on a stand). The files are HDF5; `Layout.colour_stream` says
how to export them. Photographs directly in the folders of `bonafide` are the models of the masks, not samples. The
paper has no splits for attack detection; persons are dealt out.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.data.importers.layout import EXPORTED, Layout, expected
from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import FLEXIBLE_MASK
from pipelines.data.records import NO_ATTACK

TITLE = "CSMAD"
CITATION = (
    "S. Bhattacharjee, A. Mohammadi, S. Marcel: Spoofing Deep Face Recognition with Custom Silicone Masks. BTAS 2018."
)
LICENCE = "For research, under Idiap's end user licence agreement."
VERIFIED = "Not checked against a real copy; names follow published readers."
EXPECTED = expected(87, 159)

_LAYOUT = Layout(
    TITLE,
    ("bonafide", "attack"),
    r"(?:bonafide/(?:.*/)?(?P<real>(?P<person>[A-Z])_gen(?:glasses)?_i\d+_\d+)|"
    r"attack/(?P<pose>WEAR|STAND)/(?:.*/)?(?P<attack>(?:[A-Z]|Mask)_atk_(?P<target>[A-Z])\d+_i\d+_\d+))" + EXPORTED,
    "bonafide/A/A_gen_i0_061.mp4",
    extras=r"(?i)bonafide/(?:[A-Z]/)?[^/]+\.(?:jpe?g|png)",
    colour_stream="the group `data/sr300/color`, one height x width x 3 RGB array per frame",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """One face per exported video or frame; the subject of an attack is the person whose face the mask has."""
    faces = []
    for path, match in _LAYOUT.files(source):
        kind = NO_ATTACK if match["real"] else FLEXIBLE_MASK
        video = match["real"] or f"{match['pose']}-{match['attack']}"
        subject = match["person"] or match["target"]
        faces.append(SourceFace(path, domain, kind, subject, video, int(match["frame"] or 0)))
    return faces

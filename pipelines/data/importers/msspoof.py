"""Multispectral-Spoof: visible and near-infrared pictures and their prints, retaken in either spectrum.

    real/{VS,IR}/{train,dev,test}/CLIENT_SPECTRUM_..._CONDITION_....EXT
    real/{VS,IR}/enroll/{train,dev,test}/...          pictures for face recognition, no samples of the attack protocols
    attack/{VS,IR}/{VS,IR}/{train,dev,test}/CLIENT_PRINT_vs_ir_CONDITION_....EXT

Layout, sets and counts after Idiap's interface `bob.db.multispectral_spoof`: an attack was taken in the first
spectrum, printed, and retaken in the second. All spectra are read; the spectrum is part of the video's name.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.data.importers.attack_types import PRINT
from pipelines.data.importers.expected import Expected
from pipelines.data.importers.layout import Layout
from pipelines.data.importers.source import SUFFIXES, SourceFace
from pipelines.data.records import ATTACK, BONAFIDE, NO_ATTACK

TITLE = "MSSpoof"
CITATION = (
    "I. Chingovska, N. Erdogmus, A. Anjos, S. Marcel: Face Recognition Systems Under Spoofing Attacks. In: Face"
    " Recognition Across the Imaging Spectrum, Springer 2016."
)
LICENCE = "For research, under Idiap's end user licence agreement."
VERIFIED = "Not checked against a real copy; folders and counts are those of Idiap's published interface."
EXPECTED = (Expected(BONAFIDE, 1253, what="pictures"), Expected(ATTACK, 3010, what="pictures"))

_LAYOUT = Layout(
    TITLE,
    ("real", "attack"),
    re.compile(
        r"(?:(?P<class>real)/(?P<spectrum>VS|IR)|attack/(?P<taken>VS|IR)/(?P<retaken>VS|IR))/"
        r"(?P<split>train|dev|test)/(?:.*/)?(?P<name>(?P<client>\d+)_\d+_[^/]+)\.\w+",
        re.IGNORECASE,
    ),
    "attack/VS/IR/train/02_1_vs_ir_3_1.pgm",
    extras=re.compile(r"real/(?:VS|IR)/enroll/.*", re.IGNORECASE),
    suffixes=(*SUFFIXES, ".pgm"),
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """Every picture is a video of its own; the subject of an attack is the client whom the print shows.

    Raises:
        AgfasError: another layout.
    """
    faces = []
    for path, match in _LAYOUT.files(source):
        client = f"{int(match['client']):02d}"
        split = match["split"].lower()
        if match["class"]:
            video = f"{match['spectrum']}-{match['name']}".lower()
            faces.append(SourceFace(path, BONAFIDE, NO_ATTACK, domain, client, f"real-{video}", 0, split))
        else:
            video = f"{match['taken']}-{match['retaken']}-{match['name']}".lower()
            faces.append(SourceFace(path, ATTACK, PRINT, domain, client, f"attack-{video}", 0, split))
    return faces

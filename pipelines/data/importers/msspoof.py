"""Multispectral-Spoof: visible and near-infrared pictures and their prints, retaken in either spectrum.

    real/{VS,IR}/{train,dev,test}/CLIENT_SPECTRUM_..._CONDITION_....EXT
    real/{VS,IR}/enroll/{train,dev,test}/...          pictures for face recognition, not samples of the attack protocols
    attack/{VS,IR}/{VS,IR}/{train,dev,test}/CLIENT_PRINT_vs_ir_CONDITION_....EXT

Layout, splits and counts after Idiap's interface `bob.db.multispectral_spoof`: an attack was taken in the first
spectrum, printed, and retaken in the second. All spectra are read; the spectrum is part of the video's name.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.data.importers.layout import Layout, expected
from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import PRINT
from pipelines.data.records import NO_ATTACK

TITLE = "MSSpoof"
CITATION = (
    "I. Chingovska, N. Erdogmus, A. Anjos, S. Marcel: Face Recognition Systems Under Spoofing Attacks. In: Face"
    " Recognition Across the Imaging Spectrum, Springer 2016."
)
LICENCE = "For research, under Idiap's end user licence agreement."
VERIFIED = "Not checked against a real copy; folders and counts follow Idiap's published interface."
EXPECTED = expected(1253, 3010, what="pictures")

_LAYOUT = Layout(
    TITLE,
    ("real", "attack"),
    r"(?i)(?:(?P<real>real)/(?P<spectrum>VS|IR)|attack/(?P<taken>VS|IR)/(?P<retaken>VS|IR))/"
    r"(?P<split>train|dev|test)/(?:.*/)?(?P<name>(?P<client>\d+)_\d+_[^/]+)\.\w+",
    "attack/VS/IR/train/02_1_vs_ir_3_1.pgm",
    extras=r"(?i)real/(?:VS|IR)/enroll/.*",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """Every picture is a video; the subject of an attack is the client on the print."""
    faces = []
    for path, match in _LAYOUT.files(source):
        kind = NO_ATTACK if match["real"] else PRINT
        place = f"real-{match['spectrum']}" if match["real"] else f"attack-{match['taken']}-{match['retaken']}"
        video = f"{place}-{match['name']}".lower()
        subject = f"{int(match['client']):02d}"
        faces.append(SourceFace(path, domain, kind, subject, video, split=match["split"].lower()))
    return faces

"""Flickr-Faces-HQ: 70,000 aligned live faces without identities.

    images1024x1024/00000/00000.png        also thumbnails128x128/...; number of the thousand, number of the picture
    ffhq-dataset-v2.json

Layout after the dataset's README (NVlabs/ffhq-dataset), which assigns the first 60,000 pictures to training and the
others to validation. The large pictures are read if they exist, else the thumbnails, which show the same faces; a
folder of the pictures alone, under any name, works too. `in-the-wild-images` is not read: it holds whole photographs,
some of them several times.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipelines.data.importers.layout import Expected, Layout
from pipelines.data.importers.source import SourceFace
from pipelines.data.records import BONAFIDE, NO_ATTACK

TITLE = "FFHQ"
CITATION = (
    "T. Karras, S. Laine, T. Aila: A Style-Based Generator Architecture for Generative Adversarial Networks. CVPR 2019."
)
LICENCE = "Each picture under its author's Creative Commons or public domain terms; the dataset CC BY-NC-SA 4.0."
VERIFIED = "Not checked against a real copy; names follow the README."
EXPECTED = (Expected(BONAFIDE, 60_000, ("train",)), Expected(BONAFIDE, 10_000, ("dev",)))

_FOLDERS = ("images1024x1024", "thumbnails128x128")
_LAYOUT = Layout(
    TITLE,
    (),
    r"(?!in-the-wild-images/)(?:.*/)?(?P<number>\d{5})\.\w+",
    "images1024x1024/00000/00000.png",
    extras=r"in-the-wild-images/.*",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """Every picture is its own subject, since no identities are given."""
    layouts = [replace(_LAYOUT, folders=(name,)) for name in _FOLDERS]
    layout = next((layout for layout in layouts if layout.roots(source)), _LAYOUT)
    faces = []
    for path, match in layout.files(source):
        number, split = match["number"], "train" if int(match["number"]) < 60_000 else "dev"
        faces.append(SourceFace(path, domain, NO_ATTACK, number, number, split=split, subject_known=False))
    return faces

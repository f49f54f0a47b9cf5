"""Flickr-Faces-HQ: 70,000 aligned live faces without identities.

    images1024x1024/00000/00000.png        also thumbnails128x128/...; number of the thousand, number of the picture
    ffhq-dataset-v2.json

Layout after the dataset's README (NVlabs/ffhq-dataset), which appoints the first 60,000 pictures to training and the
others to validation. The large pictures are read where they are there, else the thumbnails, which are the same faces;
`in-the-wild-images` is not read, since it holds whole photographs, some of them several times. A folder of the pictures
alone, under any name, is read too.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from pipelines.data.importers.expected import Expected
from pipelines.data.importers.layout import Layout
from pipelines.data.importers.source import SourceFace
from pipelines.data.records import BONAFIDE, NO_ATTACK

TITLE = "FFHQ"
CITATION = (
    "T. Karras, S. Laine, T. Aila: A Style-Based Generator Architecture for Generative Adversarial Networks. CVPR 2019."
)
LICENCE = "Each picture under its author's Creative Commons or public domain terms; the dataset CC BY-NC-SA 4.0."
VERIFIED = "Not checked against a real copy; names are those of the README."
EXPECTED = (Expected(BONAFIDE, 60_000, ("train",)), Expected(BONAFIDE, 10_000, ("dev",)))

_TRAINING = 60_000
_LAYOUT = Layout(
    TITLE,
    (),
    re.compile(r"(?:.*/)?(?P<number>\d{5})\.\w+"),
    "images1024x1024/00000/00000.png",
    extras=re.compile(r"in-the-wild-images/.*"),
)
_FOLDERS = ("images1024x1024", "thumbnails128x128")


def find(source: Path, domain: str) -> list[SourceFace]:
    """Every picture is its own subject, since no identities are given.

    Raises:
        AgfasError: no such folder, or pictures that are not called by five digits.
    """
    roots = [replace(_LAYOUT, folders=(name,)) for name in _FOLDERS]
    layout = next((layout for layout in roots if layout.roots(source)), _LAYOUT)
    return [_face(path, match["number"], domain) for path, match in layout.files(source)]


def _face(path: Path, number: str, domain: str) -> SourceFace:
    split = "train" if int(number) < _TRAINING else "dev"
    return SourceFace(path, BONAFIDE, NO_ATTACK, domain, number, number, 0, split, subject_known=False)

"""CelebA-Spoof: 625,537 pictures of 10,177 celebrities, live from CelebA and retaken from paper, screens and masks.

    Data/{train,test}/SUBJECT/{live,spoof}/000184.png        a box beside each, 000184_BB.txt, is not read
    metas/intra_test/{train,test}_label.json                 path: 44 numbers, number 40 (from 0) is the spoof type

Layout after the dataset's README (ZhangYuanhan-AI/CelebA-Spoof) and published readers. Without the two label files, for
example if only live faces are wanted, the attack type is `attack`. There is no public development split. No number is
expected: the paper counts 156,384 live and 469,153 spoof pictures, and a part of them was never distributed.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.data.importers.layout import Layout
from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import CUT, MASK, PAPER_MASK, PARTIAL, PRINT, REPLAY, UNKNOWN
from pipelines.data.records import NO_ATTACK
from pipelines.errors import AgfasError

TITLE = "CelebA-Spoof"
CITATION = (
    "Y. Zhang, Z. Yin, Y. Li, G. Yin, J. Yan, J. Shao, Z. Liu: CelebA-Spoof: Large-Scale Face Anti-Spoofing Dataset"
    " with Rich Annotations. ECCV 2020."
)
LICENCE = "For non-commercial research and education; no redistribution."
VERIFIED = "Not checked against a real copy; names follow the README and of published readers."

# Live, photo, poster, A4; face mask, upper body mask, region mask (all of paper); PC, pad, phone; 3D mask.
_TYPES = (NO_ATTACK, PRINT, PRINT, PRINT, PAPER_MASK, CUT, PARTIAL, REPLAY, REPLAY, REPLAY, MASK)
_BY_NUMBER = dict(enumerate(_TYPES))
_SPOOF_TYPE = 40
_LAYOUT = Layout(
    TITLE,
    ("Data",),
    r"(?P<key>Data/(?P<split>train|test)/(?P<subject>\d+)/(?P<class>live|spoof)/(?P<name>[^/]+)\.\w+)",
    "Data/train/1/live/000184.png",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """Every picture is a video; subjects are the celebrities.

    Raises:
        AgfasError: besides the errors of every importer, label files that are broken or lack a picture.
    """
    root = _LAYOUT.root(source)
    types = _types(root)
    faces = []
    for path, match in _LAYOUT.match(root):
        live = match["class"] == "live"
        kind = NO_ATTACK if live else types.get(match["key"], NO_ATTACK) if types else UNKNOWN
        if not live and kind == NO_ATTACK:
            raise AgfasError(
                f"{path} is in spoof/, but metas/intra_test/{match['split']}_label.json names no spoof type for it."
                " Copy both label files of this dataset beside Data/, or remove metas/."
            )
        video = f"{match['class']}-{match['name']}"
        faces.append(SourceFace(path, domain, kind, match["subject"], video, split=match["split"]))
    return faces


def _types(root: Path) -> dict[str, str]:
    """The attack type of every spoof picture that a label file names; empty without label files."""
    types: dict[str, str] = {}
    for path in (root / "metas" / "intra_test" / f"{split}_label.json" for split in ("train", "test")):
        if path.is_file():
            try:
                labels = json.loads(path.read_text(encoding="utf-8"))
                spoof = {key: values for key, values in labels.items() if "/spoof/" in key}
                types.update({key: _BY_NUMBER[int(values[_SPOOF_TYPE])] for key, values in spoof.items()})
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise AgfasError(
                    f"{path} is not a label file of CelebA-Spoof ({error}): it needs an object of paths with 44 numbers"
                    f" each, number {_SPOOF_TYPE} from 0 to {len(_TYPES) - 1}. Copy it again."
                ) from None
    return types

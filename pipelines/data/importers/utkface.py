"""UTKFace: live faces with age, sex and ethnicity in their names and without identities.

    20_0_0_20170117134042772.jpg, 20_0_0_20170117134042772.jpg.chip.jpg        age_sex_ethnicity_time

Names after the dataset's page (susanqz.github.io/UTKFace): sex 0 male, 1 female; ethnicity 0 White, 1 Black, 2 Asian,
3 Indian, 4 others. No number is expected: the page says "over 20,000", and the aligned and the original pictures
differ in number.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.data.importers.layout import Layout
from pipelines.data.importers.source import SourceFace, names_below
from pipelines.data.records import NO_ATTACK

TITLE = "UTKFace"
CITATION = "Z. Zhang, Y. Song, H. Qi: Age Progression/Regression by Conditional Adversarial Autoencoder. CVPR 2017."
LICENCE = "For non-commercial research."
VERIFIED = "Names and fields checked against 5,000 aligned pictures of a real copy."

_SEXES = ("male", "female")
_ETHNICITIES = ("White", "Black", "Asian", "Indian", "Other")
# Five names of the distribution lack a field, so that only the age is certain.
_INCOMPLETE = (
    "39_1_20170116174525125",
    "53__0_20170116184028385",
    "61_1_20170109142408075",
    "61_1_20170109150557335",
    "61_3_20170109150557335",
)
_LAYOUT = Layout(
    TITLE,
    (),
    r"(?:.*/)?(?:(?P<age>\d{1,3})_(?P<sex>[01])_(?P<ethnicity>[0-4])_\d{8,}"
    rf"|(?:{'|'.join(_INCOMPLETE)}))(?:\.jpg\.chip)?\.\w+",
    "20_0_0_20170117134042772.jpg",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """Every picture is its own subject, since no identities are given."""
    matches = _LAYOUT.files(source)
    names = names_below(source, [path for path, _ in matches])
    return [_face(path, match, name, domain) for (path, match), name in zip(matches, names, strict=True)]


def _face(path: Path, match: re.Match[str], name: str, domain: str) -> SourceFace:
    whole = match["age"] is not None
    return SourceFace(
        path,
        domain,
        NO_ATTACK,
        subject=name,
        video=name,
        subject_known=False,
        age=int(path.name.partition("_")[0]),
        sex=_SEXES[int(match["sex"])] if whole else "",
        ethnicity=_ETHNICITIES[int(match["ethnicity"])] if whole else "",
    )

"""Which licences let a part be shared: the one table, asked by the model cards and before a push.

A licence is known by its words, as parts and datasets state them. What is not known here may not be shared until its
user says that he has read the terms: this program cannot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

PUBLISHER = "its publisher's; the configuration names none"

# Licences of published weights by a part of their name.
_KNOWN = (
    ("stable-diffusion-v1-5", "CreativeML OpenRAIL-M"),
    ("sd-vae-ft", "MIT"),
    ("madebyollin/tae", "MIT"),
    ("vit_base_patch16_224.orig_in21k", "Apache-2.0"),
    ("resnet18.tv_in1k", "BSD-3-Clause"),
    ("dinov2", "Apache-2.0"),
    ("dinov3", "DINOv3 License, of Meta"),
)


@dataclass(frozen=True)
class Licence:
    """What a licence allows.

    Attributes:
        share: `freely`; `with its terms`, which the card then carries; or `no`, unless someone who read it says so.
        hub: its identifier in the metadata of the hub; `other` if it has none.
        title: its name in full.
        link: its text, if it must be passed on.
    """

    share: Literal["freely", "with its terms", "no"]
    hub: str = "other"
    title: str = ""
    link: str = ""


OPENRAIL = Licence(
    "with its terms",
    "creativeml-openrail-m",
    "CreativeML OpenRAIL-M",
    "https://huggingface.co/spaces/CompVis/stable-diffusion-license",
)
UNKNOWN = Licence("no")

# The first whose words begin a licence decides. Words that limit the use anywhere in it come before all.
_LIMITED = re.compile(r"non-?commercial|research|redistribut|\bNC\b|by-nc", re.IGNORECASE)
_LICENCES = (
    (re.compile(r"Apache-2\.0(, within the terms of the faces it was trained on)?$"), Licence("freely", "apache-2.0")),
    (re.compile(r"MIT( \([^()]*\))?$"), Licence("freely", "mit")),
    (re.compile(r"BSD-3-Clause$"), Licence("freely", "bsd-3-clause")),
    (re.compile(r"CreativeML OpenRAIL-M$"), OPENRAIL),
    (re.compile(r"DINOv3 License, of Meta$"), Licence("no", title="DINOv3 License")),
)


def licence_of(name: str) -> str:
    """The licence of published weights, if their name is known."""
    return next((licence for known, licence in _KNOWN if known in str(name)), PUBLISHER)


def known_licence(words: str) -> Licence:
    """What the licence of these words allows; `UNKNOWN` if it is not in the table, or limits the use.

    Of several, joined by `; `, the strictest.
    """
    if _LIMITED.search(words):
        return UNKNOWN
    if "; " in words:
        return of_all(words.split("; "))
    return next((licence for pattern, licence in _LICENCES if pattern.match(words)), UNKNOWN)


def of_all(licences: list[str], own: str = "apache-2.0") -> Licence:
    """The licence of what consists of parts: the strictest of theirs; `own` where all may be shared freely."""
    known = [known_licence(words) for words in licences]
    if any(licence.share == "no" for licence in known):
        return Licence("no", title="several, see below")
    return next((licence for licence in known if licence.share != "freely"), Licence("freely", own))

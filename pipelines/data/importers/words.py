"""The words of all importers: attack types, and what labels and splits are called in lists that users bring.

Every dataset names its attack instruments in its own way (ISO/IEC 30107-3 calls them species and fixes no list). Error
rates by attack type compare between datasets only if one instrument has one name, so every importer maps its dataset's
names to these.
"""

from __future__ import annotations

import re
import unicodedata

from pipelines.data.records import NO_ATTACK

PRINT = "print"  # a photograph on paper, flat or bent
CUT = "cut"  # a photograph on paper, cut to the shape of the face or with holes for the attacker's eyes or mouth
REPLAY = "replay"  # a picture or a video on a screen
PAPER_MASK = "paper_mask"  # without holes
MASK = "mask"  # rigid and three-dimensional: resin, plaster, plastic
FLEXIBLE_MASK = "flexible_mask"  # silicone or latex
HEAD = "head"  # a mannequin's
WAX = "wax"  # a wax figure
PARTIAL = "partial"  # an artefact that covers part of the face: printed glasses, half a paper face
MAKEUP = "makeup"  # imitates another person
WIG = "wig"
UNKNOWN = "attack"  # not specified by the source
_BETWEEN = re.compile(r"[\s_-]+")
ATTACK_TYPES = (PRINT, CUT, REPLAY, PAPER_MASK, MASK, FLEXIBLE_MASK, HEAD, WAX, PARTIAL, MAKEUP, WIG, UNKNOWN)

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


def plain(word: object) -> str:
    """A word as the tables here spell it: folded case and width, single blanks in place of `_` and `-`."""
    blanks = _BETWEEN.sub(" ", unicodedata.normalize("NFKC", str(word)).casefold()).strip()
    return blanks.replace("bona fide", "bonafide")


# By what labels and class folders are called. Numbers are missing on purpose: datasets disagree on them.
MEANINGS = {
    **dict.fromkeys(("bonafide", "live", "real", "genuine", "authentic", "alive"), NO_ATTACK),
    **dict.fromkeys(("attack", "spoof", "spoofed", "spoofing", "fake", "imposter", "impostor"), UNKNOWN),
    **dict.fromkeys(("presentation attack", "pa"), UNKNOWN),
    **{plain(kind): kind for kind in ATTACK_TYPES},
    **dict.fromkeys(("printed", "printed photo"), PRINT),
    "3d mask": MASK,
}


def meaning(word: object) -> str | None:
    """The attack type that a word means, `none` for bona fide; None if it has no common meaning.

    A word may have an `s` or ` attack` behind it, or ` face`.

    Examples:
        >>> meaning("Bona_Fide"), meaning("SPOOFS"), meaning("replay attack"), meaning("1")
        ('none', 'attack', 'replay', None)
    """
    text = plain(word)
    for ending in ("", "s", " face", " faces", " attack", " attacks"):
        if text.endswith(ending) and (found := MEANINGS.get(text.removesuffix(ending))):
            return None if "attack" in ending and found == NO_ATTACK else found
    return None

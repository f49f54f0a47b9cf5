"""The words of all importers: attack types, and what labels and splits are called in lists that users bring.

Every dataset names its attack instruments in its own way (ISO/IEC 30107-3 calls them species and fixes no list). Error
rates by attack type compare between datasets only if one instrument has one name, so every importer maps its dataset's
names to these.
"""

from __future__ import annotations

from pipelines.data.records import ATTACK, BONAFIDE

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
ATTACK_TYPES = (PRINT, CUT, REPLAY, PAPER_MASK, MASK, FLEXIBLE_MASK, HEAD, WAX, PARTIAL, MAKEUP, WIG, UNKNOWN)

LABELS = {
    **dict.fromkeys(("bonafide", "live", "real", "genuine", "1"), BONAFIDE),
    **dict.fromkeys(("attack", "spoof", "fake", "0"), ATTACK),
}
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


def plain(word: object) -> str:
    """A word as the tables above spell it: lower case, no surrounding blanks, `bona fide` as `bonafide`."""
    return str(word).strip().lower().replace("bona fide", "bonafide").replace("bona-fide", "bonafide")

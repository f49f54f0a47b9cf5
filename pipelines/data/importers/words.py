"""The words of all importers: attack types, and what labels and splits are called in lists that users bring.

Every dataset names its attack instruments in its own way (ISO/IEC 30107-3 calls them species and fixes no list). Error
rates by attack type compare between datasets only if one instrument has one name, so every importer maps its dataset's
names to these.
"""

from __future__ import annotations

from pipelines.data.records import ATTACK, BONAFIDE

PRINT = "print"
CUT = "cut"
REPLAY = "replay"
PAPER_MASK = "paper_mask"
MASK = "mask"
FLEXIBLE_MASK = "flexible_mask"
HEAD = "head"
WAX = "wax"
PARTIAL = "partial"
MAKEUP = "makeup"
WIG = "wig"
UNKNOWN = "attack"

ATTACK_TYPES = {
    PRINT: "a photograph on paper, flat or bent",
    CUT: "a photograph on paper, cut to the shape of the face or with holes for the attacker's eyes or mouth",
    REPLAY: "a picture or a video on a screen",
    PAPER_MASK: "a paper mask without holes",
    MASK: "a rigid three-dimensional mask: resin, plaster, plastic",
    FLEXIBLE_MASK: "a mask of silicone or latex",
    HEAD: "a mannequin's head",
    WAX: "a wax figure",
    PARTIAL: "an artefact that covers part of the face: printed glasses, half a paper face",
    MAKEUP: "make-up that imitates another person",
    WIG: "a wig",
    UNKNOWN: "not specified by the source",
}

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

"""The words for presentation attack instruments, the same in every importer.

Datasets name their instruments each in its own way (ISO/IEC 30107-3 calls them species and fixes no list). Error rates
by attack type can be compared between datasets only where one thing has one word, so every importer maps the names of
its dataset to these.
"""

from __future__ import annotations

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
    CUT: "a photograph on paper, cut to the face's shape or with holes for the living eyes or mouth",
    REPLAY: "a picture or a video on a screen",
    PAPER_MASK: "a mask of paper, without holes that the living face is seen through",
    MASK: "a rigid three-dimensional mask: resin, plaster, plastic",
    FLEXIBLE_MASK: "a mask of silicone or latex",
    HEAD: "a mannequin's head",
    WAX: "a wax figure",
    PARTIAL: "something that covers a part of the face: printed glasses, half a paper face",
    MAKEUP: "a face that is painted to be taken for another",
    WIG: "a wig",
    UNKNOWN: "the source does not say",
}

"""What is too little for a calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipelines.errors import AgfasError

FEWEST_GROUPS = 5
"""Persons (or sessions of one person) below which a threshold is refused; docs/calibrate.md has the measured table."""
FEWEST_FACES = 100
"""Different live faces below which no head is fitted."""
ENOUGH_FACES = 500
"""Below so many a head ranks faces better than the score, but its threshold may let more attacks through."""


def check_enough(
    names: Sequence[str],
    captures: int,
    different: int,
    bpcer: float,
    *,
    head: bool,
    one_person: bool = False,
    at_most: bool = False,
) -> None:
    """Refuse what is too little.

    Args:
        names: of the persons, or of the sessions of one person.
        captures: number of pictures and videos.
        different: number of different faces.
        bpcer: share of captures that the threshold is to reject.
        head: whether a head is fitted too.
        one_person: whether the names are sessions.
        at_most: whether no picture was opened yet: then there are at most so many.

    Raises:
        AgfasError: too few persons, faces or captures, and what to do.
    """
    check_share(bpcer)
    what, bound = "sessions of the person" if one_person else "persons", "at most " if at_most else ""
    if len(names) < FEWEST_GROUPS:
        raise AgfasError(
            f"The live pictures are of {len(names)} {what} ({_listed(names)}), and {FEWEST_GROUPS} are"
            " needed: each is judged as one that the fit does not know, and with fewer the threshold says nothing"
            f" of {'another day' if one_person else 'others'}. Add {what}, each in a folder of its own."
        )
    if head and different < FEWEST_FACES:
        raise AgfasError(
            f"The live pictures show {bound}{different} different faces, and a head needs {FEWEST_FACES}. Add"
            " pictures or videos, or choose the threshold alone with --threshold-only."
        )
    fewest = math.ceil(1 / bpcer - 1e-9)
    if captures < fewest:
        raise AgfasError(
            f"A BPCER of {100 * bpcer:g} % takes {fewest} pictures or videos, of which one may be rejected; here"
            f" are {bound}{captures}. Add some, or ask for a higher --bpcer."
        )


def check_share(bpcer: float) -> None:
    """Refuse what is no share of live faces to reject."""
    if not 0 < bpcer < 0.5:
        raise AgfasError(f"--bpcer {bpcer:g} must be above 0 and below 0.5: a share, such as 0.05 for 5 %.")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")

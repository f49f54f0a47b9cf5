"""Faces that are another face of the dataset pixel for pixel: counted, and named if both classes claim them.

A picture that lies in two folders, or under two names, weighs twice. If it is bona fide in one place and an attack in
the other, one of the labels is wrong, and nothing here can know which.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Reads the stored pictures of rows.
Pictures = Callable[[Sequence[int]], Iterable[bytes]]


@dataclass(frozen=True)
class Repeats:
    """Equal faces.

    Attributes:
        both_classes: number of pictures that are both bona fide and attack.
        faces_in_both: number of faces that show them.
        repeated: number of videos (for pictures, files) that show a face of another one of their class.
        lines: {"key", "same_as", "both_classes"} of every face that repeats an earlier one.
    """

    both_classes: int = 0
    faces_in_both: int = 0
    repeated: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, int]:
        """The entry in the card of a dataset."""
        return {"both_classes": self.both_classes, "faces_in_both": self.faces_in_both, "repeated": self.repeated}


def repeat_sentences(found: Mapping[str, int]) -> list[str]:
    """Lines for the user, from the entry in a card; empty for a dataset of an earlier version."""
    lines = []
    if found.get("both_classes"):
        lines.append(
            f"BOTH CLASSES: {found['both_classes']} pictures are both bona fide and attack, pixel for pixel, so one"
            " label of each is wrong. repeated.csv lists them; correct the source and make the dataset again."
        )
    if found.get("repeated"):
        lines.append(
            f"{found['repeated']} faces are a face of another file of their class again, pixel for pixel: repeated.csv"
        )
    return lines


def find_repeats(columns: Mapping[str, Sequence[Any]], pictures: Pictures) -> Repeats:
    """Look for equal faces among N.

    Args:
        columns: `key`, `domain`, `video`, `label`, `hash`, `thumbnail`, (N,) each; the last two from `leaks.signature`.
        pictures: gives the stored crops of rows in ascending order, equal bytes for equal pixels; called once, for the
            rows whose signatures are equal.
    """
    both = faces_in_both = repeated = 0
    lines = []
    for rows in _equal(columns, pictures):
        two = len({columns["label"][row] for row in rows}) > 1
        videos = {row: (columns["label"][row], columns["domain"][row], columns["video"][row]) for row in rows}
        # The first video of each class is no repetition, nor is a video that stands still.
        own = len(set(videos.values())) - len({label for label, _, _ in videos.values()})
        both += two
        faces_in_both += len(rows) if two else 0
        repeated += own
        if two or own:
            key, mark = columns["key"], "yes" if two else "no"
            lines += [{"key": key[row], "same_as": key[rows[0]], "both_classes": mark} for row in rows[1:]]
    return Repeats(both, faces_in_both, repeated, lines)


def _equal(columns: Mapping[str, Sequence[Any]], pictures: Pictures) -> list[list[int]]:
    """Rows with equal pictures, ascending, two or more each."""
    signatures = list(zip(columns["hash"], columns["thumbnail"], strict=True))
    often = {one for one, count in Counter(signatures).items() if count > 1}
    rows = [row for row, one in enumerate(signatures) if one in often]
    found: dict[bytes, list[int]] = defaultdict(list)
    for row, picture in zip(rows, pictures(rows), strict=True):
        found[hashlib.sha256(picture).digest()].append(row)
    return [group for group in found.values() if len(group) > 1]

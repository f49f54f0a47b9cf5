"""Joins unknown subjects who share near-duplicate pictures, so that they are dealt to one split.

If the person is unknown, `subject` stands for a video or a run of files, and a picture stored under two names is two
subjects. Near-duplicates are defined as in `leaks`. Groups are transitive: if A and C both resemble B, all three must
be in the same split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.data.leaks import CORRELATION, HASH_BITS, correlations, neighbours
from pipelines.data.splits import Group


@dataclass(frozen=True)
class Joined:
    """Groups of subjects that are dealt out as one.

    Attributes:
        heads: joined subject to the first subject of its group, which is included.
        largest: number of subjects in the largest group; 0 if there is none.
        largest_share: largest share of the videos of a domain and label that one group holds.
        capped: whether groups stayed apart because together they would hold too large a share.
    """

    heads: dict[Group, Group] = field(default_factory=dict)
    largest: int = 0
    largest_share: float = 0.0
    capped: bool = False

    def as_json(self) -> dict[str, Any]:
        """The entry in the card of a dataset."""
        return {
            "subjects": len(self.heads),
            "groups": len(set(self.heads.values())),
            "largest": self.largest,
            "largest_share": round(self.largest_share, 4),
            "capped": self.capped,
        }


def joined_sentences(card: Mapping[str, Any]) -> list[str]:
    """Lines for the user from the card of a dataset."""
    joined, most = card["joined"], card["recipe"]["splits"]["largest_group"]
    lines = []
    if joined["groups"]:
        lines.append(
            f"Near-duplicates of unknown subjects were dealt out together: {joined['subjects']} subjects in"
            f" {joined['groups']} groups; the largest joins {joined['largest']}, and none holds more than"
            f" {joined['largest_share']:.1%} of the videos of a domain and label."
        )
    if joined["capped"]:
        lines.append(
            f"Some groups stayed apart: together they would hold more than {most:.0%} of the videos of a domain and"
            " label (splits.largest_group). leaks.json lists their pairs that are in two splits."
        )
    return lines


def join_near_duplicates(
    columns: Mapping[str, Sequence[Any]], hashes: np.ndarray, thumbnails: np.ndarray, most: float = 0.5
) -> Joined:
    """Join unknown subjects who share near-duplicate pictures.

    Known subjects are never joined; if they share pictures, `leaks` reports it. The closest pairs (fewest differing
    bits) are joined first, so that if a group grows too large, the weaker links stay apart.

    Args:
        columns: `domain`, `subject`, `video`, `label`, `subject_known` of N faces.
        hashes: (N,) uint64.
        thumbnails: (N, 256) uint8; both from `leaks.signature`.
        most: largest share of the videos of a domain and label that a group may hold.
    """
    rows = np.flatnonzero(~np.asarray(columns["subject_known"], dtype=bool))
    groups = [(columns["domain"][row], columns["subject"][row]) for row in rows.tolist()]
    names = sorted(set(groups))
    if len(names) < 2:
        return Joined()
    places = {name: place for place, name in enumerate(names)}
    owners = np.array([places[group] for group in groups])
    forest = _Forest(len(names), *_videos(columns, places), most)
    for one, other in _near_pairs(owners, hashes[rows], thumbnails[rows], forest):
        forest.join(one, other)
    return forest.joined(names)


def _videos(
    columns: Mapping[str, Sequence[Any]], places: Mapping[Group, int]
) -> tuple[list[Counter], dict[tuple[str, int], int]]:
    """Number of videos by (domain, label): of every unknown subject, and of all subjects together."""
    names = ("domain", "subject", "video", "label")
    seen = sorted(set(zip(*(columns[name] for name in names), strict=True)))
    own: list[Counter] = [Counter() for _ in places]
    for domain, subject, _, label in seen:
        if (domain, subject) in places:
            own[places[domain, subject]][domain, label] += 1
    return own, Counter((domain, label) for domain, _, _, label in seen)


class _Forest:
    """Growing groups (union-find), limited to a share of the videos of each kind (domain and label).

    Attributes:
        heads: (n,) int64, the first subject of the group of every subject.
    """

    def __init__(self, count: int, videos: list[Counter], totals: Mapping[Any, int], most: float) -> None:
        self.heads = np.arange(count)
        self._videos, self._totals, self._most = videos, totals, most
        self._members = {place: [place] for place in range(count)}
        self._capped = False

    def join(self, one: int, other: int) -> None:
        """Merge two groups unless the result would be too large; the smaller name becomes its head."""
        first, second = sorted((int(self.heads[one]), int(self.heads[other])))
        if first == second:
            return
        both = self._videos[first].keys() & self._videos[second].keys()
        together = self._videos[first] + self._videos[second]
        if any(together[kind] > self._most * self._totals[kind] for kind in both):
            self._capped = True
            return
        self._videos[first] = together
        moved = self._members.pop(second)
        self._members[first] += moved
        self.heads[moved] = first

    def joined(self, names: Sequence[Group]) -> Joined:
        """The groups of more than one subject."""
        groups = {head: members for head, members in self._members.items() if len(members) > 1}
        shares = [n / self._totals[kind] for head in groups for kind, n in self._videos[head].items()]
        return Joined(
            {names[place]: names[head] for head, members in groups.items() for place in members},
            max(map(len, groups.values()), default=0),
            max(shares, default=0.0),
            self._capped,
        )


def _near_pairs(
    owners: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray, forest: _Forest
) -> Iterator[Sequence[int]]:
    """Pairs of subjects with near-duplicates, closest first; pairs already in one group are skipped."""
    first: dict[tuple[int, bytes], int] = {}
    for row, code in enumerate(hashes.tolist()):
        earlier = first.setdefault((code, thumbnails[row].tobytes()), row)
        if earlier != row:  # equal pictures pair with the first only: as many pairs as pictures, not their square
            yield int(owners[earlier]), int(owners[row])
    rows = np.array(list(first.values()), dtype=np.int64)
    for bits in range(HASH_BITS + 1):
        for one, other in neighbours(hashes[rows], bits):
            pairs = np.stack([rows[one], rows[other]], axis=1)
            pairs = pairs[np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]) == bits]
            heads = forest.heads[owners[pairs]]
            pairs = pairs[heads[:, 0] != heads[:, 1]]
            pairs = pairs[correlations(thumbnails, pairs) >= CORRELATION]
            yield from np.unique(np.sort(owners[pairs]), axis=0).tolist()

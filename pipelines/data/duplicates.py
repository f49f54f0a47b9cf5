"""Which subjects belong into one split though nobody knows them: those of whom pictures are nearly equal.

Where no person is known, `subject` stands for a video or for a run of files, and a picture that is there under two
names is two subjects. The rule for near-duplicates is that of the check for leaks. Groups are transitive: where A and C
both resemble B, none of the three may be in another split than B.
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
    """Subjects that are dealt out as one.

    Attributes:
        heads: the first subject of its group by every subject that is joined to others, the first one included.
        largest: subjects of the largest group; 0 where there is none.
        largest_share: greatest share of a domain's videos of one label that a group holds.
        capped: whether groups were left apart because together they would hold too much.
    """

    heads: dict[Group, Group] = field(default_factory=dict)
    largest: int = 0
    largest_share: float = 0.0
    capped: bool = False

    def as_json(self) -> dict[str, Any]:
        """As the card holds it."""
        return {
            "subjects": len(self.heads),
            "groups": len(set(self.heads.values())),
            "largest": self.largest,
            "largest_share": round(self.largest_share, 4),
            "capped": self.capped,
        }


def joined_sentences(card: Mapping[str, Any]) -> list[str]:
    """For a person to read: what the card of a dataset says of `Joined.as_json`."""
    joined, most = card["joined"], card["recipe"]["splits"]["largest_group"]
    lines = []
    if joined["groups"]:
        lines.append(
            f"Near-duplicates of unknown subjects were dealt out together: {joined['subjects']} subjects in"
            f" {joined['groups']} groups; the largest joins {joined['largest']}, and none holds more than"
            f" {joined['largest_share']:.1%} of a domain's videos of a label."
        )
    if joined["capped"]:
        lines.append(
            f"Some were left apart: together they would hold more than {most:.0%} of a domain's videos of a label"
            " (splits.largest_group). leaks.json lists the pairs that are in two splits for it."
        )
    return lines


def join_near_duplicates(
    columns: Mapping[str, Sequence[Any]], hashes: np.ndarray, thumbnails: np.ndarray, most: float = 0.5
) -> Joined:
    """Join subjects who are not known and of whom two pictures are nearly equal.

    A person who is known is never joined: that two persons' pictures are equal is for the check for leaks to say.
    Pairs are taken by the number of differing bits, the nearest first, so that where a chain grows too long it is the
    weaker links that are left apart.

    Args:
        columns: `domain`, `subject`, `video`, `label`, `subject_known` of N faces.
        hashes: (N,) uint64.
        thumbnails: (N, 256) uint8, both as `leaks.signature` makes them.
        most: greatest share of a domain's videos of one label that a joined group may hold.
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
    """Videos of every unknown subject by (domain, label), and of all subjects together."""
    names = ("domain", "subject", "video", "label")
    seen = sorted(set(zip(*(columns[name] for name in names), strict=True)))
    own: list[Counter] = [Counter() for _ in places]
    for domain, subject, _, label in seen:
        if (domain, subject) in places:
            own[places[domain, subject]][domain, label] += 1
    return own, Counter((domain, label) for domain, _, _, label in seen)


class _Forest:
    """Groups that grow, within a share of the videos of each kind (domain and label).

    Attributes:
        heads: (n,) int64, the first subject of the group of each.
    """

    def __init__(self, count: int, videos: list[Counter], totals: Mapping[Any, int], most: float) -> None:
        self.heads = np.arange(count)
        self._videos, self._totals, self._most = videos, totals, most
        self._members = {place: [place] for place in range(count)}
        self._capped = False

    def join(self, one: int, other: int) -> None:
        """Make one group of two, unless it would hold too much; the smaller name stays its head."""
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
        """What has come together."""
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
    """Pairs of subjects of near-duplicates, the nearest first, without those who are in one group already."""
    first: dict[tuple[int, bytes], int] = {}
    for row, code in enumerate(hashes.tolist()):
        earlier = first.setdefault((code, thumbnails[row].tobytes()), row)
        if earlier != row:  # equal ones, each with the first: as many pairs as pictures, not their square
            yield int(owners[earlier]), int(owners[row])
    rows = np.array(list(first.values()), dtype=np.int64)
    for bits in range(HASH_BITS + 1):
        for one, other in neighbours(hashes[rows], bits):
            pairs = np.stack([rows[one], rows[other]], axis=1)
            pairs = pairs[np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]) == bits]
            heads = forest.heads[owners[pairs]]
            pairs = pairs[heads[:, 0] != heads[:, 1]]
            pairs = pairs[correlations(thumbnails, pairs) >= CORRELATION]
            yield from np.unique(np.sort(owners[pairs], axis=1), axis=0).tolist()

"""Deals subjects to train, dev and test, so that no person and no video is in two splits."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from pipelines.data.importers.source import SourceFace
from pipelines.data.records import SPLITS
from pipelines.errors import AgfasError, nearest

T = TypeVar("T")
Group = tuple[str, str]
_Videos = dict[Group, Counter]


def assign_splits(
    faces: list[SourceFace],
    *,
    train: float = 0.6,
    dev: float = 0.2,
    official: bool = True,
    dev_from_train: float = 0.0,
    seed: int = 0,
    joined: Mapping[Group, Group] | None = None,
) -> list[SourceFace]:
    """Give every face a split.

    A subject is never divided; if the person is unknown, `subject` stands for a video or a run of files. Within each
    domain, subjects are dealt out so that every split gets close to its share of the videos of every label and attack
    type. The result does not depend on the order of the faces, nor on other domains unless subjects are joined across
    domains.

    Args:
        faces: with the official splits of the dataset in `split`, empty if there are none.
        train, dev: shares of the videos; `test` takes the rest.
        official: keep official splits and deal out subjects without one only. If some faces of a subject have an
            official split, the others get it too.
        dev_from_train: share of the official `train` videos that becomes `dev`, by subject, in domains without an
            official `dev` split.
        seed: changes the order of subjects with the same videos.
        joined: subject (domain, subject) to the subject with which it is dealt out as one. Official splits are kept.

    Raises:
        AgfasError: a split other than `train`, `dev` or `test`.
    """
    _check_names(faces)
    heads = joined or {}
    shares = {"train": train, "dev": dev, "test": max(0.0, round(1 - train - dev, 9))}
    given = _official_splits(faces, heads) if official else {}
    dealt: dict[Group, str] = {}
    moved: set[Group] = set()
    for videos in _videos_by_domain(faces, heads):
        dealt |= deal({group: kinds for group, kinds in videos.items() if group not in given}, shares, seed)
        if dev_from_train and all((given | dealt)[group] != "dev" for group in videos):
            moved |= _for_dev(
                {g: kinds for g, kinds in videos.items() if given.get(g) == "train"}, dev_from_train, seed
            )
    subjects = given | dealt | dict.fromkeys(moved, "dev")
    return [replace(face, split=_split_of(face, _group(face, heads), subjects, official, moved)) for face in faces]


def _split_of(face: SourceFace, group: Group, subjects: dict[Group, str], official: bool, moved: set[Group]) -> str:
    """The official split if there is one, even if it divides a subject: `leaks` reports that."""
    kept = official and face.split and not (face.split == "train" and group in moved)
    return face.split if kept else subjects[group]


def deal(videos: _Videos, shares: dict[str, float], seed: int) -> dict[Group, str]:
    """Deal groups out so that every split gets close to its share of every kind of video.

    Greedy, largest group first: each goes to the split where its kinds of video are furthest below their share. So the
    first groups of a kind reach every split before any split gets a second one.

    Args:
        videos: by group, the number of videos of each kind (label and attack type).
        shares: of the splits, summing to 1; a split with share 0 gets no group.
        seed: order among groups of equal size.

    Returns:
        The split of every group.
    """
    total: Counter = sum(videos.values(), Counter())
    names = sorted((name for name, share in shares.items() if share > 0), key=lambda name: -shares[name])
    held: dict[str, Counter] = {name: Counter() for name in names}
    result = {}
    for group in sorted(videos, key=lambda group: (-videos[group].total(), _order(group, seed))):
        kinds = videos[group]

        def lack(name: str, kinds: Counter = kinds) -> float:
            # A kind weighs by the part of it that is in this group, so that rare attacks count like common ones.
            return sum((1 - held[name][k] / (shares[name] * total[k])) * n / total[k] for k, n in kinds.items())

        best = max(names, key=lack)
        held[best].update(kinds)
        result[group] = best
    return result


def evenly_spaced(items: list[T], count: int) -> list[T]:
    """At most `count` items, evenly spaced, in their order."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def undersample(
    labels: Sequence[int], splits: Sequence[str], quality: Sequence[float], keys: Sequence[str], ratio: float
) -> np.ndarray:
    """Select samples so that in no split one class has more than `ratio` times the samples of the other.

    The larger class keeps its samples of highest quality; ties keep the smaller key, so that the order of the samples
    does not matter. A split that lacks a class is unchanged. After Kuznetsov et al., "Deep Learning Models for Robust
    Facial Liveness Detection", who balance their classes by keeping the best samples.

    Args:
        labels: (N,) 0 attack, 1 bona fide.
        splits: (N,) names.
        quality: (N,) in [0, 1].
        keys: (N,) unique.
        ratio: at least 1.

    Returns:
        (N,) bool, True for samples that are kept.
    """
    classes, parts = np.asarray(labels), np.asarray(splits, dtype=object)
    keep = np.ones(len(classes), dtype=bool)
    for part in set(splits):
        rows = [np.flatnonzero((classes == label) & (parts == part)) for label in (0, 1)]
        small, large = sorted(rows, key=len)
        room = int(ratio * len(small) + 1e-9)
        if 0 < room < len(large):
            ranked = sorted(large, key=lambda row: (-quality[int(row)], keys[int(row)]))
            keep[ranked[room:]] = False
    return keep


def _group(face: SourceFace, heads: Mapping[Group, Group]) -> Group:
    own = face.domain, face.subject
    return heads.get(own, own)


def _videos_by_domain(faces: list[SourceFace], heads: Mapping[Group, Group]) -> list[_Videos]:
    """Videos by group, a mapping per domain; a group across domains belongs to the domain of its head."""
    seen = {(_group(face, heads), face.domain, face.video, face.label, face.attack_type) for face in faces}
    videos: dict[str, _Videos] = defaultdict(lambda: defaultdict(Counter))
    for group, _, _, label, kind in seen:
        videos[group[0]][group][label, kind] += 1
    return [
        {group: Counter(dict(sorted(kinds.items()))) for group, kinds in videos[domain].items()}
        for domain in sorted(videos)
    ]


def _official_splits(faces: list[SourceFace], heads: Mapping[Group, Group]) -> dict[Group, str]:
    """The official split of every group that has one; of several, the one with the most faces."""
    votes: dict[Group, Counter] = defaultdict(Counter)
    for face in faces:
        if face.split:
            votes[_group(face, heads)][face.split] += 1
    return {group: max(SPLITS, key=lambda name: count[name]) for group, count in votes.items()}


def _for_dev(videos: _Videos, share: float, seed: int) -> set[Group]:
    dealt = deal(videos, {"train": 1 - share, "dev": share}, seed)
    return {group for group, name in dealt.items() if name == "dev"}


def _order(group: Group, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{group[0]}/{group[1]}".encode("utf-8", "surrogatepass")).hexdigest()


def _check_names(faces: list[SourceFace]) -> None:
    for face in faces:
        if face.split and face.split not in SPLITS:
            raise AgfasError(f"{face.path} has the split '{face.split}'; {nearest(face.split, SPLITS)}")

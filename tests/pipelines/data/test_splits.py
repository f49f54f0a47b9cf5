"""Splits: no person and no video in two of them, every kind of video in each, official lists kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from pipelines.data.importers.source import SourceFace
from pipelines.data.splits import assign_splits, deal, evenly_spaced, undersample
from pipelines.errors import AgfasError


def face(subject: str, video: str, kind: str = "none", split: str = "", domain: str = "d", known=True):
    return SourceFace(Path(f"{video}.mp4"), domain, kind, subject, video, 0, split, subject_known=known)


def population(subjects: int, domain: str = "d", rare: int = 0) -> list[SourceFace]:
    """Everybody live and printed, the first `rare` with a mask too."""
    faces = []
    for number in range(subjects):
        name = f"s{number}"
        faces += [face(name, f"{name}-live-{i}", domain=domain) for i in range(2)]
        faces += [face(name, f"{name}-print-{i}", "print", domain=domain) for i in range(1 + number % 3)]
        if number < rare:
            faces.append(face(name, f"{name}-mask", "mask", domain=domain))
    return faces


def splits_of(faces: list[SourceFace], column: str = "subject") -> dict[str, set[str]]:
    found = defaultdict(set)
    for one in faces:
        found[getattr(one, column)].add(one.split)
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 50, 301])
def test_no_subject_and_no_video_is_in_two(count):
    dealt = assign_splits(population(count))
    assert all(len(splits) == 1 for splits in splits_of(dealt).values())
    assert all(len(splits) == 1 for splits in splits_of(dealt, "video").values())
    if count >= 3:
        assert {one.split for one in dealt} == {"train", "dev", "test"}


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_comes_close_to_its_shares(seed):
    dealt = assign_splits(population(60, rare=10), seed=seed)
    for kind, slack in (("none", 0.03), ("print", 0.05), ("mask", 0.11)):
        those = [one.split for one in dealt if one.attack_type == kind]
        for split, share in (("train", 0.6), ("dev", 0.2), ("test", 0.2)):
            assert abs(those.count(split) / len(those) - share) <= slack, (kind, split)


def test_a_rare_attack_is_not_left_to_one_split():
    dealt = assign_splits(population(40, rare=5))
    assert {one.split for one in dealt if one.attack_type == "mask"} == {"train", "dev", "test"}


def test_neither_the_order_nor_other_domains_matter():
    mine, others = population(20), population(13, domain="other")
    alone = {one.video: one.split for one in assign_splits(mine)}
    among = {one.video: one.split for one in assign_splits([*others, *mine[::-1]]) if one.domain == "d"}
    assert alone == among


def test_another_seed_deals_otherwise():
    first, second = (assign_splits(population(30), seed=seed) for seed in (0, 1))
    assert [one.split for one in first] != [one.split for one in second]


def test_shares_are_the_callers():
    dealt = assign_splits(population(50), train=0.9, dev=0.1)
    assert {one.split for one in dealt} == {"train", "dev"}


def test_without_subjects_the_videos_are_disjoint():
    faces = [face(f"v{number}", f"v{number}", number % 2, known=False) for number in range(30) for _ in range(3)]
    assert all(len(splits) == 1 for splits in splits_of(assign_splits(faces), "video").values())


def test_official_splits_are_kept_and_the_rest_follows_them():
    faces = [
        face("a", "a-1", split="test"),
        face("b", "b-1", split="train"),
        face("a", "a-2"),  # of a subject that the lists name
        *[face(f"new{number}", f"new{number}-1") for number in range(6)],
    ]
    dealt = {one.video: one.split for one in assign_splits(faces)}
    assert (dealt["a-1"], dealt["b-1"], dealt["a-2"]) == ("test", "train", "test")
    assert {dealt[f"new{number}-1"] for number in range(6)} == {"train", "dev", "test"}


def test_official_splits_that_divide_a_subject_are_kept_for_the_check_to_find():
    faces = [face("a", "a-1", split="test"), face("a", "a-2", split="train")]
    assert [one.split for one in assign_splits(faces)] == ["test", "train"]
    assert len({one.split for one in assign_splits(faces, official=False)}) == 1


def test_dev_is_taken_out_of_train_where_the_lists_have_none():
    faces = [face(f"s{n}", f"s{n}-{k}", k, split="train" if n < 12 else "test") for n in range(20) for k in (0, 1)]
    kept = [one.split for one in assign_splits(faces)]
    moved = assign_splits(faces, dev_from_train=0.25)
    assert "dev" not in kept
    assert len({one.subject for one in moved if one.split == "dev"}) == 3
    assert [one.split == "test" for one in moved] == [split == "test" for split in kept]
    assert all(len(splits) == 1 for splits in splits_of(moved).values())
    with_dev = [*faces, face("z", "z-1", split="dev")]
    assert sum(one.split == "dev" for one in assign_splits(with_dev, dev_from_train=0.25)) == 1


def test_a_split_with_another_name_is_refused():
    with pytest.raises(AgfasError, match="'tset'; did you mean 'test'"):
        assign_splits([face("a", "a-1", split="tset")])


def test_the_best_of_the_larger_class_stay():
    labels = [1, 1, 1, 1, 0, 1, 0]
    splits = ["train"] * 6 + ["dev"]
    quality = [0.1, 0.9, 0.5, 0.9, 0.2, 0.7, 0.3]
    keys = list("gfedcba")
    keep = undersample(labels, splits, quality, keys, ratio=2)
    assert keep.tolist() == [False, True, False, True, True, False, True]  # dev has one class and stays whole
    assert undersample(labels, splits, quality, keys, ratio=3).tolist() == [False, True, False, True, True, True, True]
    assert undersample(labels, splits, quality, keys, ratio=5).all()


def test_ties_of_quality_do_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    labels = np.array([0] * 3 + [1] * 20)
    keys = [f"k{number:02d}" for number in range(23)]
    order = rng.permutation(23)
    first = undersample(labels, ["train"] * 23, np.full(23, 0.5), keys, 1)
    second = undersample(labels[order], ["train"] * 23, np.full(23, 0.5), [keys[i] for i in order], 1)
    assert {key for key, stays in zip(keys, first, strict=True) if stays} == {
        keys[i] for i, stays in zip(order, second, strict=True) if stays
    }
    assert first.sum() == 6


def test_who_is_dealt_where_is_the_same_for_ever():
    """Prepared datasets are made again with the same splits: by default with seed 0, 60 % train, 20 % dev."""
    faces = population(12, rare=3)
    for options, expected in (
        ({}, "vtnttvnvnnnn"),
        ({"train": 0.6, "dev": 0.2, "seed": 0}, "vtnttvnvnnnn"),
        ({"seed": 1}, "tvntntnnnnnv"),
    ):
        dealt = {one.subject: one.split for one in assign_splits(faces, **options)}
        assert "".join(dealt[f"s{number}"][-1] for number in range(12)) == expected  # traiN, deV, tesT


def test_groups_are_dealt_out_from_the_largest_where_they_are_missing_most():
    """Worked out by hand: shares of 4, 4 and 2 videos of a kind."""
    videos = {("d", name): Counter({"live": many}) for name, many in (("a", 4), ("b", 3), ("c", 2), ("e", 1))}
    shares = {"train": 0.4, "dev": 0.4, "test": 0.2}
    dealt = {group[1]: split for group, split in deal(videos, shares, 0).items()}
    # a fills train; b leaves dev 1 short of 4; c fills test; e goes to dev.
    assert dealt == {"a": "train", "b": "dev", "c": "test", "e": "dev"}
    rare = {("d", "a"): Counter(live=3), ("d", "b"): Counter(live=3, mask=1), ("d", "c"): Counter(live=1, mask=1)}
    found = deal(rare, {"train": 0.5, "dev": 0.5, "test": 0.0}, 0)
    # b first; a lacks most in dev, and c, whose mask is half of all, follows its live video and its mask to dev.
    assert {group[1]: split for group, split in found.items()} == {"b": "train", "a": "dev", "c": "dev"}


@pytest.mark.parametrize(
    ("length", "count", "expected"),
    [(5, 9, [0, 1, 2, 3, 4]), (10, 4, [0, 2, 5, 7]), (20, 3, [0, 6, 13]), (3, 3, [0, 1, 2]), (4, 1, [0]), (0, 3, [])],
)
def test_items_are_spaced_evenly_from_the_first(length, count, expected):
    assert evenly_spaced(list(range(length)), count) == expected


def test_the_smaller_class_times_the_ratio_stays():
    labels, keys = [0] * 10 + [1] * 30, [f"{number:02d}" for number in range(40)]
    for ratio, live in ((1.0, 10), (1.1, 11), (1.15, 11), (2.3, 23), (2.99, 29), (3.0, 30), (9.0, 30)):
        keep = undersample(labels, ["train"] * 40, np.linspace(0, 1, 40), keys, ratio)
        assert keep[:10].all()
        assert keep[10:].tolist() == [False] * (30 - live) + [True] * live

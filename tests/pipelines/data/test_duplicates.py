"""Near-duplicates dealt out together: planted ones are joined, persons are not, and no chain swallows a dataset."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
from prepare_stubs import SquareDetector, save, scene
from test_leaks import picture, saved_again

from pipelines.data import leaks
from pipelines.data.duplicates import Joined, _near_pairs, join_near_duplicates, joined_sentences
from pipelines.data.leaks import dataset_leaks, find_leaks, signature
from pipelines.data.prepare.settings import PrepareRecipe, SplitSettings
from pipelines.data.records import load_faces, read_card
from pipelines.data.splits import assign_splits
from pipelines.stages.prepare import run


def strangers(count: int, label: int = 1) -> dict[str, list]:
    """Every picture its own unknown subject."""
    names = [f"s{number:02d}" for number in range(count)]
    return {
        "domain": ["d"] * count,
        "subject": names,
        "video": [f"v{name}" for name in names],
        "label": [label] * count,
        "subject_known": [False] * count,
    }


def signatures(pictures: list) -> tuple[np.ndarray, np.ndarray]:
    codes, small = zip(*map(signature, pictures), strict=True)
    return np.array(codes, np.uint64), np.stack(small)


def heads(joined: Joined) -> dict[str, str]:
    return {name: head for (_, name), (_, head) in joined.heads.items()}


@pytest.fixture(scope="module")
def pictures() -> list:
    return [picture(seed) for seed in range(24)]


@pytest.fixture(scope="module")
def planted(pictures) -> tuple[np.ndarray, np.ndarray]:
    """0 and 7 are equal, 2, 9 and 20 the same picture saved again, all others different."""
    with_copies = [*pictures]
    with_copies[7] = pictures[0]
    with_copies[9], with_copies[20] = saved_again(pictures[2]), saved_again(pictures[2], 75, 0.9)
    return signatures(with_copies)


def test_planted_copies_are_joined_and_nothing_else(planted):
    joined = join_near_duplicates(strangers(24), *planted)
    assert heads(joined) == {"s00": "s00", "s07": "s00", "s02": "s02", "s09": "s02", "s20": "s02"}
    assert joined.as_json() == {
        "subjects": 5,
        "groups": 2,
        "largest": 3,
        "largest_share": 3 / 24,
        "capped": False,
    }


def test_the_order_of_the_faces_does_not_matter(planted):
    order = np.random.default_rng(0).permutation(24)
    columns = {name: [values[row] for row in order] for name, values in strangers(24).items()}
    joined = join_near_duplicates(columns, planted[0][order], planted[1][order])
    assert joined == join_near_duplicates(strangers(24), *planted)


def test_persons_are_never_joined(planted):
    columns = strangers(24)
    columns["subject_known"][7] = columns["subject_known"][9] = columns["subject_known"][20] = True
    assert join_near_duplicates(columns, *planted) == Joined()


def test_a_chain_joins_its_ends_though_they_differ():
    codes, small = chain(4)
    assert bin(int(codes[0] ^ codes[3])).count("1") > leaks.HASH_BITS
    assert set(heads(join_near_duplicates(strangers(4), codes, small, most=1)).values()) == {"s00"}


def test_no_chain_grows_beyond_its_share():
    codes, small = chain(12)
    joined = join_near_duplicates(strangers(12), codes, small, most=0.5)
    sizes = [len(list(group)) for _, group in itertools.groupby(sorted(heads(joined).values()))]
    assert joined.capped
    assert joined.largest == max(sizes) <= 6
    assert joined.largest_share <= 0.5
    assert not join_near_duplicates(strangers(12), codes, small, most=1).capped


def test_the_share_is_that_of_each_label():
    """An attack that shows a live picture joins both, and takes no more of either label than each had."""
    columns = strangers(4)
    columns["label"] = [1, 0, 1, 0]
    codes = np.array([5, 5, 2**40 - 1, 2**50 - 1], np.uint64)
    small = np.random.default_rng(0).integers(0, 256, (4, 256), dtype=np.uint8)[[0, 0, 1, 2]]
    assert heads(join_near_duplicates(columns, codes, small, most=0.1)) == {"s00": "s00", "s01": "s00"}


def test_the_weakest_link_is_left_apart():
    """Of three in a row of whom two may be together, it is the nearer two."""
    codes = np.array([0b1111, 0b1, 0b0], np.uint64)
    small = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
    small[:, 0] = range(3)  # nearly equal, not equal
    joined = join_near_duplicates(strangers(3), codes, small, most=0.7)
    assert heads(joined) == {"s01": "s01", "s02": "s01"}
    assert joined.capped


def test_many_equal_pictures_cost_no_more_than_one():
    count = 4000
    columns = strangers(count)
    small = np.tile(np.arange(256, dtype=np.uint8), (count, 1))
    assert join_near_duplicates(columns, np.full(count, 5, np.uint64), small, most=1).largest == count
    assert join_near_duplicates(columns, np.full(count, 5, np.uint64), small).largest == count // 2


def test_joined_groups_are_dealt_as_one(planted):
    from test_splits import face

    columns = strangers(24)
    faces = [face(name, video, known=False) for name, video in zip(columns["subject"], columns["video"], strict=True)]
    joined = join_near_duplicates(columns, *planted).heads
    alone, together = assign_splits(faces), assign_splits(faces, joined=joined)
    everything = {**columns, "key": columns["video"]}
    before = find_leaks({**everything, "split": [one.split for one in alone]}, *planted)
    after = find_leaks({**everything, "split": [one.split for one in together]}, *planted)
    assert before.near_duplicate_pairs > 0 == after.near_duplicate_pairs
    counts = [sum(one.split == name for one in together) for name in ("train", "dev", "test")]
    assert np.abs(np.array(counts) - [14.4, 4.8, 4.8]).max() <= 2
    assert assign_splits(faces, joined={}) == alone


def test_official_splits_stay_and_the_rest_follows_them(planted):
    from test_splits import face

    columns = strangers(24)
    official = {"s00": "test", "s07": "train", "s09": "dev"}
    faces = [face(name, f"v{name}", split=official.get(name, ""), known=False) for name in columns["subject"]]
    joined = join_near_duplicates(columns, *planted).heads
    dealt = {one.subject: one.split for one in assign_splits(faces, joined=joined)}
    assert {name: dealt[name] for name in official} == official
    assert dealt["s02"] == dealt["s20"] == "dev"


def test_groups_of_two_domains_are_one():
    from test_splits import face

    faces = [face(f"s{number}", f"v{number}", domain="ab"[number % 2], known=False) for number in range(20)]
    joined = {("b", f"s{number}"): ("a", "s0") for number in (1, 5, 9)} | {("a", "s0"): ("a", "s0")}
    dealt = {one.subject: one.split for one in assign_splits(faces, joined=joined)}
    assert len({dealt[name] for name in ("s0", "s1", "s5", "s9")}) == 1


# In a job


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """A `live` source of 18 pictures, of which every second of 12 is a copy of the one before."""
    folder = tmp_path_factory.mktemp("copies")
    for number in range(18):
        seed = number - number % 2 if number < 12 else number
        save(folder / f"{number:02d}.jpg", scene((40, 20, 70), seed=seed), quality=95 - number % 2 * 15)
    return folder


def prepare(source, out, allow_leaks=False, **settings) -> dict:
    recipe = PrepareRecipe(
        importer="live", size=32, workers=1, domain="d", allow_leaks=allow_leaks, splits=SplitSettings(**settings)
    )
    assert run(source, out, recipe, SquareDetector) == 0
    return read_card(out)


def test_a_job_joins_by_default_and_says_so(copies, tmp_path, capsys):
    card = prepare(copies, tmp_path / "out")
    assert card["joined"] == {
        "subjects": 12,
        "groups": 6,
        "largest": 2,
        "largest_share": round(2 / 18, 4),
        "capped": False,
    }
    assert card["splits_clean"]
    assert dataset_leaks(tmp_path / "out").near_duplicate_pairs == 0
    assert card["counts"] == {
        f"d/bonafide/{name}": load_faces(tmp_path / "out")["split"][:].count(name) for name in ("dev", "test", "train")
    }
    said = "12 subjects in 6 groups; the largest joins 2"
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "out" / "README.md").read_text()


def test_a_job_that_may_not_join_lists_them(copies, tmp_path):
    card = prepare(copies, tmp_path / "out", allow_leaks=True, join_near_duplicates=False)
    assert not card["splits_clean"]
    assert card["joined"]["groups"] == 0
    assert json.loads((tmp_path / "out" / "leaks.json").read_text())["near_duplicate_pairs"] > 0
    assert "| splits |" in (tmp_path / "out" / "README.md").read_text()


def chain(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Each nearly equal to the next alone: hashes 4 bits apart, and thumbnails that do not differ in what counts."""
    codes = np.array([(1 << 4 * number) - 1 for number in range(count)], np.uint64)
    small = np.tile(np.arange(256, dtype=np.uint8), (count, 1))
    small[:, 0] = range(count)
    return codes, small


def test_seven_bits_are_too_many():
    small = np.tile(np.arange(256, dtype=np.uint8), (2, 1))
    small[1, 0] = 1  # not equal
    for bits, groups in ((6, 1), (7, 0)):
        codes = np.array([0, (1 << bits) - 1], np.uint64)
        assert join_near_duplicates(strangers(2), codes, small, most=1).as_json()["groups"] == groups


def test_each_pair_is_looked_at_once_and_the_closest_first():
    """No pair may be joined here, so none is left out because it was."""
    codes = np.array([0, 0b111, 0b1, 0b0], np.uint64)
    small = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    small[:3, 0] = range(3)
    small[3] = small[0]
    alone = SimpleNamespace(heads=np.arange(4))
    pairs = list(_near_pairs(np.array([3, 2, 1, 0]), codes, small, alone))
    assert [tuple(sorted(pair)) for pair in pairs] == [(0, 3), (1, 3), (1, 2), (2, 3)]  # 0, 1, 2 and 3 bits


def test_a_group_may_hold_its_share_and_not_one_more():
    codes, small = chain(4)
    joined = join_near_duplicates(strangers(4), codes, small, most=0.5)
    assert (joined.largest, joined.largest_share, joined.capped) == (2, 0.5, True)
    assert join_near_duplicates(strangers(4), codes, small, most=0.75).largest == 3
    assert join_near_duplicates(strangers(4), codes, small, most=0.49) == Joined(capped=True)
    few = {name: values[:1] for name, values in strangers(4).items()}
    assert join_near_duplicates(few, codes[:1], small[:1]) == Joined() == Joined({}, 0, 0.0, False)


def test_what_was_joined_is_said():
    heads = {("d", name): ("d", head) for name, head in (("a", "a"), ("b", "a"), ("c", "c"), ("e", "c"), ("f", "c"))}
    joined = Joined(heads, 3, 0.123456, True).as_json()
    assert joined == {"subjects": 5, "groups": 2, "largest": 3, "largest_share": 0.1235, "capped": True}
    recipe = {"splits": {"largest_group": 0.5}}
    together, apart = joined_sentences({"joined": joined, "recipe": recipe})
    assert together == (
        "Near-duplicates of unknown subjects were dealt out together: 5 subjects in 2 groups; the largest joins 3, and"
        " none holds more than 12.3% of the videos of a domain and label."
    )
    assert apart == (
        "Some groups stayed apart: together they would hold more than 50% of the videos of a domain and label"
        " (splits.largest_group). leaks.json lists their pairs that are in two splits."
    )
    assert joined_sentences({"joined": Joined().as_json(), "recipe": recipe}) == []

"""The check for leaks: planted ones are found, and clean data passes."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from pipelines.data import leaks
from pipelines.data.leaks import LISTED, dataset_leaks, find_leaks, leaks_from_json, neighbours, signature
from pipelines.data.records import face_features
from pipelines.errors import AgfasError
from pipelines.files import write_json


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)


def saved_again(image: Image.Image, quality: int = 60, brightness: float = 1.1) -> Image.Image:
    stream = io.BytesIO()
    ImageEnhance.Brightness(image).enhance(brightness).save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def rows(count: int = 30) -> dict[str, list]:
    """Three splits of ten subjects with a video each."""
    splits = [("train", "dev", "test")[number % 3] for number in range(count)]
    return {
        "key": [f"d/s{number}/v{number}/000" for number in range(count)],
        "domain": ["d"] * count,
        "subject": [f"s{number}" for number in range(count)],
        "video": [f"v{number}" for number in range(count)],
        "split": splits,
    }


def check(columns: dict[str, list], pictures: list[Image.Image]) -> leaks.Leaks:
    signatures = [signature(image) for image in pictures]
    return find_leaks(
        columns, np.array([code for code, _ in signatures], np.uint64), np.stack([small for _, small in signatures])
    )


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [picture(seed) for seed in range(30)]


def test_clean_data_passes(pictures):
    found = check(rows(), pictures)
    assert found.clean
    assert found.sentences() == ["Splits are clean: no subject, video or near-duplicate of 30 faces is in two."]


def test_what_leaks_is_said_line_by_line(pictures):
    columns = rows()
    for place in (1, 4, 7, 10):  # each of another split than number 0 and its like
        columns["subject"][place], columns["video"][place] = f"s{place - 1}", f"v{place - 1}"
    found = check(columns, [*pictures[:28], pictures[0], pictures[27]])
    assert (len(found.subjects), len(found.videos), found.near_duplicate_pairs, found.faces) == (4, 4, 2, 30)
    assert found.subjects == sorted(found.subjects, key=lambda leak: (leak["domain"], leak["name"]))
    first = "SPLITS LEAK: 4 subjects, 4 videos and 2 pairs of near-duplicates among 30 faces are in two splits."
    assert found.sentences() == [
        f"{first} leaks.json lists them.",
        *[f"  subject d/s{number} is in dev and train" for number in (0, 3, 6)],
        *[f"  video d/v{number} is in dev and train" for number in (0, 3, 6)],
        "  d/s0/v0/000 and d/s28/v28/000 are nearly equal",
        "  d/s27/v27/000 and d/s29/v29/000 are nearly equal",
    ]
    content = found.as_json()
    assert (content["clean"], content["near_duplicate_rule"]) == (False, {"hash_bits": 6, "correlation": 0.97})
    assert leaks_from_json(content) == found
    nothing = leaks.Leaks()
    assert nothing.clean
    empty = {"subjects": [], "videos": [], "near_duplicates": [], "near_duplicate_pairs": 0, "faces": 0}
    assert nothing.as_json() == {
        "clean": True, "near_duplicate_rule": {"hash_bits": 6, "correlation": 0.97}, **empty, "subjects_unknown": 0
    }  # fmt: skip


def test_a_recorded_leak_is_refused_and_a_clean_check_is_not(tmp_path):
    leaks.check_recorded(tmp_path)
    write_json(tmp_path / "leaks.json", leaks.Leaks(faces=3).as_json())
    leaks.check_recorded(tmp_path)
    for leak in ({"near_duplicate_pairs": 1}, {"subjects": [SHARED]}, {"videos": [SHARED]}):
        write_json(tmp_path / "leaks.json", leaks.Leaks(faces=3, **leak).as_json())
        with pytest.raises(AgfasError, match=r"SPLITS LEAK: .* or accept it with data\.allow_leaks=true"):
            leaks.check_recorded(tmp_path)


SHARED = {"domain": "d", "name": "s", "splits": ["train", "test"]}


def test_a_signature_is_the_signs_of_low_frequencies_and_a_small_picture(pictures):
    """The transform written out: sums of cosines over 32 x 32 pixels."""
    for image in pictures[:3]:
        grey = image.convert("L")
        small = np.asarray(grey.resize((32, 32), Image.Resampling.LANCZOS), dtype=float)
        waves = np.cos(np.pi / 32 * (np.arange(32) + 0.5) * np.arange(8)[:, None])
        waves[0] /= np.sqrt(2)
        low = (waves @ small @ waves.T / 16).ravel()
        bits = "".join("1" if value > np.median(low) else "0" for value in low)
        code, thumbnail = signature(image)
        assert code == int(bits, 2)
        assert np.array_equal(thumbnail, np.asarray(grey.resize((16, 16), Image.Resampling.LANCZOS)).ravel())
        assert (thumbnail.dtype, thumbnail.shape) == (np.uint8, (256,))


def test_correlations_are_pearsons_in_any_number_of_pieces(monkeypatch):
    small = np.random.default_rng(0).integers(0, 256, (9, 256), dtype=np.uint8)
    small[7], small[8] = 50, 200
    pairs = np.array([[0, 1], [2, 3], [4, 4], [5, 6], [7, 8], [0, 7]])
    expected = [np.corrcoef(small[one], small[other])[0, 1] for one, other in pairs[:4]]
    for at_once in (1, 2, 100):
        monkeypatch.setattr(leaks, "_CORRELATED_AT_ONCE", at_once)
        found = leaks.correlations(small, pairs)
        np.testing.assert_allclose(found[:5], [*expected, 1.0], atol=1e-5)  # two flat pictures count as equal
        assert abs(found[5]) < 1e-5
    assert len(leaks.correlations(small, np.empty((0, 2), dtype=np.int64))) == 0


@pytest.mark.parametrize("column", ["subject", "video"])
def test_a_planted_subject_or_video_is_found(pictures, column):
    columns = rows()
    columns[column][7] = columns[column][0]
    found = check(columns, pictures)
    assert not found.clean
    planted = [{"domain": "d", "name": columns[column][0], "splits": ["dev", "train"]}]
    assert getattr(found, f"{column}s") == planted
    assert columns[column][0] in " ".join(found.sentences())


def test_the_same_name_in_another_domain_is_somebody_else(pictures):
    columns = rows()
    columns["subject"][7], columns["domain"][7] = columns["subject"][0], "other"
    assert check(columns, pictures).clean


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: saved_again(image, 50, 1.0),
        lambda image: saved_again(image, 75, 1.15),
        lambda image: saved_again(image, 60, 0.85),
        lambda image: image.resize((40, 40)),
        lambda image: image.convert("L"),
    ],
)
def test_a_planted_near_duplicate_is_found(pictures, change):
    planted = [*pictures]
    planted[16] = change(planted[0])
    found = check(rows(), planted)
    assert found.near_duplicate_pairs == 1
    (pair,) = found.near_duplicates
    assert pair["keys"] == ["d/s0/v0/000", "d/s16/v16/000"]
    assert pair["splits"] == ["train", "dev"]
    assert pair["bits"] <= leaks.HASH_BITS
    assert pair["correlation"] >= leaks.CORRELATION


def test_near_duplicates_within_a_split_are_no_leak(pictures):
    planted = [*pictures]
    planted[3] = saved_again(planted[0])
    assert check(rows(), planted).clean


def test_a_like_hash_alone_is_not_enough():
    """Two pictures of one hash whose small versions do not correlate are different pictures."""
    columns = rows(2)
    small = np.random.default_rng(0).integers(0, 256, (2, 256), dtype=np.uint8)
    assert find_leaks(columns, np.zeros(2, np.uint64), small).clean
    assert not find_leaks(columns, np.zeros(2, np.uint64), small[[0, 0]]).clean


def test_flat_pictures_are_alike():
    found = check(rows(3), [Image.new("RGB", (64, 64), (level,) * 3) for level in (0, 0, 90)])
    assert found.near_duplicate_pairs == 3


def test_many_equal_pictures_cost_no_more_than_one():
    count = 60_000
    columns = rows(count)
    small = np.tile(np.arange(256, dtype=np.uint8), (count, 1))
    found = find_leaks(columns, np.full(count, 5, np.uint64), small)
    assert found.near_duplicate_pairs == 3  # of the three splits' representatives
    assert found.faces == count


def test_the_list_is_cut_and_the_number_is_not():
    count = 90
    base = np.random.default_rng(0).integers(0, 250, 256)
    small = np.stack([(base + [number % 5] + np.eye(256)[number]).astype(np.uint8) for number in range(count)])
    found = find_leaks(rows(count), np.zeros(count, np.uint64), small)
    assert found.near_duplicate_pairs == 3 * 30 * 30
    assert len(found.near_duplicates) == LISTED


def test_the_first_pairs_are_listed_in_the_order_of_their_rows(monkeypatch):
    monkeypatch.setattr(leaks, "LISTED", 4)
    small = np.tile(np.arange(256, dtype=np.uint8), (6, 1))
    codes = np.array([0, 1, 1 << 63, 3, 1 << 40, 1 << 20], np.uint64)  # near, by different blocks
    found = find_leaks({**rows(6), "split": list("abcabc")}, codes, small)
    assert found.near_duplicate_pairs == 12
    pairs = [[key.split("/")[1] for key in pair["keys"]] for pair in found.near_duplicates]
    assert pairs == [["s0", "s1"], ["s0", "s2"], ["s0", "s4"], ["s0", "s5"]]
    assert [pair["bits"] for pair in found.near_duplicates] == [1, 1, 1, 1]
    assert {pair["correlation"] for pair in found.near_duplicates} == {1.0}
    assert found.near_duplicates[1]["splits"] == ["a", "c"]


def test_near_means_six_bits_and_a_correlation_of_97_hundredths():
    small = np.tile(np.arange(256, dtype=np.uint8), (2, 1))
    for bits, clean in ((6, False), (7, True)):
        assert find_leaks(rows(2), np.array([0, (1 << bits) - 1], np.uint64), small).clean == clean
    noise = np.random.default_rng(0).permutation(256) - 127.5
    for share, clean in ((0.24, False), (0.26, True)):  # of noise: a correlation of 0.9724 and 0.9678
        small[1] = np.clip(np.rint(np.arange(256) * 0.7 + share * 0.7 * noise + 40), 0, 255)
        found = find_leaks(rows(2), np.zeros(2, np.uint64), small)
        assert found.clean == clean == (np.corrcoef(*small)[0, 1] < 0.97)


@pytest.mark.parametrize("bits", [0, 1, 6, 9])
def test_neighbours_are_those_of_all_pairs(bits, monkeypatch):
    monkeypatch.setattr(leaks, "_PAIRS_AT_ONCE", 64)  # so that buckets come in pieces
    rng = np.random.default_rng(bits)
    codes = rng.integers(0, 2**64, 60, dtype=np.uint64)
    for place in range(60, 200):  # near ones, by flipping some bits
        flips = rng.choice(64, rng.integers(0, 12), replace=False)
        codes = np.append(codes, codes[place % 60] ^ np.bitwise_or.reduce(np.uint64(1) << flips.astype(np.uint64)))
    wanted = {
        (a, b) for a, b in itertools.combinations(range(len(codes)), 2) if (codes[a] ^ codes[b]).bit_count() <= bits
    }
    found = [tuple(sorted(p)) for one, other in neighbours(codes, bits) for p in zip(one, other, strict=True)]
    assert len(found) == len(set(found))
    assert set(found) == wanted
    assert wanted


def test_unknown_subjects_are_said(pictures):
    columns = {**rows(), "subject_known": [number > 4 for number in range(30)]}
    found = check(columns, pictures)
    assert found.subjects_unknown == 5
    assert "5 videos is unknown: no video is in two splits, but a person may be" in found.sentences()[-1]


def test_a_dataset_on_disk(tmp_path, pictures):
    from datasets import Dataset, Features, Value

    columns = rows()
    planted = [*pictures]
    planted[16] = saved_again(planted[0])
    more = {
        "image": planted,
        "label": [1] * 30,
        "attack_type": ["none"] * 30,
        "frame": [0] * 30,
        "landmarks": [[[0.0, 0.0]] * 5] * 30,
    }
    features = Features({**face_features(), "subject_known": Value("bool")})
    for name, known, unknown in (("some", [number > 2 for number in range(30)], 3), ("all", None, 0)):
        extra = {} if known is None else {"subject_known": known}
        kinds = Features({each: features[each] for each in {**columns, **more, **extra}})
        Dataset.from_dict({**columns, **more, **extra}, features=kinds).save_to_disk(str(tmp_path / name))
        found = dataset_leaks(tmp_path / name)
        assert (found.near_duplicate_pairs, found.subjects_unknown) == (1, unknown)
        assert found.near_duplicates[0]["keys"] == [columns["key"][0], columns["key"][16]]
        assert leaks_from_json(found.as_json()) == found

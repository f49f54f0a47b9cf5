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
    from datasets import Dataset

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
    Dataset.from_dict({**columns, **more}, features=face_features()).save_to_disk(str(tmp_path / "faces"))
    found = dataset_leaks(tmp_path / "faces")
    assert found.near_duplicate_pairs == 1
    assert leaks_from_json(found.as_json()) == found

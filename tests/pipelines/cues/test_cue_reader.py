"""Cues at load time: the five kinds, the three forms, donors and flips."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from dfg.noise import noise_for_keys
from pipelines.cues.reader import CueReader, donors_of
from pipelines.cues.settings import BUILTIN_SOURCES
from pipelines.errors import AgfasError

COUNT, SIZE = 24, 8
VIDEOS = [f"v{i % 8 // 2}" for i in range(COUNT)]
KEYS = [f"cam{i // 8}/s{i}/{VIDEOS[i]}/000" for i in range(COUNT)]
IMAGES, RESTORED, AUTOENCODED = np.random.default_rng(0).integers(0, 256, (3, COUNT, SIZE, SIZE, 3), dtype=np.uint8)
FORMS = ("residual", "compensated", "two_part")


def reader_of(kind="dfg", **options):
    return CueReader(kind, **{"keys": KEYS, "videos": VIDEOS, "images": IMAGES, "reconstructions": RESTORED, **options})


def slow_z_score(difference):
    """One mean and one unbiased deviation over all values of a face."""
    return (difference - difference.mean()) / difference.std(ddof=1)


def unit(picture):
    return picture.astype(np.float64).transpose(2, 0, 1) / 127.5 - 1


def test_residual_against_a_slow_computation():
    rows = np.array([3, 17, 3])
    cue = reader_of().batch(rows)
    assert cue.dtype == torch.float32
    for row, face in zip(rows, cue, strict=True):
        expected = slow_z_score(unit(IMAGES[row]) - unit(RESTORED[row]))
        np.testing.assert_allclose(face, expected, atol=2e-6)
    plain = reader_of(normalize="none").batch(rows)
    np.testing.assert_allclose(plain[1], unit(IMAGES[17]) - unit(RESTORED[17]), atol=1e-6)


@pytest.mark.parametrize("kind", BUILTIN_SOURCES)
@pytest.mark.parametrize("form", FORMS)
def test_every_kind_in_every_form(kind, form):
    reader = reader_of(kind, autoencoded=AUTOENCODED, form=form)
    cue = reader.batch(np.arange(5))
    assert cue.shape == (5, reader.channels, SIZE, SIZE)
    assert reader.channels == (6 if form == "two_part" else 3)
    assert bool(cue.isfinite().all())


@pytest.mark.parametrize("kind", BUILTIN_SOURCES)
@pytest.mark.parametrize("form", FORMS)
def test_a_cue_does_not_depend_on_its_batch(kind, form):
    reader = reader_of(kind, autoencoded=AUTOENCODED, form=form)
    together = reader.batch(np.arange(COUNT))
    for row in (0, 9, 23):
        torch.testing.assert_close(reader.batch(np.array([row]))[0], together[row], atol=1e-6, rtol=0)


@pytest.mark.parametrize("normalize", ["per_face", "none"])
@pytest.mark.parametrize("form", FORMS)
def test_forming_and_flipping_commute(form, normalize):
    reader = reader_of(autoencoded=AUTOENCODED, form=form, normalize=normalize)
    rows, flips = np.arange(4), np.array([True, False, True, False])
    flipped_after = torch.where(
        torch.from_numpy(flips)[:, None, None, None], reader.batch(rows).flip(-1), reader.batch(rows)
    )
    torch.testing.assert_close(reader.batch(rows, flips, flips), flipped_after, atol=2e-6, rtol=0)


@pytest.mark.parametrize("kind", ["dfg", "noise", "zero"])
def test_a_shifted_cue_is_the_cue_shifted(kind):
    rows, offsets = np.arange(4), np.array([[0, 0], [2, -3], [-8, 1], [0, 5]])
    reader = reader_of(kind)
    for still, moved, (down, right) in zip(
        reader.batch(rows), reader.batch(rows, offsets=offsets), offsets, strict=True
    ):
        row, column = (np.arange(SIZE) + down).clip(0, SIZE - 1), (np.arange(SIZE) + right).clip(0, SIZE - 1)
        assert torch.equal(moved, still[:, row][:, :, column])


def test_flipping_apart_compares_a_face_with_its_mirror_image():
    reader = reader_of(normalize="none")
    cue = reader.batch(np.array([2]), np.array([False]), np.array([True]))[0]
    np.testing.assert_allclose(cue, unit(IMAGES[2]) - unit(RESTORED[2][:, ::-1]), atol=1e-6)


def test_autoencoder_is_the_face_against_its_reconstruction():
    rows = np.array([5, 6])
    expected = reader_of("dfg", reconstructions=AUTOENCODED).batch(rows)
    torch.testing.assert_close(reader_of("autoencoder", reconstructions=AUTOENCODED).batch(rows), expected)
    torch.testing.assert_close(reader_of("autoencoder", autoencoded=AUTOENCODED).batch(rows), expected)
    two_part = reader_of("autoencoder", reconstructions=AUTOENCODED, form="two_part").batch(rows)
    torch.testing.assert_close(two_part[:, :3], expected)
    assert not two_part[:, 3:].any()


def test_zero_and_noise():
    assert not reader_of("zero").batch(np.arange(3)).any()
    noise = reader_of("noise", reconstructions=None).batch(np.arange(COUNT))
    assert abs(float(noise.mean())) < 0.05
    assert abs(float(noise.std()) - 1) < 0.05
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(noise, reader_of("noise", seed=1).batch(np.arange(COUNT)))
    with pytest.raises(AgfasError, match="'noise' is made of no pictures"):
        reader_of("noise", reconstructions=None).cues(np.arange(2))


def test_shuffled_is_a_donors_own_cue():
    donors = donors_of(KEYS, VIDEOS, seed=0)
    rows = np.array([1, 20])
    torch.testing.assert_close(reader_of("shuffled").batch(rows), reader_of("dfg").batch(donors[rows]))
    np.testing.assert_array_equal(reader_of("shuffled").cues(rows)[0], IMAGES[donors[rows]])


@pytest.mark.parametrize("seed", range(5))
def test_donors_are_faces_of_other_videos_each_used_once(seed):
    rng = np.random.default_rng(seed)
    videos = [f"v{number}" for number in np.repeat(np.arange(9), rng.integers(1, 6, 9))]
    keys = [f"cam{i % 2}/s/{video}/{i:03d}" for i, video in enumerate(videos)]
    donors = donors_of(keys, videos, seed)
    assert sorted(donors) == list(range(len(keys)))
    full = [f"{key.split('/')[0]}/{video}" for key, video in zip(keys, videos, strict=True)]
    assert all(full[face] != full[donor] for face, donor in enumerate(donors))
    assert not np.array_equal(donors, donors_of(keys, videos, seed + 1))
    # Another order of the same faces gives the same pairs.
    order = rng.permutation(len(keys))
    turned = donors_of([keys[i] for i in order], [videos[i] for i in order], seed)
    np.testing.assert_array_equal(order[turned], donors[order])


def test_donors_stay_within_their_group_and_among_the_stored():
    groups = [key.split("/")[0] for key in KEYS]
    present = np.arange(COUNT) < 16
    donors = donors_of(KEYS, VIDEOS, 0, groups, present)
    assert (donors[16:] == -1).all()
    assert all(groups[face] == groups[donors[face]] for face in range(16))
    assert sorted(donors[:16]) == list(range(16))


def test_one_video_with_more_than_half_of_the_faces_has_no_donors():
    with pytest.raises(AgfasError, match="the video cam0/v0 holds 3 of the 5 faces"):
        donors_of([f"cam0/s/v/{i}" for i in range(5)], ["v0", "v0", "v0", "v1", "v2"], 0)


class Partly:
    """Pictures that are stored for the first half only."""

    present = np.arange(COUNT) < COUNT // 2

    def __len__(self):
        return COUNT

    def __getitem__(self, indices):
        assert (np.asarray(indices) < COUNT // 2).all()
        return RESTORED[indices]


def test_pictures_that_are_stored_in_part():
    reader = reader_of("shuffled", reconstructions=Partly())
    assert reader.batch(np.arange(COUNT // 2)).shape[0] == COUNT // 2
    with pytest.raises(AgfasError, match="without a stored restoration"):
        reader.batch(np.array([COUNT - 1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "dgf"}, "did you mean 'dfg'"),
        ({"form": "residul"}, "did you mean 'residual'"),
        ({"normalize": "perface"}, "did you mean 'per_face'"),
        ({"reconstructions": None}, "'dfg' needs reconstructions"),
        ({"form": "two_part"}, "needs the reconstructions of t = 0"),
        ({"reconstructions": RESTORED[:3]}, "24 keys, but 3 reconstructions"),
    ],
)
def test_mistakes_are_answered_with_the_fix(options, message):
    with pytest.raises(AgfasError, match=message):
        reader_of(**options)


MASKS = (np.random.default_rng(1).random((COUNT, SIZE, SIZE)) < 0.5).astype(np.uint8)


@pytest.mark.parametrize("kind", BUILTIN_SOURCES)
def test_a_masked_cue_is_zero_beside_its_givers_face(kind):
    reader = reader_of(kind, autoencoded=AUTOENCODED, masks=MASKS)
    rows = np.array([2, 11])
    givers = rows if kind != "shuffled" else donors_of(KEYS, VIDEOS, 0)[rows]
    flips = np.array([False, True])
    cue = reader.batch(rows, flips, flips)
    beside = np.stack([MASKS[givers[0]], MASKS[givers[1]][:, ::-1]]) == 0
    assert not cue.numpy()[np.broadcast_to(beside[:, None], cue.shape)].any()
    assert kind == "zero" or bool(cue.any())


def test_masks_of_another_number_are_refused():
    with pytest.raises(AgfasError, match="23 masks"):
        reader_of(masks=MASKS[:-1])


def test_the_pictures_that_a_cue_is_formed_from():
    rows = np.array([4, 1])
    for form, third in (("residual", None), ("two_part", AUTOENCODED[rows]), ("compensated", AUTOENCODED[rows])):
        face, restored, autoencoded = reader_of(autoencoded=AUTOENCODED, form=form).cues(rows)
        np.testing.assert_array_equal(face, IMAGES[rows])
        np.testing.assert_array_equal(restored, RESTORED[rows])
        assert (autoencoded is None) == (third is None)
        assert third is None or np.array_equal(autoencoded, third)
    donors = donors_of(KEYS, VIDEOS, 0)[rows]
    shuffled = reader_of("shuffled", autoencoded=AUTOENCODED, form="two_part").cues(rows)
    for found, pictures in zip(shuffled, (IMAGES, RESTORED, AUTOENCODED), strict=True):
        np.testing.assert_array_equal(found, pictures[donors])


def test_noise_is_the_stream_of_the_cue_of_its_key():
    rows = np.array([7, 2])
    expected = noise_for_keys([f"cue/{KEYS[row]}" for row in rows], (6, SIZE, SIZE), 5)
    given = {"reconstructions": None, "form": "two_part", "seed": 5, "masks": MASKS}
    plain = reader_of("noise", **{**given, "masks": None})
    assert torch.equal(plain.batch(rows), expected)
    mirrored = plain.batch(rows, cue_flips=np.array([True, False]))
    assert torch.equal(mirrored[0], expected[0].flip(-1))
    assert torch.equal(mirrored[1], expected[1])
    masked = reader_of("noise", **given)
    assert torch.equal(masked.batch(rows), expected * torch.from_numpy(MASKS[rows])[:, None])
    flipped = masked.batch(rows, None, np.array([True, True]), np.array([[0, 0], [1, 0]]))
    assert torch.equal(flipped[0], (expected * torch.from_numpy(MASKS[rows])[:, None])[0].flip(-1))


def test_changed_faces_and_restorations_take_the_place_of_the_stored_ones():
    rows = np.array([3, 9])
    changed = 255 - IMAGES[rows]
    found = reader_of(normalize="none").batch(
        rows, faces=changed, alike=lambda place, restored: restored // 2 if place else restored
    )
    for place, restored in enumerate((RESTORED[3], RESTORED[9] // 2)):
        np.testing.assert_allclose(found[place], unit(changed[place]) - unit(restored), atol=1e-6)


def test_donors_are_those_of_every_version():
    """Another order would give every experiment with `shuffled` other cues under its old name."""
    videos, keys = ["a", "a", "b", "c", "c", "b"], [f"cam/s/x/{place}" for place in range(6)]
    names = [f"cam/{video}" for video in videos]

    def digest(name: str, seed: int) -> bytes:
        return hashlib.sha256(f"{seed}:{name}".encode()).digest()

    for seed in (0, 3):
        line = sorted(range(6), key=lambda face: (digest(names[face], seed), digest(keys[face], seed)))
        expected = {face: line[(place + 2) % 6] for place, face in enumerate(line)}
        assert dict(enumerate(donors_of(keys, videos, seed))) == expected
    half = donors_of([f"cam/s/v/{i}" for i in range(4)], ["v0", "v0", "v1", "v2"], 0)
    assert sorted(half) == [0, 1, 2, 3]  # exactly half of the faces may be one video's
    groups = ["x", "y"] * 6
    of_groups = donors_of(KEYS[:12], VIDEOS[:12], 0, groups)
    assert all(groups[face] == groups[donor] for face, donor in enumerate(of_groups))


def test_a_class_of_one_s_own_is_a_source():
    rows = np.array([0, 5])
    assert torch.equal(reader_of("my.module:Class").batch(rows), reader_of("dfg").batch(rows))
    assert len(reader_of()) == COUNT

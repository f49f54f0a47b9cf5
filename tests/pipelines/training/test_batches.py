"""Batches as functions of the step: coverage, balance, shares of two processes, one transform for both."""

from __future__ import annotations

import numpy as np
import torch
from training_parts import WHOLE, make_faces

from pipelines.data.faces import Faces
from pipelines.pixels import place_moved, to_unit_batch
from pipelines.training.balanced import BalancedBatches
from pipelines.training.batches import IdentityBatches, LatentBatches, LiveFaceBatches, Order
from pipelines.training.parallel import split


class Picture:
    """A cue that is the picture itself, so that a difference in geometry shows."""

    def __init__(self, faces: Faces) -> None:
        self.faces = faces

    def batch(self, indices, image_flips=None, cue_flips=None, offsets=None, faces=None, alike=None):
        return to_unit_batch(self.faces.images[indices] if faces is None else faces, cue_flips, offsets)


def balanced(faces: Faces, **options) -> BalancedBatches:
    defaults = {"per_cell": 4, "seed": 0}
    return BalancedBatches(faces, np.arange(len(faces)), ["a", "b"], Picture(faces), **{**defaults, **options})


def test_every_item_comes_once_in_each_pass():
    order = Order(10, seed=1, name="x")
    first, second = order.take(0, 10), order.take(10, 10)
    assert sorted(first) == sorted(second) == list(range(10))
    assert list(first) != list(second)
    np.testing.assert_array_equal(order.take(7, 6), np.concatenate([first[7:], second[:3]]))


def test_a_step_holds_the_same_number_of_every_domain_and_label():
    batch = balanced(make_faces())(3, WHOLE)
    cells = [(int(d), int(y)) for d, y in zip(batch.domain, batch.label, strict=True)]
    assert {cell: cells.count(cell) for cell in cells} == {(0, 1): 4, (0, 0): 4, (1, 1): 4, (1, 0): 4}
    assert all(key.startswith("ab"[domain]) for key, domain in zip(batch.key, batch.domain, strict=True))


def test_prints_are_told_from_other_attacks():
    faces = make_faces()
    attacks = np.flatnonzero(faces.labels == 0)
    faces.attack_types[attacks] = (["print", "Printed_photo", "replay", "mask"] * len(attacks))[: len(attacks)]
    kind_of = {"none": 1, "print": 0, "Printed_photo": 0, "replay": 2, "mask": 2}
    kinds = dict(zip(faces.keys, (kind_of[kind] for kind in faces.attack_types), strict=True))
    batch = balanced(faces)(0, WHOLE)
    assert batch.kind is not None
    assert batch.kind.tolist() == [kinds[key] for key in batch.key]
    assert set(batch.kind.tolist()) == {0, 1, 2}


def test_the_same_step_gives_the_same_batch():
    faces = make_faces()
    first, again = balanced(faces)(5, WHOLE), balanced(faces)(5, WHOLE)
    assert first.key == again.key
    assert torch.equal(first.image, again.image)
    assert balanced(faces)(6, WHOLE).key != first.key


def test_two_processes_share_the_batch_of_one():
    faces = make_faces()
    whole = balanced(faces)(2, WHOLE)
    for count in (2, 3):  # 16 faces: also uneven shares
        parts = [balanced(faces)(2, rows) for rows in split(16, count)]
        assert whole.key == [key for part in parts for key in part.key]
        for name in ("image", "cue", "label", "domain"):
            assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts])), name


def test_every_share_has_about_as_many_faces_of_every_cell():
    batches = balanced(make_faces())
    for rows in split(batches.size, 4):
        batch = batches(1, rows)
        assert sorted(zip(batch.domain.tolist(), batch.label.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_one_transform_moves_face_and_cue_together():
    faces = make_faces()
    flipped = 0
    for step in range(8):
        batch = balanced(faces, flip="shared", shift=2)(step, WHOLE)
        assert torch.equal(batch.image, batch.cue)
        still = balanced(faces, flip="none")(step, WHOLE)
        flipped += int((batch.image != still.image).flatten(1).any(1).sum())
    assert flipped > 0


def moves(pixels: np.ndarray, seen: torch.Tensor, most: int) -> list[tuple[bool, int, int]]:
    """Every mirroring and shift of a picture (H, W, 3) that gives what was seen."""
    found = []
    for mirrored in (False, True):
        for row in range(-most, most + 1):
            for column in range(-most, most + 1):
                moved = to_unit_batch(pixels[None], np.array([mirrored]), np.array([[row, column]]))
                if torch.equal(moved[0], seen):
                    found.append((mirrored, row, column))
    return found


def test_without_mirroring_and_shift_faces_are_as_they_lie():
    faces = make_faces()
    rows = {key: row for row, key in enumerate(faces.keys)}
    for step in range(3):
        batch = balanced(faces, flip="none")(step, WHOLE)
        still = to_unit_batch(faces.images[[rows[key] for key in batch.key]])
        assert torch.equal(batch.image, still)
        assert torch.equal(batch.cue, still)


def test_shifts_are_of_every_size_up_to_the_largest_in_both_directions():
    faces = make_faces()
    rows = {key: row for row, key in enumerate(faces.keys)}
    seen = []
    for step in range(3):
        batch = balanced(faces, shift=2)(step, WHOLE)
        for key, image in zip(batch.key, batch.image, strict=True):
            (move,) = moves(faces.images[rows[key]], image, 2)
            seen.append(move)
    mirrored, down, right = (list(column) for column in zip(*seen, strict=True))
    assert set(down) == set(right) == {-2, -1, 0, 1, 2}
    assert any(one != other for one, other in zip(down, right, strict=True))
    assert 0.3 < np.mean(mirrored) < 0.7


def test_independent_flips_part_face_and_cue_in_half_of_the_samples():
    faces = make_faces()
    apart = np.concatenate(
        [
            (batch.image != batch.cue).flatten(1).any(1).numpy()
            for batch in (balanced(faces, flip="independent")(step, WHOLE) for step in range(40))
        ]
    )
    assert 0.4 < apart.mean() < 0.6


def test_a_shift_repeats_the_edge():
    """Equal to looking up every pixel by its clamped place, also for shifts beyond the picture."""
    for rows in range(-5, 6):
        for columns in range(-6, 7):
            source = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
            row, column = (np.arange(4) + rows).clip(0, 3), (np.arange(5) + columns).clip(0, 4)
            moved = place_moved(np.empty_like(source), source, np.array([rows, columns]))
            assert np.array_equal(moved, source[row[:, None], column])
            assert torch.equal(
                to_unit_batch(source[None], offsets=np.array([[rows, columns]])), to_unit_batch(moved[None])
            )


class Views:
    views = 2

    def __len__(self):
        return 12

    def read(self, rows, views):
        latents = rows[:, None, None, None] + 100.0 * views[:, None, None, None]
        return np.broadcast_to(latents, (len(rows), 2, 3, 3)).astype(np.float32), np.ones((len(rows), 4, 5), np.float32)


def test_latent_batches_of_two_processes_are_the_halves_of_one():
    whole = LatentBatches(Views(), 8, 1000, seed=0)(4, WHOLE)
    parts = [LatentBatches(Views(), 8, 1000, seed=0)(4, rows) for rows in split(8, 2)]
    for name, value in whole.items():
        assert torch.equal(value, torch.cat([part[name] for part in parts])), name
    assert whole["timesteps"].min() >= 0
    assert whole["timesteps"].max() < 1000
    assert {int(value) // 100 for value in whole["latents"][:, 0, 0, 0]} <= {0, 1}


def test_a_share_of_the_conditions_is_dropped_and_nothing_else_changes():
    kept = LatentBatches(Views(), 64, 1000, seed=0)(1, WHOLE)
    assert "dropped" not in kept
    dropped = 0.0
    for step in range(4):
        batch = LatentBatches(Views(), 64, 1000, seed=0, condition_dropout=0.25)(step, WHOLE)
        dropped += batch["dropped"].float().mean().item() / 4
        if step == 1:
            assert all(torch.equal(batch[name], value) for name, value in kept.items())
    assert 0.15 < dropped < 0.35
    halves = [LatentBatches(Views(), 64, 1000, 0, 0.25)(1, rows)["dropped"] for rows in split(64, 2)]
    assert torch.equal(torch.cat(halves), LatentBatches(Views(), 64, 1000, 0, 0.25)(1, WHOLE)["dropped"])


def test_faces_come_in_an_order_of_their_own_and_noise_is_theirs():
    faces = make_faces()
    live = np.flatnonzero(faces.labels == 1)
    batches = LiveFaceBatches(faces, live, 8, seed=0, flip=False, train_timesteps=10)
    rows = {faces.images[row].tobytes(): row for row in live}
    seen = []
    for step in range(3):
        batch = batches(step, WHOLE)
        pixels = ((batch["image"] + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        seen += [rows[picture.tobytes()] for picture in pixels]
        assert batch["noise"].shape == batch["image"].shape
        assert batch["timesteps"].min() >= 0
        assert batch["timesteps"].max() < 10
    assert sorted(seen) == sorted(live)  # an epoch of 24 faces
    assert seen != sorted(seen)
    assert set(LiveFaceBatches(faces, live, 8, 0, flip=True)(0, WHOLE)) == {"image"}
    mirrored = [LiveFaceBatches(faces, live, 24, 0, flip)(0, WHOLE)["image"] for flip in (True, False)]
    assert 0.2 < (mirrored[0] != mirrored[1]).flatten(1).any(1).float().mean() < 0.8


def test_identity_batches_number_the_subjects():
    faces = make_faces()
    batches = IdentityBatches(faces, np.arange(len(faces)), 16, seed=0)
    assert batches.num_identities == len({(d, s) for d, s in zip(faces.domains, faces.subjects, strict=True)})
    batch = batches(0, WHOLE)
    assert batch["image"].shape == (16, 3, 8, 8)
    assert batch["identity"].max() < batches.num_identities
    # Mirrored in half of the draws, and the number is that of the face's person.
    mirrored = []
    for step in range(3):
        batch = batches(step, WHOLE)
        for image, number in zip(batch["image"], batch["identity"].tolist(), strict=True):
            own = [row for row in range(len(faces)) if moves(faces.images[row], image, 0)]
            assert [f"{faces.domains[row]}/{faces.subjects[row]}" for row in own] == [batches.identities[number]]
            mirrored.append(moves(faces.images[own[0]], image, 0)[0][0])
    assert 0.25 < np.mean(mirrored) < 0.75

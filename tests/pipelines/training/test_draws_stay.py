"""Every random draw of a training set beside the same draw made here from its named stream.

A run that is resumed, on another machine or in a later version, must go on with what it would have drawn.
"""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from test_batches import Picture, Views, balanced, make_faces
from training_parts import WHOLE

from pipelines.pixels import to_unit_batch
from pipelines.streams import stream
from pipelines.training import fas_aug
from pipelines.training.balanced import BalancedBatches, _interleaved
from pipelines.training.batches import IdentityBatches, LatentBatches, LiveFaceBatches, Order
from pipelines.training.fas_aug import OPERATORS, FasAug
from pipelines.training.pda import Pda
from pipelines.training.settings import FasAugSettings, PdaSettings

FACES = make_faces()
LIVE = np.flatnonzero(FACES.labels == 1)  # 24


def taken(name: str, count: int, step: int, size: int, seed: int = 3) -> np.ndarray:
    epochs = [stream(seed, name, number).permutation(count) for number in range(9)]
    return np.concatenate(epochs)[step * size :][:size]


def test_an_order_is_one_permutation_after_another():
    np.testing.assert_array_equal(Order(7, 3, "x").take(5, 12), taken("x", 7, 0, 17)[5:])


def test_faces_of_an_identity_are_drawn_from_their_streams():
    batch = IdentityBatches(FACES, LIVE, 10, 3)(2, WHOLE)
    rows = LIVE[taken("identity", 24, 2, 10)]
    flips = stream(3, "identity-flip", 2).random(10) < 0.5
    assert torch.equal(batch["image"], to_unit_batch(FACES.images[rows], flips))
    names = sorted({f"{FACES.domains[row]}/{FACES.subjects[row]}" for row in LIVE})
    assert [names[number] for number in batch["identity"]] == [
        f"{FACES.domains[row]}/{FACES.subjects[row]}" for row in rows
    ]


@pytest.mark.parametrize(("flip", "timesteps"), [(True, 0), (False, 10), (True, 1)])
def test_live_faces_are_drawn_from_their_streams(flip, timesteps):
    batch = LiveFaceBatches(FACES, LIVE, 10, 3, flip, timesteps)(2, WHOLE)
    rows, draws = LIVE[taken("live-faces", 24, 2, 10)], stream(3, "live-faces-draws", 2)
    flips = (draws.random(10) < 0.5) & flip
    assert torch.equal(batch["image"], to_unit_batch(FACES.images[rows], flips))
    assert batch["image"].is_contiguous()
    assert set(batch) == ({"image", "noise", "timesteps"} if timesteps else {"image"})
    if timesteps:
        assert torch.equal(batch["timesteps"], torch.from_numpy(draws.integers(0, timesteps, 10)))
        noise = draws.standard_normal((10, 3, 8, 8), dtype=np.float32)
        assert torch.equal(batch["noise"], torch.from_numpy(noise))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_latents_are_drawn_from_their_streams(dropout):
    batch = LatentBatches(Views(), 8, 100, 3, dropout)(2, WHOLE)
    draws = stream(3, "denoise", 2)
    views, timesteps = draws.integers(0, 2, 8), draws.integers(0, 100, 8)
    assert batch["latents"][:, 0, 0, 0].tolist() == (taken("latents", 12, 2, 8) + 100 * views).tolist()
    assert batch["timesteps"].tolist() == timesteps.tolist()
    assert torch.equal(batch["noise"], torch.from_numpy(draws.standard_normal((8, 2, 3, 3), dtype=np.float32)))
    if dropout:
        assert batch["dropped"].tolist() == (stream(3, "condition-dropout", 2).random(8) < dropout).tolist()
    assert ("dropped" in batch) == bool(dropout)


@pytest.mark.parametrize("flip", ["shared", "independent", "none"])
@pytest.mark.parametrize("shift", [0, 2])
def test_a_detectors_faces_are_drawn_from_their_streams(flip, shift):
    """The cue is the picture itself. The cells lie in turn."""
    batch = balanced(FACES, seed=3, flip=flip, shift=shift)(2, WHOLE)
    cells = [(domain, label) for domain in "ab" for label in (1, 0)]
    rows = np.empty(16, dtype=np.int64)
    for number, (domain, label) in enumerate(cells):
        members = np.flatnonzero((FACES.domains == domain) & (FACES.labels == label))
        rows[number::4] = members[taken(f"{domain}/{label}", 12, 2, 4)]
    draws = stream(3, "augment", 2, 0)
    flips = draws.random((2, 16)) < (0.0 if flip == "none" else 0.5)
    offsets = draws.integers(-2, 3, (16, 2)) if shift else None
    assert torch.equal(batch.image, to_unit_batch(FACES.images[rows], flips[0], offsets))
    assert torch.equal(batch.cue, to_unit_batch(FACES.images[rows], flips[0 if flip == "shared" else 1], offsets))
    assert batch.key == list(FACES.keys[rows])
    assert batch.domain.tolist() == [0, 0, 1, 1] * 4
    assert batch.label.tolist() == [1, 0] * 8


@pytest.mark.parametrize(
    ("counts", "cells", "places"),
    [
        ([2, 1], [0, 1, 0], [0, 0, 1]),
        ([1, 2, 4], [2, 1, 2, 0, 2, 1, 2], [0, 0, 1, 0, 2, 1, 3]),
    ],
)
def test_cells_take_turns(counts, cells, places):
    """By (place + 1/2) / count: cells of 4, 2 and 1 lie like the lines of a ruler."""
    found = _interleaved(counts)
    assert [column.tolist() for column in found] == [cells, places]


def test_a_pass_is_counted_by_domain_and_label():
    """Five of the twelve faces of each cell a step: the third step ends the first pass."""

    class Plan:
        flips = np.zeros(20, dtype=bool)

    class Spy(FasAug):
        def plan(self, step, domains, passes):
            self.seen = domains.tolist(), passes.reshape(5, 4).tolist()
            return Plan()

    spy = Spy(FasAugSettings(), 0)
    batches = BalancedBatches(FACES, np.arange(48), ["a", "b"], None, 5, 0, fas_aug=spy)
    for step, passes in ((0, [0] * 5), (2, [0, 0, 1, 1, 1]), (3, [1] * 5)):
        batches._changes(step)
        assert spy.seen == ([0, 0, 1, 1] * 5, [[number] * 4 for number in passes])


@pytest.mark.parametrize("operators", [1, 2])
def test_changes_of_faces_are_drawn_from_their_streams(operators):
    domains, passes = np.arange(12) % 3, np.arange(12) // 6
    free = FasAug(FasAugSettings(probability=0.6, operators=operators, sub_policies=0), 3).plan(5, domains, passes)
    draws = stream(3, "fas-aug", 5)
    touched = draws.random(12) < 0.6
    np.testing.assert_array_equal(free.operators, draws.integers(8, size=(12, operators)))
    np.testing.assert_array_equal(free.levels, draws.integers(10, size=(12, operators)) * touched[:, None])
    fixed = FasAug(FasAugSettings(probability=0.6, operators=operators, sub_policies=4), 3).plan(5, domains, passes)
    draws = stream(3, "fas-aug", 5)
    touched, chosen = draws.random(12) < 0.6, draws.integers(4, size=12)
    for face in range(12):
        table = stream(3, "fas-aug-sub-policies", face % 3, face // 6)
        numbers, levels = (table.integers(most, size=(4, operators))[chosen[face]] for most in (8, 10))
        assert fixed.operators[face].tolist() == numbers.tolist()
        assert fixed.levels[face].tolist() == (levels * touched[face]).tolist()


def test_an_operator_is_drawn_from_the_stream_of_its_face(monkeypatch):
    """Of screens, the spacing is drawn evenly on a logarithmic scale."""
    seen = []
    monkeypatch.setattr(fas_aug, "screen", lambda *given: seen.append(given) or np.zeros((24, 24, 3), np.uint8))
    plan = fas_aug.FasAugPlan(np.full((4, 1), list(OPERATORS).index("moire")), np.array([[0], [3], [9], [3]]))
    faces = np.full((3, 24, 24, 3), 200, np.uint8)
    maker = FasAug(FasAugSettings(), 3)
    restoring = maker.apply(plan, 5, np.array([1, 2, 0]), faces)
    expected = []
    for position in (1, 2):
        rng = stream(3, "fas-aug", 5, position)
        layout = list(fas_aug.SCREENS)[int(rng.integers(len(fas_aug.SCREENS)))]
        pitch = math.exp(rng.uniform(math.log(0.75), math.log(3.0)))
        expected.append((layout, 24, pitch, rng.uniform(-0.35, 0.35), (rng.uniform(0, 1), rng.uniform(0, 1))))
    assert seen == expected
    strengths = [0.01 + 3 / 9 * 0.29, 0.3, 0.0]
    assert faces[:, 0, 0, 0].tolist() == [int(200 - 200 * strength) for strength in strengths]
    assert all((change(faces[0]) == faces[0]).all() for change in restoring)


def test_mixtures_are_drawn_from_their_stream():
    labels = np.arange(14) % 2
    plan = Pda(PdaSettings(probability=0.6, ratio=0.3), 4, 3).plan(5, labels)
    draws = stream(3, "pda", 5)
    receives = (draws.random(14) < 0.6) & (labels == 0)
    order = draws.random((14, 16)).argsort(axis=1)
    givers = np.flatnonzero(labels)[draws.integers(7, size=14)]
    np.testing.assert_array_equal(plan.partners, np.where(receives, givers, -1))
    np.testing.assert_array_equal(plan.given, (order < 5) & receives[:, None])  # 0.3 of 16 is 4.8
    own = np.array([2, 4, 6])
    assert plan.with_partners(own).tolist() == [2, 4, 6, *sorted(set(givers[own[receives[own]]]) - set(own))]


def test_a_map_is_shifted_and_mirrored_as_its_face():
    class Rows:
        def read(self, rows):
            return FACES.images[rows][..., 0].astype(np.float32)

    faces = replace(FACES, images=np.repeat(FACES.images[..., :1], 3, axis=3))
    batch = BalancedBatches(faces, np.arange(48), ["a"], Picture(faces), 2, 0, shift=3, maps={"mask": Rows()})(1, WHOLE)
    torch.testing.assert_close(batch.mask / 127.5 - 1, batch.image[:, :1], atol=1e-6, rtol=0)
    assert batch.mask.shape == (4, 1, 8, 8)


def drawn(name: str, strength: float, face, seed: int = 3):
    return OPERATORS[name].draw(strength, stream(seed, name))(face)


FACE = np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)


def test_colours_are_of_spaces_and_presses_drawn_in_turn():
    spaces, presses = tuple(fas_aug.RGB_SPACES), tuple(fas_aug.PRESSES)
    for seed in range(4):
        rng = stream(seed, "colour_diversity")
        source, target = (spaces[int(rng.integers(len(spaces)))] for _ in range(2))
        expected = fas_aug.between_spaces(FACE, source, target)
        np.testing.assert_array_equal(drawn("colour_diversity", 1.0, FACE, seed), expected)
        rng = stream(seed, "colour_distortion")
        target, press = spaces[int(rng.integers(len(spaces)))], presses[int(rng.integers(len(presses)))]
        np.testing.assert_array_equal(drawn("colour_distortion", 1.0, FACE, seed), fas_aug.printed(FACE, press, target))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_scene_and_its_window_are_drawn_in_turn(monkeypatch, seed):
    shown = np.random.default_rng(2).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    numbers = []
    monkeypatch.setattr(fas_aug, "scene", lambda number: numbers.append(number) or shown)
    rng = stream(seed, "reflection")
    number, across, down = int(rng.integers(90)), rng.random(), rng.random()
    part = shown[int(down * 13) :][:48, int(across * 3) :][:, :48]
    small = np.asarray(Image.fromarray(np.ascontiguousarray(part)).resize((24, 24)))
    expected = np.asarray(Image.blend(Image.fromarray(FACE), Image.fromarray(small), 0.2))
    np.testing.assert_array_equal(drawn("reflection", 0.2, FACE, seed), expected)
    assert numbers == [number]


@pytest.mark.parametrize(
    ("length", "place", "rows"),
    [(4, 0.0, (0, 4)), (4, 0.999, (6, 10)), (4, 0.5, (3, 7)), (10, 0.999, (0, 10)), (12, 0.5, (0, 10))],
)
def test_windows_lie_anywhere_within(length, place, rows):
    picture = np.arange(100).reshape(10, 10)
    np.testing.assert_array_equal(fas_aug._window(picture, length, place, 0), picture[slice(*rows)])
    np.testing.assert_array_equal(fas_aug._window(picture, length, place, 1), picture[:, slice(*rows)])


def test_the_grain_of_a_large_face_is_a_tile_enlarged():
    face = np.zeros((258, 258, 3), np.uint8)
    rng = stream(3, "blue_noise_halftone")
    row, column, turns = (int(rng.integers(most)) for most in (256, 256, 4))
    tile = np.roll(np.rot90(fas_aug.blue_noise(), turns), (row, column), (0, 1))
    grey = np.asarray(Image.fromarray(tile).resize((258, 258)))[..., None].repeat(3, axis=2)
    expected = np.asarray(Image.blend(Image.fromarray(face), Image.fromarray(grey), 0.4))
    np.testing.assert_array_equal(drawn("blue_noise_halftone", 0.4, face), expected)


@pytest.mark.parametrize(("strength", "small"), [(1e-4, 10**7), (1.0, 1_666_666), (0.5, 5_833_749)])
def test_a_face_is_shrunk_to_a_sixth_at_most_in_two_drawn_ways(monkeypatch, strength, small):
    """Of a face of ten million pixels a side, the lengths to the pixel; of one pixel, one is left."""
    calls = []

    class Wide:
        def __init__(self, side):
            self.side = side

        def __len__(self):
            return self.side

    def resize(face, size, interpolation):
        calls.append((size, interpolation))
        return Wide(size[0])

    monkeypatch.setattr(fas_aug.cv2, "resize", resize)
    drawn("low_resolution", strength, Wide(10**7))
    drawn("low_resolution", 1.0, Wide(1))
    rng = stream(3, "low_resolution")
    shrinking = (cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_LANCZOS4, cv2.INTER_NEAREST)
    ways = shrinking[int(rng.integers(5))], (cv2.INTER_AREA, cv2.INTER_NEAREST)[int(rng.integers(2))]
    assert [way for _, way in calls] == [*ways, *ways]
    assert [size for size, _ in calls[1:]] == [(10**7,) * 2, (1, 1), (1, 1)]
    assert abs(calls[0][0][0] - small) <= 1


def test_the_least_trembling_moves_nothing():
    np.testing.assert_array_equal(drawn("hand_trembling", 1.0, FACE), FACE)


def test_the_grey_of_a_curve_is_spread_over_nine_dots():
    wide = np.zeros((6, 6, 3), np.uint8)
    wide[:, 3:] = 90
    dots = fas_aug.curve_dots(wide)
    assert not dots[:, :3].any()
    assert (dots[:, 3:] == 255).all()
    assert fas_aug.curve_dots(np.full((2, 2, 3), 9, np.uint8)).shape == (2, 2)

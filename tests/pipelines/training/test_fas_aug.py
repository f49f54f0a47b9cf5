"""FAS-Aug: every operator against a slow computation, how often labels flip, and what is done to a restoration."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from test_batches import make_faces
from training_parts import WHOLE

from pipelines.cues.reader import CueReader
from pipelines.streams import stream
from pipelines.synthetic.textures import blue_noise, screen
from pipelines.training import fas_aug
from pipelines.training.balanced import BalancedBatches
from pipelines.training.fas_aug import OPERATORS, FasAug, curve_dots
from pipelines.training.parallel import split
from pipelines.training.settings import FasAugSettings


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    waves = np.add.outer(np.linspace(0, 5, 48), np.linspace(0, 3, 48))[..., None] + [0, 1, 2]
    noise = np.random.default_rng(0).normal(0, 20, waves.shape)
    return np.clip(128 + 90 * np.sin(waves) + noise, 0, 255).astype(np.uint8)


def changed(name: str, level: int, face: np.ndarray, seed: int = 0) -> np.ndarray:
    operator = OPERATORS[name]
    return operator.draw(operator.strength(level), stream(seed, name))(face)


def test_ranges_and_flips_are_those_of_the_public_code():
    assert {name: (one.low, one.high, one.flips) for name, one in OPERATORS.items()} == {
        "colour_diversity": (0.1, 10, False),
        "colour_distortion": (0.1, 10, True),
        "reflection": (0.01, 0.2, True),
        "blue_noise_halftone": (0.01, 0.4, True),
        "moire": (0.01, 0.3, True),
        "curve_halftone": (0.01, 0.2, True),
        "hand_trembling": (1, 16, False),
        "low_resolution": (0.01, 0.9, False),
    }
    strengths = [OPERATORS["moire"].strength(level) for level in range(10)]
    np.testing.assert_allclose(strengths, np.linspace(0.01, 0.3, 10))


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_changes_a_face_alike_from_equal_seeds(name, face):
    before = face.copy()
    first = changed(name, 9, face)
    assert (first.shape, first.dtype) == (face.shape, np.uint8)
    np.testing.assert_array_equal(first, changed(name, 9, face))
    np.testing.assert_array_equal(face, before)
    assert any((changed(name, 9, face, seed) != face).any() for seed in range(3))


def blended(face: np.ndarray, texture: np.ndarray, strength: float) -> np.ndarray:
    """In float32, and without the fraction, as Pillow does it."""
    ours, theirs = face.astype(np.float32), texture.astype(np.float32)
    return np.floor(ours + np.float32(strength) * (theirs - ours))


@pytest.mark.parametrize("level", [1, 9])
def test_textures_are_blended(level, face, monkeypatch):
    for name, texture in {
        "blue_noise_halftone": None,
        "moire": screen("rgb", 48, 2.0, 0.1, (0, 0)),
    }.items():
        if texture is None:
            rng = stream(0, name)
            row, column, turns = (int(rng.integers(most)) for most in (256, 256, 4))
            noise = np.rot90(blue_noise(), turns)
            places = itertools.product(range(48), range(48))
            texture = np.array([noise[(r - row) % 256, (c - column) % 256] for r, c in places]).reshape(48, 48, 1)
        else:
            monkeypatch.setattr(fas_aug, "screen", lambda *_, shown=texture: shown)
        expected = blended(face, texture, OPERATORS[name].strength(level))
        assert np.abs(changed(name, level, face) - expected).max() <= 1
        assert (changed(name, level, face) == expected).mean() > 0.99


def test_a_reflection_is_a_part_of_a_scene_at_most_twice_as_large(face, monkeypatch):
    shown = np.zeros((288, 384, 3), np.uint8)
    shown[..., 0], shown[..., 1] = np.arange(288)[:, None] // 2, np.arange(384)[None] // 2
    monkeypatch.setattr(fas_aug, "scene", lambda number: shown)
    starts = set()
    for seed in range(20):
        part = changed("reflection", 9, np.zeros((48, 48, 3), np.uint8), seed).astype(float) / 0.2
        for axis in (0, 1):
            line = part[..., axis].mean(axis=1 - axis)
            # 96 pixels of the scene, whose values rise by half of one for each.
            assert 36 < line[-2] - line[1] < 54
            starts.add((axis, round(line[1])))
    assert len(starts) > 10


def test_the_dots_of_the_curve_light_up_in_the_published_order():
    assert fas_aug.DOTS == ((0, 1), (2, 2), (0, 0), (2, 0), (0, 2), (1, 2), (2, 1), (1, 0), (1, 1))
    ramp = np.repeat(np.repeat(np.arange(10, dtype=np.uint8)[None] * 28, 10, axis=0), 3, axis=0).repeat(3, axis=1)
    dots = curve_dots(np.repeat(ramp[..., None], 3, axis=2))
    for level in range(10):
        cell = dots[:3, 3 * level : 3 * level + 3]
        lit = {(row, column) for row in range(3) for column in range(3) if cell[row, column] == 255}
        assert lit == set(fas_aug.DOTS[:level])
        assert set(cell.ravel().tolist()) <= {0, 255}


def test_curve_halftone_is_a_slow_loop_over_cells(face):
    small = cv2.resize(face, (16, 16))
    grey = np.round(small @ np.array([0.299, 0.587, 0.114]))
    dots = np.zeros((48, 48, 3))
    for row, column in itertools.product(range(16), range(16)):
        lit = math.floor((grey[row, column] - grey.min()) * 9 / (grey.max() - grey.min()))
        for down, right in fas_aug.DOTS[:lit]:
            dots[3 * row + down, 3 * column + right] = 255
    expected = blended(face, dots, OPERATORS["curve_halftone"].strength(9))
    assert (np.abs(changed("curve_halftone", 9, face) - expected) <= 1).mean() > 0.98  # grey may round either way
    flat = curve_dots(np.full((48, 48, 3), 7, np.uint8))
    assert not flat.any()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("level", [4, 9])
def test_trembling_is_the_mean_along_a_line(level, seed, face):
    large = np.pad(face, ((0, 80), (0, 80), (0, 0)), mode="wrap")  # 128: strength 16 is 8 pixels
    down, right = fas_aug._DIRECTIONS[int(stream(seed, "hand_trembling").integers(4))]
    length = int((1 + level / 9 * 15) / 2)
    found = changed("hand_trembling", level, large, seed)
    for row, column in itertools.product((0, 1, 60, 126, 127), (0, 5, 64, 127)):
        total = np.zeros(3)
        for step in range(-(length // 2), length - length // 2):
            at = [position + step * by for position, by in ((row, down), (column, right))]
            at = [254 - one if one > 127 else abs(one) for one in at]
            total += large[at[0], at[1]]
        np.testing.assert_allclose(found[row, column], total / length, atol=0.501)


def test_trembling_is_opencvs_filter_where_lengths_are_odd(face):
    found = changed("hand_trembling", 9, np.tile(face, (6, 6, 1))[:256, :256])  # 16 pixels at 256
    assert found.shape == (256, 256, 3)
    large = np.tile(face, (6, 6, 1))[:240, :240]  # 15 pixels
    down, right = fas_aug._DIRECTIONS[int(stream(1, "hand_trembling").integers(4))]
    kernel = {(0, 1): np.zeros((15, 15)), (1, 0): np.zeros((15, 15)), (1, 1): np.eye(15), (1, -1): np.eye(15)[::-1]}
    kernel[0, 1][7], kernel[1, 0][:, 7] = 1, 1
    expected = cv2.filter2D(large, -1, kernel[down, right] / 15)
    assert np.abs(changed("hand_trembling", 9, large, 1).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("level", "small"), [(1, 43), (5, 27), (9, 12)])
def test_low_resolution_shrinks_and_enlarges(level, small, face, monkeypatch):
    """Side x (1 - 0.8334 (a - 0.0001)): .909, .580 and .250 of 48 for a = .109, .504 and .9."""
    sides = []
    resize = cv2.resize
    monkeypatch.setattr(cv2, "resize", lambda *args, **more: sides.append(args[1]) or resize(*args, **more))
    ways = {tuple(changed("low_resolution", level, face, seed)[3, 3].tolist()) for seed in range(40)}
    assert set(sides) == {(small, small), (48, 48)}
    assert len(ways) > 3
    nearest = [changed("low_resolution", level, face, seed) for seed in range(40)]
    index = (np.arange(48) * small / 48).astype(int)
    from_index = (np.arange(small) * 48 / small).astype(int)
    slow = face[from_index][:, from_index][index][:, index]
    assert any(np.array_equal(one, slow) for one in nearest)


def plans(steps: int = 400, **settings):
    maker = FasAug(FasAugSettings(**settings), 0)
    return [maker.plan(step, np.arange(60) % 3, np.full(60, step // 4)) for step in range(steps)]


def test_labels_flip_as_often_as_counted():
    """1 - (1 - 5/8 9/10)^2 = .81 of the faces that two operators change; 5/8 9/10 with one; half as many of half."""
    for settings, expected in (
        ({"probability": 1.0}, 1 - (1 - 5 / 8 * 9 / 10) ** 2),
        ({"probability": 1.0, "sub_policies": 0}, 1 - (1 - 5 / 8 * 9 / 10) ** 2),
        ({"probability": 1.0, "operators": 1, "sub_policies": 0}, 5 / 8 * 9 / 10),
        ({"probability": 0.2, "operators": 1, "sub_policies": 0}, 0.2 * 5 / 8 * 9 / 10),
    ):
        found = np.mean([plan.flips.mean() for plan in plans(**settings)])
        assert found == pytest.approx(expected, abs=0.02), settings


def test_operators_and_strengths_are_uniform_and_a_strength_of_zero_is_nothing(face):
    drawn = plans(probability=1.0, sub_policies=0)
    for values, count in (
        (np.stack([one.operators for one in drawn]), 8),
        (np.stack([one.levels for one in drawn]), 10),
    ):
        shares = np.bincount(values.ravel(), minlength=count) / values.size
        np.testing.assert_allclose(shares, 1 / count, atol=0.01)
    maker, plan = FasAug(FasAugSettings(), 0), drawn[0]
    nothing = replace(plan, levels=np.zeros_like(plan.levels))
    assert not nothing.flips.any()
    faces = np.stack([face] * 60)
    maker.apply(nothing, 0, np.arange(60), faces)
    assert (faces == face).all()


def test_a_domain_has_five_sub_policies_in_a_pass():
    drawn = plans(steps=8, probability=1.0)
    for number in range(2):
        rows = np.concatenate([np.concatenate([one.operators, one.levels], axis=1) for one in drawn[4 * number :][:4]])
        for domain in range(3):
            assert 2 <= len(np.unique(rows[np.arange(240) % 3 == domain], axis=0)) <= 5
        assert len(np.unique(rows, axis=0)) > 5
    assert sum((one.levels == 0).all(axis=1).sum() for one in plans(steps=8, probability=0.0)) == 480


def batches(cue: CueReader | None = None, **settings) -> BalancedBatches:
    faces = large_faces()
    changes = FasAug(FasAugSettings(**{"probability": 0.7, **settings}), 0)
    return BalancedBatches(faces, np.arange(len(faces)), ["a", "b"], cue, 4, 0, shift=1, fas_aug=changes)


def large_faces():
    faces = make_faces()
    images = np.random.default_rng(1).integers(0, 256, (len(faces), 24, 24, 3), dtype=np.uint8)
    return replace(faces, images=cv2.blur(images.reshape(-1, 24, 3), (3, 3)).reshape(images.shape))


def test_the_loss_sees_flipped_labels_and_the_domain_stays():
    faces = large_faces()
    before = dict(zip(faces.keys, faces.labels, strict=True))
    flipped = 0
    for step in range(6):
        batch = batches()(step, WHOLE)
        for key, label, domain in zip(batch.key, batch.label.tolist(), batch.domain.tolist(), strict=True):
            assert label in (before[key], 0)
            flipped += label != before[key]
            assert key.startswith("ab"[domain])
    assert 0.3 < flipped / (6 * 8) < 0.8  # .7 x .81 of the live faces


def test_processes_share_the_changes_of_one():
    whole = batches()(2, WHOLE)
    assert (whole.image != batches(probability=0.0)(2, WHOLE).image).any()
    for count in (2, 3):
        parts = [batches()(2, rows) for rows in split(16, count)]
        for name in ("image", "label"):
            assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts])), name


def test_what_keeps_the_label_moves_the_restoration_too_and_a_trace_stays_in_the_cue():
    """With the face as its own restoration, the residual is zero until something is added to the face alone."""
    faces = large_faces()
    reader = CueReader("dfg", faces.keys, faces.videos, faces.images, faces.images, normalize="none")
    seen = set()
    for step in range(20):
        made = batches(reader, operators=1, sub_policies=0)
        plan = made._changes(step)
        batch = made(step, WHOLE)
        for number, level, cue in zip(plan.operators[:, 0], plan.levels[:, 0], batch.cue, strict=True):
            name = list(OPERATORS)[number]
            if level == 0 or not OPERATORS[name].flips:
                assert not cue.any(), name
                seen.add((name, level > 0))
            elif level > 3:
                assert cue.abs().max() > 0.02, name
                seen.add((name, True))
    assert {name for name, is_changed in seen if is_changed} == set(OPERATORS)

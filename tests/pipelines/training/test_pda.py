"""PDA: patches of live faces in attacks, in picture and cue alike, for any number of processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_batches import Picture, make_faces
from training_parts import WHOLE

from pipelines.training.balanced import BalancedBatches
from pipelines.training.fas_aug import FasAug
from pipelines.training.parallel import split
from pipelines.training.pda import Pda
from pipelines.training.settings import FasAugSettings, PdaSettings


def batches(pda: Pda | None, **options) -> BalancedBatches:
    faces = make_faces()
    return BalancedBatches(faces, np.arange(len(faces)), ["a", "b"], Picture(faces), 4, 0, shift=1, pda=pda, **options)


def mixing(probability: float = 0.7, ratio: float = 0.25, grid: int = 4) -> Pda:
    return Pda(PdaSettings(probability=probability, ratio=ratio), grid, 0)


def test_patches_of_attacks_are_those_of_a_live_face_in_place():
    """A slow loop over the patches of every face: which live face gave them all, and their labels."""
    mixed = 0
    for step in range(4):
        plain, batch = batches(None)(step, WHOLE), batches(mixing())(step, WHOLE)
        assert plain.patches is None
        assert torch.equal(plain.label, batch.label)
        assert torch.equal(batch.cue, batch.image)
        live = (plain.label == 1).nonzero().flatten().tolist()
        for face, label in enumerate(plain.label.tolist()):
            labels, givers = batch.patches[face].reshape(4, 4), set(live)
            for row in range(4):
                for column in range(4):
                    at = (slice(None), slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))
                    if label == 1 or labels[row, column] == 0:
                        assert torch.equal(batch.image[face][at], plain.image[face][at])
                        assert labels[row, column] == label
                    else:
                        givers = {one for one in givers if torch.equal(batch.image[face][at], plain.image[one][at])}
            if label == 0:
                assert labels.sum() in (0, 4)  # a quarter of 16
                assert len(givers) == (1 if labels.any() else len(live))
                mixed += int(labels.any())
    assert 12 < mixed < 32  # 70 % of 32


def test_processes_share_the_mixtures_of_one():
    changes = {"fas_aug": FasAug(FasAugSettings(probability=0.5), 0)}
    for step in range(3):
        whole = batches(mixing(), **changes)(step, WHOLE)
        assert whole.patches.shape == (16, 16)
        assert (whole.patches != whole.label[:, None]).any()
        for count in (2, 3, 5):
            parts = [batches(mixing(), **changes)(step, rows) for rows in split(16, count)]
            assert whole.key == [key for part in parts for key in part.key]
            for name in ("image", "cue", "label", "domain", "patches"):
                assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts])), name


def test_a_face_that_became_an_attack_gives_no_patches():
    pda = mixing(probability=1.0)
    for step in range(20):
        labels = np.arange(10) % 2
        plan = pda.plan(step, labels)
        assert (labels[plan.partners[labels == 0]] == 1).all()
        assert (plan.partners[labels == 1] == -1).all()
        assert plan.given.sum(axis=1).tolist() == [4, 0] * 5
    nobody = pda.plan(0, np.zeros(10, dtype=np.int64))
    assert (nobody.partners == -1).all()
    assert not nobody.given.any()


def test_attacks_are_mixed_as_often_as_asked_and_every_live_face_and_patch_takes_its_turn():
    pda, labels = mixing(probability=0.2), np.arange(40) % 2
    plans = [pda.plan(step, labels) for step in range(500)]
    assert np.mean([(one.partners[::2] >= 0).mean() for one in plans]) == pytest.approx(0.2, abs=0.02)
    givers = np.concatenate([one.partners[one.partners >= 0] for one in plans])
    assert np.bincount(givers, minlength=40)[1::2].min() > 60  # 100 expected
    patches = np.concatenate([one.given[one.partners >= 0] for one in plans]).mean(axis=0)
    np.testing.assert_allclose(patches, 0.25, atol=0.04)


def test_a_pixel_belongs_to_the_patch_that_holds_its_centre():
    pda = Pda(PdaSettings(), 14, 0)
    taken = pda._pixels(np.arange(196) == 15, 256, 256)  # row 1, column 1
    expected = [number for number in range(256) if 256 / 14 <= number + 0.5 < 512 / 14]
    assert taken.any(dim=0).nonzero().flatten().tolist() == expected
    assert taken.any(dim=1).nonzero().flatten().tolist() == expected
    assert int(pda._pixels(np.ones(196, bool), 256, 256).sum()) == 256 * 256


def test_the_ratio_leaves_both_kinds_of_patches():
    assert Pda(PdaSettings(ratio=0.001), 4, 0).count == 1
    assert Pda(PdaSettings(ratio=0.999), 4, 0).count == 15
    assert Pda(PdaSettings(grid=7), 4, 0).grid == 7

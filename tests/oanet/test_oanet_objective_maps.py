"""Depth, auxiliary supervision and label smoothing: losses against slow loops, targets, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from oanet.batch import FaceBatch
from oanet.detectors import Detector, build_detector
from oanet.objectives import build_objective
from oanet.objectives.auxiliary import mask_loss
from oanet.objectives.depth import contrastive_depth_loss, depth_target, face_ellipse

MakeBatch = Callable[..., FaceBatch]


def auxiliary(*maps: str) -> Detector:
    return build_detector("auxiliary", preset="tiny", maps=list(maps))


def slow_contrastive_depth(predicted: torch.Tensor, target: torch.Tensor) -> float:
    """Place by place and neighbour by neighbour."""
    total, count = 0.0, 0
    faces, _, height, width = predicted.shape
    for face in range(faces):
        for i in range(1, height - 1):
            for j in range(1, width - 1):
                for down in (-1, 0, 1):
                    for right in (-1, 0, 1):
                        if down == right == 0:
                            continue
                        one, other = (
                            (m[face, 0, i + down, j + right] - m[face, 0, i, j]).item() for m in (predicted, target)
                        )
                        total, count = total + (one - other) ** 2, count + 1
    return total / count


def test_contrastive_depth_equals_the_slow_loops() -> None:
    predicted, target = torch.rand(2, 1, 5, 6), torch.rand(2, 1, 5, 6)
    expected = slow_contrastive_depth(predicted, target)
    assert contrastive_depth_loss(predicted, target).item() == pytest.approx(expected, rel=1e-5)


def test_contrastive_depth_sees_relief_and_not_level() -> None:
    target = torch.rand(2, 1, 8, 8)
    assert contrastive_depth_loss(target + 0.3, target).item() == pytest.approx(0, abs=1e-12)
    # One raised place in the middle of 3x3: all eight differences are off by its height.
    bump = torch.zeros(1, 1, 3, 3)
    bump[0, 0, 1, 1] = 0.5
    assert contrastive_depth_loss(bump, torch.zeros(1, 1, 3, 3)).item() == pytest.approx(0.25)


@pytest.mark.parametrize("side", [32, 56, 64, 80, 100, 112, 128, 224, 250, 256])
def test_resized_targets_stay_in_the_unit_range(make_batch: MakeBatch, side: int) -> None:
    """Antialiasing gives 1 + 1e-7 where a map is one, which binary cross-entropy refuses: on CUDA by an assertion."""
    ones = torch.ones(2, 1, side, side)
    batch = replace(make_batch(2, side=8, labels=[0, 1]), depth=ones, reflection=ones, mask=ones)
    reflection = build_objective("auxiliary", auxiliary("reflection"), 1, lambda_depth=0.0, lambda_reflection=1.0)
    for size in (8, 14, 16, 32):
        for target in (depth_target(batch, size), reflection._reflection(batch, size)):  # type: ignore[operator]
            assert target.max() == pytest.approx(1)
            assert target.max() <= 1
        mask_loss(torch.full((2, 1, size, size), 0.5), batch)


def test_pseudo_depth_is_one_in_a_live_face_and_zero_in_an_attack(make_batch: MakeBatch) -> None:
    batch = make_batch(4)
    target = depth_target(batch, 32)
    assert target.shape == (4, 1, 32, 32)
    assert not target[batch.label == 0].any()
    live = target[batch.label == 1][0, 0]
    assert live[16, 16] == 1
    assert live[0, 0] == 0
    assert face_ellipse(4)[0, 0].tolist() == [[0, 1, 1, 0]] * 4  # x at a quarter and three quarters of 1, of 0.76
    # The ellipse's area is pi a b of a square of side 2.
    assert face_ellipse(256).mean().item() == pytest.approx(math.pi * 0.76 * 0.92 / 4, abs=2e-3)


def test_given_depth_comes_before_masks_and_masks_before_the_ellipse(make_batch: MakeBatch) -> None:
    batch = make_batch(4)
    mask = torch.zeros(4, 1, 64, 64)
    mask[:, :, :, :32] = 1
    with_mask = replace(batch, mask=mask)
    assert depth_target(with_mask, 64)[1].equal(mask[1])
    depth = torch.rand(4, 1, 32, 32)
    with_depth = replace(with_mask, depth=depth)
    assert depth_target(with_depth, 32)[1].equal(depth[1])
    assert not depth_target(with_depth, 32)[0].any()
    coarse = depth_target(with_depth, 16)
    assert coarse.shape == (4, 1, 16, 16)
    assert coarse[1].mean().item() == pytest.approx(depth[1].mean().item(), abs=0.02)


def test_depth_objective_is_the_sum_of_its_parts(make_batch: MakeBatch) -> None:
    batch = make_batch(2)
    for name, cross_entropy in (("cdcn", 0.0), ("auxiliary", 1.0)):
        objective = build_objective("depth", build_detector(name, preset="tiny"), 3, lambda_contrastive=0.5).eval()
        result = objective(batch, 0.5)
        predicted = result["output"].maps["depth"].detach()
        target = depth_target(batch, predicted.shape[-1])
        depth = (predicted - target).square().mean().item()
        contrast = slow_contrastive_depth(predicted, target)
        entropy = F.cross_entropy(result["output"].logits, batch.label).item()
        expected = depth + 0.5 * contrast + cross_entropy * entropy
        assert result["loss"].item() == pytest.approx(expected, rel=1e-4), name


def test_auxiliary_is_the_weighted_sum_of_any_subset(make_batch: MakeBatch) -> None:
    reflection, mask = torch.rand(6, 1, 64, 64), (torch.rand(6, 1, 64, 64) > 0.5).float()
    batch = replace(make_batch(6), reflection=reflection, mask=mask)
    weights: dict[str, Any] = {
        "lambda_cross_entropy": 0.5,
        "lambda_depth": 2.0,
        "lambda_reflection": 0.3,
        "lambda_mask": 0.7,
    }
    objective = build_objective("auxiliary", auxiliary("depth", "reflection", "mask"), 3, lambda_domain=0.1, **weights)
    assert objective.needed_maps == ("mask", "reflection")
    result = objective.eval()(batch, 0.5)
    parts = {name: value.item() for name, value in result.items() if name not in ("loss", "output")}
    maps = result["output"].maps
    attack = (batch.label == 0).view(-1, 1, 1, 1)
    small = F.interpolate(reflection, size=(16, 16), mode="bilinear", antialias=True) * attack
    assert parts["reflection"] == pytest.approx((maps["reflection"] - small).square().mean().item(), rel=1e-4)
    given = F.interpolate(mask, size=(16, 16), mode="bilinear", antialias=True)
    entropy = -(given * maps["mask"].log() + (1 - given) * (1 - maps["mask"]).log()).mean().item()
    assert parts["mask"] == pytest.approx(entropy, rel=1e-4)
    total = (
        0.5 * parts["cross_entropy"]
        + 2.0 * (parts["depth"] + parts["contrastive_depth"])
        + 0.3 * parts["reflection"]
        + 0.7 * parts["mask"]
        + 0.1 * parts["domain"]
    )
    assert result["loss"].item() == pytest.approx(total, rel=1e-4)
    plain = build_objective("auxiliary", auxiliary(), 1, lambda_depth=0.0)(batch, 0.5)
    assert set(plain) == {"loss", "output", "cross_entropy"}


def test_the_reflections_pseudo_target_is_the_attacks_ellipse(make_batch: MakeBatch) -> None:
    batch = make_batch(4)
    options: dict[str, Any] = {"lambda_reflection": 1.0, "reflection_target": "ellipse", "lambda_depth": 0.0}
    objective = build_objective("auxiliary", auxiliary("reflection"), 3, **options)
    target = objective._reflection(batch, 16)  # type: ignore[operator]
    assert not target[batch.label == 1].any()
    assert torch.equal(target[0], face_ellipse(16)[0])
    assert objective.needed_maps == ()


@pytest.mark.parametrize(
    ("maps", "options", "words"),
    [
        ((), {}, "lambda_depth = 1.0 needs a detector that predicts the map 'depth'.*it predicts no map"),
        (("depth",), {"lambda_mask": 1.0}, "map 'mask'.*it predicts depth"),
        (("depth", "mask"), {}, "predicts the map 'mask', which the objective 'auxiliary' does not train"),
        (("depth",), {"lambda_depth": -1.0}, "lambda_depth = -1.0"),
        (("depth",), {"reflection_target": "elipse"}, "did you mean 'ellipse'"),
    ],
)
def test_what_does_not_fit_is_said(maps: tuple[str, ...], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build_objective("auxiliary", auxiliary(*maps), 3, **options)


def test_missing_targets_are_said(make_batch: MakeBatch) -> None:
    batch = make_batch(4)
    with pytest.raises(ValueError, match="agfas prepare"):
        mask_loss(torch.rand(4, 1, 8, 8), batch)
    objective = build_objective("auxiliary", auxiliary("reflection"), 3, lambda_reflection=1.0, lambda_depth=0.0)
    with pytest.raises(ValueError, match=r"train\.reflection_maps"):
        objective(batch, 0.5)
    with pytest.raises(ValueError, match="'depth' needs a detector that predicts the map 'depth'"):
        build_objective("depth", build_detector("image_only", preset="tiny"), 3)
    with pytest.raises(ValueError, match="did you mean 'reflection'"):
        auxiliary("reflexion")
    with pytest.raises(ValueError, match=r"map_size = 2; it must be in \[3, inf\)"):
        build_detector("auxiliary", preset="tiny", map_size=2)


def test_one_training_domain_has_nothing_to_tell_apart(make_batch: MakeBatch) -> None:
    batch = make_batch(4)
    batch.domain.zero_()
    found = build_objective("auxiliary", auxiliary("depth"), 1, lambda_domain=0.1)(batch, 0.5)
    assert float(found["domain"]) == 0.0


def test_half_precision_keeps_small_differences_of_depth() -> None:
    target = torch.linspace(0, 1, 32)[None, None, :, None].expand(1, 1, 32, 32)
    predicted = target + 1e-3 * torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    exact = contrastive_depth_loss(predicted, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(contrastive_depth_loss(predicted, target)) == pytest.approx(float(exact), rel=1e-4)


def test_parameters_of_the_auxiliary_detector() -> None:
    assert build_detector("auxiliary").num_parameters() == 11_993_859
    both = build_detector("auxiliary", maps=["mask", "depth"])
    assert both.num_parameters() == 11_993_859 + 553_665
    assert both.map_names == ("depth", "mask")


def test_any_cnn_can_carry_the_maps(make_batch: MakeBatch) -> None:
    detector = build_detector("auxiliary", backbone="mobilenetv3_small_050", image_size=64, map_size=8).eval()
    output = detector(make_batch(2).image)
    assert output.maps is not None
    assert output.maps["depth"].shape == (2, 1, 8, 8)
    with pytest.raises(ValueError, match="such as 'resnet18'"):
        build_detector("ssan_r", backbone="convnext_atto")


def test_labels_are_smoothed_by_hand(make_batch: MakeBatch) -> None:
    batch = make_batch(4)
    detector = build_detector("image_only", preset="tiny").eval()
    logs = detector(batch.image).logits.log_softmax(dim=1)
    smoothed = torch.full((4, 2), 0.05)
    smoothed[torch.arange(4), batch.label] = 0.95
    expected = -(smoothed * logs).sum(dim=1).mean().item()
    result = build_objective("label_smoothing", detector, 3)(batch, 0.5)
    assert result["loss"].item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="smoothing = 1"):
        build_objective("label_smoothing", detector, 3, smoothing=1.0)

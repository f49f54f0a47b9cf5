"""SA-FAS: heads, alignment, contrast and views against slow loops and cases by hand; the heads are saved."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from oanet.batch import DetectorOutput, FaceBatch
from oanet.detectors import build_detector, load_detector
from oanet.head import DomainHeads, mean_probability_logits, normalize_feature, unnormalize_feature
from oanet.objectives import build_objective
from oanet.objectives.sa_fas import (
    SAFAS,
    align_heads,
    domain_binary_cross_entropy,
    random_view,
    random_windows,
    sample_windows,
    supervised_contrast,
)

MakeBatch = Callable[..., FaceBatch]


def sa_fas(name: str = "image_only", **options: Any) -> SAFAS:
    objective = build_objective("sa_fas", build_detector(name, preset="tiny"), 3, **options)
    assert isinstance(objective, SAFAS)
    return objective


def test_the_score_is_the_mean_of_the_heads_probabilities() -> None:
    log_odds = torch.randn(5, 3) * 8
    probability = mean_probability_logits(log_odds).softmax(dim=1)
    torch.testing.assert_close(probability[:, 1], log_odds.sigmoid().mean(dim=1))
    assert mean_probability_logits(torch.tensor([[500.0, -500.0]])).isfinite().all()


def slow_alignment(weight: list[list[float]], keep: float) -> list[list[float]]:
    norms = [math.sqrt(sum(v * v for v in row)) for row in weight]
    units = [[v / norm for v in row] for row, norm in zip(weight, norms, strict=True)]
    turned = []
    for i, unit in enumerate(units):
        others = [j for j in range(len(units)) if j != i]
        far = min(others, key=lambda j: sum(a * b for a, b in zip(unit, units[j], strict=True)))
        mixed = [keep * a + (1 - keep) * b for a, b in zip(unit, units[far], strict=True)]
        length = math.sqrt(sum(v * v for v in mixed))
        turned.append([norms[i] * v / length for v in mixed])
    return turned


def test_alignment_equals_the_slow_loops() -> None:
    weight = torch.randn(4, 6, dtype=torch.float64)
    expected = torch.tensor(slow_alignment(weight.tolist(), 0.9), dtype=torch.float64)
    torch.testing.assert_close(align_heads(weight, 0.9), expected)


def test_alignment_by_hand() -> None:
    # Unit vectors at 0 and 90 degrees, kept by half: both turn to 45 degrees; the lengths 1 and 2 stay.
    turned = align_heads(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), 0.5)
    half = math.sqrt(0.5)
    torch.testing.assert_close(turned, torch.tensor([[half, half], [2 * half, 2 * half]]))


def test_alignment_keeps_lengths_and_brings_heads_together() -> None:
    weight = torch.randn(3, 16)
    far, turned = weight, weight
    for _ in range(3000):
        turned = align_heads(turned, 0.995)
    torch.testing.assert_close(turned.norm(dim=1), weight.norm(dim=1), rtol=1e-4, atol=1e-4)
    assert torch.corrcoef(turned).min() > 0.99 > torch.corrcoef(far).min()
    assert torch.equal(align_heads(weight, 1.0).argmax(dim=1), weight.argmax(dim=1))
    assert torch.equal(align_heads(weight[:1], 0.5), weight[:1])


def test_heads_are_aligned_late_and_only_then() -> None:
    objective = sa_fas(alignment=0.9, alignment_start=0.5)
    before = objective.heads.linear.weight.clone()
    objective.after_step(0.5)
    assert torch.equal(objective.heads.linear.weight, before)
    objective.after_step(0.51)
    torch.testing.assert_close(objective.heads.linear.weight, align_heads(before, 0.9))


def slow_contrast(features: torch.Tensor, classes: list[int], temperature: float, base: float) -> float:
    unit = [row / row.norm() for row in features.double()]
    losses = []
    for i in range(len(unit)):
        positives = [j for j in range(len(unit)) if j != i and classes[j] == classes[i]]
        if not positives:
            continue
        total = sum(math.exp((unit[i] @ unit[j]).item() / temperature) for j in range(len(unit)) if j != i)
        logs = [(unit[i] @ unit[j]).item() / temperature - math.log(total) for j in positives]
        losses.append(-sum(logs) / len(logs) * temperature / base)
    return sum(losses) / len(losses) if losses else 0.0


@pytest.mark.parametrize("classes", [[0, 0, 1, 1, 2, 2, 0], [0, 0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 6]])
def test_contrast_equals_the_slow_loops(classes: list[int]) -> None:
    features = torch.randn(7, 5, requires_grad=True)
    loss = supervised_contrast(features, torch.tensor(classes), 0.2, 0.07)
    assert loss.item() == pytest.approx(slow_contrast(features.detach(), classes, 0.2, 0.07), rel=1e-5)
    assert torch.autograd.grad(loss, features)[0].isfinite().all()


def test_each_head_sees_its_domain_and_every_head_a_face_of_none() -> None:
    log_odds = torch.randn(5, 3, requires_grad=True)
    label, domain = torch.tensor([1, 0, 1, 1, 1]), torch.tensor([0, 0, 2, 2, -1])
    loss = domain_binary_cross_entropy(log_odds, label, domain)

    def bce(face: int, head: int) -> float:
        value = log_odds[face, head].item()
        return math.log1p(math.exp(-value if label[face] == 1 else value))

    heads = [[(0, 0), (1, 0), (4, 0)], [(4, 1)], [(2, 2), (3, 2), (4, 2)]]
    means = [sum(bce(*pair) for pair in pairs) / len(pairs) for pairs in heads]
    assert loss.item() == pytest.approx(sum(means) / 3, rel=1e-5)
    used = torch.autograd.grad(loss, log_odds)[0] != 0
    assert used.tolist() == [[True, False, False]] * 2 + [[False, False, True]] * 2 + [[True] * 3]


def test_the_loss_is_divided_by_the_number_of_heads_whether_they_have_faces_or_not() -> None:
    log_odds = torch.tensor([[0.0, 9.0, 9.0]])
    loss = domain_binary_cross_entropy(log_odds, torch.tensor([1]), torch.tensor([0]))
    assert loss.item() == pytest.approx(math.log(2) / 3)


def test_heads_read_the_feature_before_its_normalisation(make_batch: MakeBatch) -> None:
    objective = sa_fas().eval()
    head = objective.detector.head
    pooled = torch.randn(4, head.embedder.in_features)  # type: ignore[union-attr]
    logits, features = head(pooled)  # type: ignore[operator, misc]
    raw = head.embed(pooled)  # type: ignore[operator, union-attr]
    torch.testing.assert_close(unnormalize_feature(features), raw)
    torch.testing.assert_close(logits.softmax(1)[:, 1], objective.heads(raw).sigmoid().mean(1))
    views = []
    objective.detector.forward = (
        lambda image, cue=None: (
            views.append(image)
            or DetectorOutput(  # type: ignore[method-assign]
                torch.zeros(len(image), 2), normalize_feature(raw[: len(image)])
            )
        )
    )
    batch = make_batch(2)
    result = objective(batch, 0.5)
    first, second = views[0][:2], views[0][2:]
    assert not any(torch.allclose(one, batch.image) for one in (first, second))
    assert not torch.allclose(first, second)
    label, domain = batch.label.repeat(2), batch.domain.repeat(2)
    expected = domain_binary_cross_entropy(objective.heads(raw), label, domain)
    torch.testing.assert_close(result["domain_bce"], expected)


def test_image_and_cue_sample_windows_one_window(make_batch: MakeBatch) -> None:
    batch = make_batch(6)
    batch.cue = batch.image + 1  # outside, the image is black and the cue 0
    batch.depth = batch.reflection = batch.mask = batch.patches = torch.zeros(6)
    view = random_view(batch, 0.3, 180.0)
    assert view.cue is not None
    assert view.depth is view.reflection is view.mask is view.patches is None
    torch.testing.assert_close(view.image + 1, view.cue, rtol=0, atol=1e-6)
    assert not torch.allclose(view.image, batch.image)
    assert view.key == batch.key


@pytest.mark.filterwarnings("error")  # torch warns where nobody says how corners are aligned
def test_windows_crop_turn_and_mirror_as_they_say() -> None:
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    straight = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    mirrored = torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]])
    quarter = torch.tensor([[[0.0, -1, 0], [1, 0, 0]]])
    torch.testing.assert_close(sample_windows(picture, straight), picture)
    torch.testing.assert_close(sample_windows(picture, mirrored), picture.flip(-1))
    torch.testing.assert_close(sample_windows(picture, quarter), picture.rot90(1, (2, 3)))
    windows = random_windows(500, 0.25, 0.0)
    scale = windows[:, 1, 1]
    assert 0.5 <= scale.min() < 0.55
    assert 0.95 < scale.max() <= 1
    assert (windows[:, :, 2].abs() <= 1 - scale[:, None] + 1e-6).all()
    assert 200 < (windows[:, 0, 0] < 0).sum() < 300
    angles = random_windows(500, 1.0, 30.0)
    assert angles[:, 1, 0].abs().max() <= math.sin(math.radians(30)) + 1e-6


def test_a_face_is_turned_before_it_is_cropped_as_torchvision_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter turn, then the window of half the side in the middle of the right edge."""
    drawn = torch.tensor([[0.9], [0.25], [0.75], [1.0], [0.5]])  # mirror, area of [0, 1], turn, column, row
    monkeypatch.setattr(torch, "rand", lambda *_: drawn)
    picture = torch.arange(64.0).view(1, 1, 8, 8)
    turned = picture.rot90(1, (2, 3))
    centre = random_windows(1, 1e-9, 180.0)[0, :, 2]
    torch.testing.assert_close(centre, torch.tensor([0.0, 0.5]))
    found = sample_windows(picture, random_windows(1, 1e-9, 180.0))
    expected = F.interpolate(turned[..., 2:6, 4:], (8, 8), mode="bilinear")
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])  # the window's edge reads beyond it


def test_a_turn_keeps_angles_and_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """30 degrees to the left, and mirrored in a window of half the area that lies in the middle."""
    drawn = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.75, 0.75], [0.5, 0.5], [0.5, 0.5]])
    monkeypatch.setattr(torch, "rand", lambda *_: drawn)
    scale, cos, sin = math.sqrt(0.25 + 0.75 * 0.5), math.cos(math.pi / 6), math.sin(math.pi / 6)
    expected = scale * torch.tensor([[[cos, -sin, 0], [sin, cos, 0]], [[-cos, -sin, 0], [-sin, cos, 0]]])
    torch.testing.assert_close(random_windows(2, 0.25, 60.0), expected)


def test_outside_a_turned_face_is_black(make_batch: MakeBatch) -> None:
    batch = make_batch(8)
    batch.image = torch.ones_like(batch.image)
    view = random_view(batch, 1.0, 180.0).image
    corners = view[:, :, ::63, ::63]
    assert (corners.amin(dim=(1, 2, 3)) < -0.99).any()
    torch.testing.assert_close(view[:, :, 20:44, 20:44], torch.ones(8, 3, 24, 24))


@pytest.mark.parametrize("name", ["image_only", "resnet18"])
def test_heads_are_saved_with_the_detector(name: str, make_batch: MakeBatch, tmp_path: Path) -> None:
    batch = make_batch(6)
    detector = sa_fas(name).detector.eval()
    detector.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["domain_heads"] == 3
    loaded = load_detector(tmp_path)
    assert loaded.domain_heads == 3
    assert isinstance(loaded.head.classifier, DomainHeads)  # type: ignore[union-attr]
    assert torch.equal(loaded(batch.image).logits, detector(batch.image).logits)
    output = loaded(batch.image)
    log_odds = loaded.head.classifier(unnormalize_feature(output.features))  # type: ignore[union-attr, operator]
    torch.testing.assert_close(output.probability_bonafide, log_odds.sigmoid().mean(dim=1))


def test_the_objective_is_the_sum_of_its_parts(make_batch: MakeBatch) -> None:
    """Features that differ: of an untrained network, all faces' are alike, and so is every loss."""
    batch, objective = make_batch(12), sa_fas(lambda_contrastive=0.3).eval()
    raw = torch.randn(24, objective.detector.feature_dim, generator=torch.Generator().manual_seed(2))
    torch.nn.init.normal_(objective.heads.linear.weight, generator=torch.Generator().manual_seed(3))
    features = normalize_feature(raw)
    objective.detect = lambda both: DetectorOutput(torch.zeros(24, 2), features)  # type: ignore[method-assign]
    result = objective(batch, 0.5)
    label, domain = batch.label.repeat(2), batch.domain.repeat(2)
    log_odds = objective.heads(raw).double()
    bce = []
    for face, (one, head) in enumerate(zip(label.tolist(), domain.tolist(), strict=True)):
        bce.append(math.log1p(math.exp(-log_odds[face, head].item() if one else log_odds[face, head].item())))
    means = [sum(b for b, d in zip(bce, domain.tolist(), strict=True) if d == head) / 8 for head in range(3)]
    contrast = slow_contrast(features.detach(), (domain * 2 + label).tolist(), 0.1, 0.07)
    assert result["domain_bce"].item() == pytest.approx(sum(means) / 3, rel=1e-4)
    assert result["contrastive"].item() == pytest.approx(contrast, rel=1e-4)
    assert result["loss"].item() == pytest.approx(sum(means) / 3 + 0.3 * contrast, rel=1e-4)
    assert result["output"].logits.shape == (12, 2)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"alignment": 1.2}, "alignment = 1.2; it must be in"),
        ({"temperature": 0.0}, "temperature = 0.0; it must be in"),
        ({"min_area": 0.0}, "min_area = 0.0; it must be in"),
        ({"lambda_contrastive": -1.0}, "lambda_contrastive = -1.0"),
    ],
)
def test_bad_options_are_refused(option: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sa_fas(**option)


def test_a_detector_without_such_a_head_is_refused() -> None:
    with pytest.raises(ValueError, match="'cdcn' cannot be given a classifier per domain"):
        sa_fas("cdcn")

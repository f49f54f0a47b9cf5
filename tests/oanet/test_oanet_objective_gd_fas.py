"""GD-FAS: each loss against slow loops in numpy and cases by hand, what the words explain, its views and its sizes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from slow_losses import shuffle_norms, slow_contrast, slow_cross_entropy, slow_mlp, values

from oanet.batch import FaceBatch
from oanet.detectors import build_detector
from oanet.objectives import build_objective
from oanet.objectives.gd_fas import GroupScaling, residual, scaled_by_group
from oanet.objectives.sa_fas import contrast

MakeBatch = Callable[..., FaceBatch]
Array = np.ndarray


def gd_fas(name: str = "gd_fas", **options: Any) -> GroupScaling:
    detector = build_detector(name, preset="tiny", seed=2)
    objective = build_objective("gd_fas", detector, 3, **{"hidden": 24, "projection_dim": 16, **options})
    assert isinstance(objective, GroupScaling)
    return objective


def slow_groups(losses: list[float], groups: list[int], domains: int, beta: float = 1.5) -> float:
    alpha = math.log(domains) / 2
    parts = []
    for group in sorted(set(groups)):
        own = [loss for loss, of in zip(losses, groups, strict=True) if of == group]
        parts.append(sum(own) / len(own) * len(own) / len(losses))
    z = (np.array(parts) - np.mean(parts)) / np.std(parts)
    return sum((beta / (1 + math.exp(-v / alpha)) - beta / 2 + 1) * part for v, part in zip(z, parts, strict=True))


def slow_residual(images: Array, words: Array) -> Array:
    """By least squares, without a basis."""
    return np.stack([face - words.T @ np.linalg.lstsq(words.T, face, rcond=None)[0] for face in images])


@pytest.mark.parametrize("released", [False, True])
def test_every_part_is_its_equation(make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch, released: bool) -> None:
    """Twelve faces, their mirror images as the second views, and words and embeddings as the detector has them."""
    batch, objective = make_batch(12), gd_fas(temperature=0.5, released=released)
    shuffle_norms(objective.projector)
    pictures = [batch.image, batch.image.flip(-1)]
    given = iter([FaceBatch(image, None, batch.label, batch.domain, batch.key) for image in pictures])
    monkeypatch.setattr("oanet.objectives.gd_fas.random_view", lambda *_: next(given))
    result = objective(batch, 0.5)

    detector: Any = objective.detector
    with torch.no_grad():
        faces = values(detector.embed_images(torch.cat(pictures)))
        words = values(detector.embed_prompts()).mean(axis=1)
    label, domain = batch.label.repeat(2).tolist(), batch.domain.repeat(2).tolist()
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (faces, words)]
    logits = math.exp(detector.clip.logit_scale.item()) * unit[0] @ unit[1].T
    groups = [one + 2 * other for one, other in zip(label, domain, strict=True)]
    rest = slow_residual(faces, words)
    projected = slow_mlp(faces, objective.projector)
    weight, bias = map(values, objective.classifier.parameters())
    directions = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    expected = {
        "groups": slow_groups(slow_cross_entropy(logits, label), groups, domains=3),
        "domain": slow_contrast(rest @ rest.T / 0.5, domain, released),
        "contrastive": slow_contrast(directions @ directions.T / 0.8, [*range(12), *range(12)]),
        "cross_entropy": float(np.mean(slow_cross_entropy(projected @ weight.T + bias, label))),
    }
    for name, value in expected.items():
        assert result[name].item() == pytest.approx(value, rel=1e-4), name
    total = expected["groups"] + 0.8 * expected["domain"] + 0.1 * expected["contrastive"] + expected["cross_entropy"]
    assert result["loss"].item() == pytest.approx(total, rel=1e-4)
    np.testing.assert_allclose(result["output"].logits.detach(), logits[:12], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(result["output"].features.detach(), faces[:12], rtol=1e-4, atol=1e-5)


def test_group_scaling_by_hand() -> None:
    # Parts 1 and 0.25 of the mean loss, so z = 1 and -1; alpha = ln(2) / 2, so s = 1.67068 and 0.32932.
    high, low = (1 + 1.5 * (1 / (1 + math.exp(-z * 2 / math.log(2))) - 0.5) for z in (1, -1))
    losses = torch.tensor([1.0, 0.5, 3.0, 0.5], requires_grad=True)
    total = scaled_by_group(losses, torch.tensor([1, 4, 1, 4]), 6, math.log(2) / 2, 1.5)
    assert total.item() == pytest.approx(high * 1 + low * 0.25, rel=1e-5)
    # The factors are held fixed: each face pulls with its group's.
    total.backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == pytest.approx([high / 4, low / 4, high / 4, low / 4], rel=1e-5)


@pytest.mark.parametrize("groups", [[0, 1, 2, 3, 4, 5, 0, 3], [5, 5, 5, 2, 2, 0, 0, 0], [7, 7, 1, 1, 1, 1, 1, 1]])
def test_groups_without_faces_do_not_count(groups: list[int]) -> None:
    losses = torch.rand(8, dtype=torch.float64, generator=torch.Generator().manual_seed(len(set(groups)))) * 3
    found = scaled_by_group(losses, torch.tensor(groups), 8, math.log(3) / 2, 1.5)
    assert found.item() == pytest.approx(slow_groups(losses.tolist(), groups, domains=3), rel=1e-9)


def test_groups_of_one_loss_or_one_group_are_not_scaled() -> None:
    for groups in ([0, 1, 2, 3], [2, 2, 2, 2]):
        losses = torch.full((4,), 0.25, requires_grad=True)
        total = scaled_by_group(losses, torch.tensor(groups), 4, 0.5, 1.5)
        assert total.item() == pytest.approx(0.25)
        assert torch.autograd.grad(total, losses)[0].tolist() == pytest.approx([0.25] * 4)


def test_domain_contrast_by_hand() -> None:
    # Faces 1, 1 and -1; the third has no other of its domain. Each of the first: -log(e / (e + 1 / e)).
    similarity = torch.tensor([[1.0, 1, -1], [1, 1, -1], [-1, -1, 1]])
    assert contrast(similarity, torch.tensor([0, 0, 1])).item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)
    # In the public code's mean over N (N - 1) entries, two by two here.
    faces, objective = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]), gd_fas(temperature=1.0, released=True)
    expected = -(1 - math.log(math.e + 2 / math.e)) / 3
    assert objective._domain(faces, torch.tensor([0, 0, 1, 1])).item() == pytest.approx(expected, rel=1e-6)


def test_what_words_do_not_explain_is_orthogonal_to_both_of_them() -> None:
    draw = torch.Generator().manual_seed(3)
    shared = torch.randn(16, generator=draw)
    words = (shared + 0.2 * torch.randn(2, 16, generator=draw)).requires_grad_()  # nearly parallel, as CLIP's are
    images = (5 * torch.randn(7, 16, generator=draw)).requires_grad_()
    rest = residual(images, words)
    assert (rest.detach() @ words.detach().T).abs().max() < 1e-4
    np.testing.assert_allclose(rest.detach(), slow_residual(images.detach().numpy(), words.detach().numpy()), atol=1e-4)
    upstream = torch.randn(7, 16, generator=draw)
    rest.backward(upstream)
    torch.testing.assert_close(images.grad, upstream)  # the projection is held fixed
    assert words.grad is None


def test_parallel_words_explain_one_direction() -> None:
    words = torch.tensor([[0.0, 2.0, 0.0], [0.0, -3.0, 0.0]])
    rest = residual(torch.tensor([[1.0, 5.0, 2.0]]), words)
    torch.testing.assert_close(rest, torch.tensor([[1.0, 0.0, 2.0]]))
    # Where they differ by less than a millionth, the second counts in part: half of its unit vector here.
    nearly = torch.tensor([[0.0, 1.0, 0.0], [5e-7, 1.0, 0.0]])
    torch.testing.assert_close(residual(torch.tensor([[4.0, 5.0, 2.0]]), nearly), torch.tensor([[3.0, 0.0, 2.0]]))


def test_no_gradient_of_fod_reaches_the_words_or_the_head(make_batch: MakeBatch) -> None:
    objective = gd_fas()
    seen = objective.observe(make_batch(12))
    domain = make_batch(12).domain.repeat(2)
    objective._domain(torch.cat([view.unexplained for view in seen]), domain).backward()
    clip: Any = objective.detector.clip
    assert clip.text_projection.weight.grad is None
    assert clip.visual_projection.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in (*objective.projector.parameters(), *objective.classifier.parameters()))


def test_fod_is_computed_in_full_precision(make_batch: MakeBatch) -> None:
    objective, faces = gd_fas(), 10 * torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    domain = torch.tensor([0, 0, 1, 1, 2, 2])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = objective._domain(residual(faces, faces[:2]), domain)
    assert torch.equal(rounded, objective._domain(residual(faces, faces[:2]), domain))


def test_an_extra_live_face_is_of_a_group_and_a_domain_of_its_own(make_batch: MakeBatch) -> None:
    batch = make_batch(12)
    batch.domain[[1, 3]] = -1
    other = make_batch(12)
    other.domain[[1, 3]] = 3
    values = []
    for each, domains in ((batch, 3), (other, 4)):
        objective: Any = gd_fas()
        objective.num_domains = domains
        torch.manual_seed(4)
        values.append(objective(each, 0.5)["loss"].item())
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_the_score_is_that_of_words_alone(make_batch: MakeBatch) -> None:
    detector, flip = gd_fas().detector.eval(), build_detector("flip_it", preset="tiny", seed=9).eval()
    flip.load_state_dict(detector.state_dict())
    image = make_batch(3).image
    with torch.no_grad():
        output, expected = detector(image), flip(image)
        assert torch.equal(output.logits, expected.logits)
        torch.testing.assert_close(output.features, detector.embed_images(image))  # type: ignore[operator]
        assert (output.features.norm(dim=1) - 1).abs().min() > 0.01


def test_full_size() -> None:
    with torch.device("meta"):
        objective = build_objective("gd_fas", build_detector("gd_fas"), 3)
    mlp = 512 * 4096 + 4096 * 4096 + 4096 * 256 + 2 * (4096 + 4096 + 256)
    assert sum(p.numel() for p in objective.parameters()) == 149_620_737 + mlp + 256 * 2 + 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature = 0.0"),
        ({"spread": 2.5}, "spread = 2.5; it must be in"),
        ({"min_area": 0.0}, "min_area = 0.0"),
        ({"max_degrees": 200.0}, "max_degrees = 200.0"),
        ({"lambda_domain": -1.0}, "lambda_domain = -1.0"),
        ({"name": "resnet18"}, "compares pictures with words; 'resnet18' has no embed_images"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gd_fas(**options)


def test_a_detector_with_a_cue_is_refused() -> None:
    detector = build_detector("flip_it", preset="tiny", cue=True)
    with pytest.raises(ValueError, match="'gd_fas' compares views of a face that have no cue"):
        build_objective("gd_fas", detector, 2)


@pytest.mark.parametrize(("domains", "softness"), [(1, math.log(2) / 2), (2, math.log(2) / 2), (3, math.log(3) / 2)])
def test_one_domain_counts_as_two(domains: int, softness: float) -> None:
    detector = build_detector("gd_fas", preset="tiny")
    objective: Any = build_objective("gd_fas", detector, domains, hidden=8, projection_dim=4)
    assert objective.softness == pytest.approx(softness)

"""ERM and SSDG: every number against an independent slow computation, and the edges of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from oanet.batch import FaceBatch
from oanet.detectors import build_detector
from oanet.objectives import build_objective
from oanet.objectives import ssdg as ssdg_module
from oanet.objectives.base import Share, domain_cross_entropy, losses
from oanet.objectives.ssdg import (
    SSDG,
    DomainDiscriminator,
    asymmetric_labels,
    batch_all_triplet,
    pairwise_distance,
    reversal_coefficient,
    reverse_gradient,
)

MakeBatch = Callable[..., FaceBatch]


def gradient(loss: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, of)[0]


def slow_triplet(features: torch.Tensor, labels: list[int], margin: float) -> torch.Tensor:
    """Three nested loops, as the definition reads."""
    values = []
    size = len(labels)
    for a in range(size):
        for p in range(size):
            for n in range(size):
                if a == p or labels[a] != labels[p] or labels[a] == labels[n]:
                    continue
                near = (features[a] - features[p]).norm()
                far = (features[a] - features[n]).norm()
                value = near - far + margin
                if value > 0:
                    values.append(value)
    return torch.stack(values).mean() if values else features.sum() * 0


@pytest.mark.parametrize("seed", range(4))
def test_triplet_and_its_gradient_equal_the_slow_loops(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(14, 5, generator=generator) * 0.2
    labels = torch.randint(0, 4, (14,), generator=generator)
    fast, slow = values.clone().requires_grad_(), values.double().requires_grad_()
    loss = batch_all_triplet(fast, labels, 0.1)
    expected = slow_triplet(slow, labels.tolist(), 0.1)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(gradient(loss, fast).double(), gradient(expected, slow), rtol=1e-4, atol=1e-6)


def test_triplet_by_hand() -> None:
    # On a line: a at 0 and 1 of one label, b at 1.5 of another. With margin 0.1:
    # (0, 1, 1.5): 1 - 1.5 + .1 < 0;  (1, 0, 1.5): 1 - .5 + .1 = .6. Mean over the positive one: .6.
    features = torch.tensor([[0.0], [1.0], [1.5]])
    assert batch_all_triplet(features, torch.tensor([0, 0, 1]), 0.1).item() == pytest.approx(0.6)
    # Margin 0.6 makes the first positive, too: (.1 + 1.1) / 2.
    assert batch_all_triplet(features, torch.tensor([0, 0, 1]), 0.6).item() == pytest.approx(0.6)
    assert batch_all_triplet(features, torch.tensor([0, 0, 1]), 0.7).item() == pytest.approx(0.7)


def test_triplet_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = torch.randn(30, 6) * 0.1, torch.arange(30) % 4
    whole = batch_all_triplet(features, labels)
    for at_once in (30 * 30 * 7, 1):
        monkeypatch.setattr(ssdg_module, "_TRIPLETS_AT_ONCE", at_once)
        assert torch.equal(batch_all_triplet(features, labels), whole)


def test_autocast_does_not_round_the_triplet() -> None:
    features, labels = torch.randn(12, 6), torch.arange(12) % 3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = batch_all_triplet(features, labels)
    assert torch.equal(rounded, batch_all_triplet(features, labels))


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [1], []])
def test_without_triplets_the_loss_is_zero_with_a_graph(labels: list[int]) -> None:
    features = torch.randn(len(labels), 4, requires_grad=True)
    loss = batch_all_triplet(features, torch.tensor(labels, dtype=torch.long))
    assert loss.item() == 0
    assert not gradient(loss, features).any()


def test_well_separated_labels_have_no_positive_triplet() -> None:
    features = torch.tensor([[0.0, 0], [0.01, 0], [9, 9], [9, 9.01]], requires_grad=True)
    loss = batch_all_triplet(features, torch.tensor([0, 0, 1, 1]))
    assert loss.item() == 0
    assert not gradient(loss, features).any()


def test_equal_features_give_the_margin_and_no_nan() -> None:
    features = torch.full((6, 8), 0.7, requires_grad=True)
    loss = batch_all_triplet(features, torch.tensor([0, 0, 0, 1, 1, 2]), 0.1)
    assert loss.item() == pytest.approx(0.1)
    assert gradient(loss, features).abs().max() < 1e-6


def test_distances_equal_cdist_and_near_rows_are_kept_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(10, 32, generator=generator, dtype=torch.float64)
    features[1] = features[0]
    features[2] = features[0] + 1e-5
    expected = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    torch.testing.assert_close(pairwise_distance(features), expected, rtol=1e-4, atol=1e-9)
    assert pairwise_distance(features)[0, 1] == 0
    # Of two rows of length one, a squared distance up to 2e-14 is rounding.
    for square, distance in ((1.6e-14, 0.0), (2.4e-14, 2.4e-14**0.5)):
        pair = torch.tensor([[1.0], [1 + square**0.5]], dtype=torch.float64)
        assert pairwise_distance(pair)[0, 1].item() == pytest.approx(distance, rel=0.05)
    assert torch.autograd.gradcheck(pairwise_distance, (features[3:7].clone().requires_grad_(),))


def test_all_bonafide_are_one_label_and_each_domains_attacks_another() -> None:
    label, domain = torch.tensor([1, 1, 0, 0, 0]), torch.tensor([0, 2, 0, 2, 0])
    assert asymmetric_labels(label, domain).tolist() == [0, 0, 1, 3, 1]


def test_reversal_coefficient_on_its_schedule() -> None:
    assert reversal_coefficient(0.0) == 0.0
    assert reversal_coefficient(0.5) == pytest.approx(0.9866, abs=5e-5)
    assert reversal_coefficient(1.0) == pytest.approx(0.9999, abs=5e-5)


def test_gradient_is_reversed_and_features_are_not() -> None:
    features = torch.randn(3, 4, requires_grad=True)
    reversed_features = reverse_gradient(features, 0.3)
    assert torch.equal(reversed_features, features)
    loss = (reversed_features * torch.arange(4.0)).sum()
    torch.testing.assert_close(gradient(loss, features), -0.3 * torch.arange(4.0).expand(3, 4))


def test_discriminator_has_the_papers_parameters() -> None:
    discriminator = DomainDiscriminator(512, 3)
    assert sum(p.numel() for p in discriminator.parameters()) == 264_195
    assert discriminator.hidden.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert discriminator.output.weight.std().item() == pytest.approx(0.3, rel=0.1)
    assert not discriminator.hidden.bias.any()
    assert not discriminator.output.bias.any()
    assert discriminator.dropout.p == 0.5


def ssdg(**options: Any) -> SSDG:
    objective = build_objective("ssdg", build_detector("image_only", preset="tiny"), 3, **options).eval()
    assert isinstance(objective, SSDG)
    return objective


def test_ssdg_equals_a_slow_computation(make_batch: MakeBatch) -> None:
    batch = make_batch(12)
    objective = ssdg(lambda_triplet=2.0, lambda_adversarial=0.25, margin=0.2)
    result = objective(batch, 0.5)
    logits, features = result["output"].logits.double(), result["output"].features.double()
    cross_entropy = [
        -math.log(math.exp(row[label]) / (math.exp(row[0]) + math.exp(row[1])))
        for row, label in zip(logits.tolist(), batch.label.tolist(), strict=True)
    ]
    labels = [
        0 if label else domain + 1 for label, domain in zip(batch.label.tolist(), batch.domain.tolist(), strict=True)
    ]
    adversarial = []
    for feature, label, domain in zip(result["output"].features, batch.label, batch.domain, strict=True):
        if label == 1:
            scores = objective.discriminator(feature[None])[0].double()
            adversarial.append((scores.exp().sum().log() - scores[domain]).item())
    expected = {
        "cross_entropy": sum(cross_entropy) / 12,
        "triplet": slow_triplet(features, labels, 0.2).item(),
        "adversarial": sum(adversarial) / len(adversarial),
    }
    for part, value in expected.items():
        assert result[part].item() == pytest.approx(value, rel=1e-5), part
    total = expected["cross_entropy"] + 2 * expected["triplet"] + 0.25 * expected["adversarial"]
    assert result["loss"].item() == pytest.approx(total, rel=1e-5)


def test_only_bonafide_faces_meet_the_discriminator_and_their_gradient_is_reversed(
    make_batch: MakeBatch,
) -> None:
    batch = make_batch(12)
    objective = ssdg()
    bonafide = batch.label == 1
    features = torch.randn(12, objective.detector.feature_dim, requires_grad=True)
    reversed_gradient = gradient(objective._adversarial(features, batch, 0.5), features)
    scores = objective.discriminator(features[bonafide])
    plain = gradient(torch.nn.functional.cross_entropy(scores, batch.domain[bonafide]), features)
    assert not reversed_gradient[~bonafide].any()
    torch.testing.assert_close(reversed_gradient, -reversal_coefficient(0.5) * plain)


@pytest.mark.parametrize("labels", [[0] * 6, [1] * 6, [0], [1, 0]])
def test_lopsided_batches_train_without_nan(labels: list[int], make_batch: MakeBatch) -> None:
    batch = make_batch(len(labels), labels=labels)
    objective = ssdg()
    result = objective(batch, 0.5)
    if 1 not in labels:
        assert result["adversarial"].item() == 0
    result["loss"].backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_zero_factors_leave_cross_entropy(make_batch: MakeBatch) -> None:
    result = ssdg(lambda_triplet=0.0, lambda_adversarial=0.0)(make_batch(6), 0.5)
    assert torch.equal(result["loss"].detach(), result["cross_entropy"])


def test_erm_weighs_classes(make_batch: MakeBatch) -> None:
    batch = make_batch(6, labels=[0, 1, 0, 0, 0, 1])
    detector = build_detector("image_only", preset="tiny").eval()
    losses = -detector(batch.image).logits.detach().log_softmax(dim=1)[torch.arange(6), batch.label]
    plain = build_objective("erm", detector, 1)(batch, 0.0)["loss"]
    assert plain.item() == pytest.approx(losses.mean().item(), rel=1e-6)
    factors = torch.tensor([1.0, 3.0])[batch.label]
    objective = build_objective("erm", detector, 1, class_weights=[1.0, 3.0])
    assert all(name.startswith("detector.") for name in objective.state_dict())
    weighted = objective(batch, 0.0)["loss"]
    assert weighted.item() == pytest.approx((losses * factors).sum().item() / factors.sum().item(), rel=1e-6)


def test_bad_factors_are_refused() -> None:
    detector = build_detector("image_only", preset="tiny")
    with pytest.raises(ValueError, match="margin = -1"):
        build_objective("ssdg", detector, 3, margin=-1)
    with pytest.raises(ValueError, match="give two"):
        build_objective("erm", detector, 3, class_weights=[1.0])
    with pytest.raises(ValueError, match="leaves nothing to learn from"):
        build_objective("erm", detector, 3, class_weights=[0.0, 0.0])
    with pytest.raises(ValueError, match="did you mean 'margin'"):
        build_objective("ssdg", detector, 3, margins=0.1)


def test_a_process_alone_holds_the_whole_batch() -> None:
    share, drawn = Share(), torch.arange(4)
    assert share.count(7) == 7
    assert share.rows(drawn) is drawn
    assert share.gather(drawn) is drawn


def test_extra_faces_have_no_domain_to_tell() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [5.0, 1.0]], requires_grad=True)
    loss = domain_cross_entropy(logits, torch.tensor([0, 1, -1]))
    assert loss.item() == pytest.approx((math.log1p(math.exp(-2)) + math.log(2)) / 2)
    assert not gradient(domain_cross_entropy(logits, torch.tensor([-1, -1, -1])), logits).any()


def test_parts_are_weighed_by_one_unless_told() -> None:
    output: Any = object()
    found = losses(output, {"b": 3.0}, a=torch.tensor(1.0, requires_grad=True), b=torch.tensor(2.0))
    assert found["loss"].item() == 7
    assert found["output"] is output
    assert (found["a"].item(), found["a"].requires_grad) == (1, False)
    assert losses(output, a=torch.tensor(1.0))["loss"] == 1


def test_pixels_do_not_travel_and_penalties_count(make_batch: MakeBatch) -> None:
    batch = make_batch(4)
    gathered: list[tuple[int, ...]] = []
    objective: Any = build_objective("erm", build_detector("livenessnet", preset="tiny"), 1)
    seen: list[Any] = []
    plain = objective.loss

    def loss(*given: Any) -> Any:
        seen.append(given)
        return plain(*given)

    class Gathering(Share):
        def gather(self, values: torch.Tensor) -> torch.Tensor:
            gathered.append(tuple(values.shape))
            return values

    objective.share = Gathering()
    objective.loss = loss
    result = objective(batch, 0.5)
    assert gathered == [(4, 2), (4, 32), (4,), (4,), (4,)]  # logits and features; label, domain and kind
    assert seen[0][1].image.shape == (0, 3, 64, 64)
    assert seen[0][1].cue is None
    assert objective.observers == (objective.detector,)
    assert result["loss"].item() == pytest.approx((result["cross_entropy"] + result["penalty"]).item())
    assert not result["penalty"].requires_grad

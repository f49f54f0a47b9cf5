import math

import pytest
import torch
from torch.nn import functional as F

from dfg.arcface import ArcFaceObjective, angular_margin_logits
from dfg.identity import IdentityEncoder


def _slow_logits(cosine, identity, scale, margin):
    """Through the angle itself, one entry at a time."""
    rows = cosine.double().tolist()
    for row, own in zip(rows, identity.tolist(), strict=True):
        angle = math.acos(max(-1.0, min(1.0, row[own])))
        turned = angle > math.pi - margin
        row[own] = row[own] - margin * math.sin(margin) if turned else math.cos(angle + margin)
    return torch.tensor(rows, dtype=torch.float64) * scale


def test_logits_equal_the_angular_formula():
    cosine = torch.rand(64, 7, generator=torch.Generator().manual_seed(0)) * 2 - 1
    identity = torch.arange(64) % 7
    ours = angular_margin_logits(cosine, identity, 64.0, 0.5)
    torch.testing.assert_close(ours.double(), _slow_logits(cosine, identity, 64.0, 0.5), rtol=1e-4, atol=1e-3)


def test_the_own_logit_falls_with_the_angle_throughout():
    cosine = torch.cos(torch.linspace(0, math.pi, 500))[:, None]
    own = angular_margin_logits(cosine, torch.zeros(500, dtype=torch.long), 1.0, 0.5)[:, 0]
    assert (own.diff() <= 1e-6).all()
    assert (own <= cosine[:, 0] + 1e-3).all()


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_gradients_are_finite_at_the_poles(value):
    cosine = torch.full((1, 3), value, requires_grad=True)
    F.cross_entropy(angular_margin_logits(cosine, torch.tensor([1]), 64.0, 0.5), torch.tensor([1])).backward()
    assert cosine.grad is not None
    assert torch.isfinite(cosine.grad).all()


def test_without_a_margin_it_is_cross_entropy(encoder, faces):
    objective = ArcFaceObjective(encoder.eval(), 5, scale=10.0, margin=0.0).eval()
    identity = torch.tensor([0, 1, 2, 3])
    cosine = F.normalize(encoder.embedding(faces)) @ F.normalize(objective.centers).T
    loss = objective({"image": faces, "identity": identity})["loss"]
    torch.testing.assert_close(loss, F.cross_entropy(10 * cosine, identity))


def test_training_tells_the_faces_apart(encoder, faces):
    objective = ArcFaceObjective(encoder, 4, scale=16.0)
    batch = {"image": faces, "identity": torch.arange(4)}
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.02, momentum=0.9)
    objective.train()
    first = objective(batch)["loss"].item()
    for _ in range(25):
        optimizer.zero_grad()
        objective(batch)["loss"].backward()
        optimizer.step()
    last = objective(batch)
    assert last["loss"].item() < 0.3 * first
    assert last["accuracy"].item() == 1.0


def test_mistakes(encoder):
    with pytest.raises(ValueError, match="two or more"):
        ArcFaceObjective(encoder, 1)
    with pytest.raises(ValueError, match="trunk"):
        ArcFaceObjective(IdentityEncoder.from_preset("tiny", embedding_dim=None), 5)


def test_the_margin_ends_at_pi_minus_m_and_the_sine_has_a_floor():
    def own(cosine):
        return angular_margin_logits(torch.tensor([[cosine]]), torch.tensor([0]), 1.0, 0.5).item()

    assert own(-math.cos(0.5)) == pytest.approx(-1)  # cos(pi); beyond it, -cos(m) - m sin(m)
    assert own(-math.cos(0.5) - 1e-3) == pytest.approx(-math.cos(0.5) - 1e-3 - 0.5 * math.sin(0.5))
    assert own(1.0) == pytest.approx(math.cos(0.5) - 1e-7**0.5 * math.sin(0.5), abs=2e-6)


def test_two_people_are_enough_and_their_centers_are_drawn_small(encoder):
    drawn = torch.randn(2, 16, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(ArcFaceObjective(encoder, 2, seed=3).centers.detach(), 0.01 * drawn)

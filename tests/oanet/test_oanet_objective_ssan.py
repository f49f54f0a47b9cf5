"""SSAN: style assembly and its losses against computations by hand and by slow loops; what a detector must have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from oanet.batch import FaceBatch
from oanet.detectors import build_detector
from oanet.detectors.ssan import SSANR, AdaptiveBlock, StyleReader, adaptive_instance_norm
from oanet.objectives import build_objective
from oanet.objectives.ssan import SSAN, Disentangling, assembly_contrast
from oanet.objectives.ssdg import reversal_coefficient

MakeBatch = Callable[..., FaceBatch]


def tiny(released: bool = False) -> SSANR:
    detector = build_detector("ssan_r", preset="tiny", released=released)
    assert isinstance(detector, SSANR)
    return detector


def ssan(released: bool = False, **options: Any) -> SSAN:
    objective = build_objective("ssan", tiny(released), 3, released=released, **options)
    assert isinstance(objective, SSAN)
    return objective


@pytest.mark.parametrize(("preset", "count"), [("base", 8_069_186), ("released", 5_709_890)])
def test_parameters_at_full_size(preset: str, count: int) -> None:
    assert build_detector("ssan_r", preset=preset).num_parameters() == count


def test_content_and_style_at_full_size() -> None:
    detector = build_detector("ssan_r").eval()
    assert isinstance(detector, SSANR)
    with torch.no_grad():
        content, style = detector.disentangle(torch.zeros(1, 3, 256, 256))
        assert content.shape == (1, 256, 8, 8)
        assert style.shape == (1, 2, 256)
        assert detector.assemble(content, style).shape == (1, 512, 4, 4)


def test_a_picture_too_small_for_its_maps_is_refused() -> None:
    with pytest.raises(ValueError, match="above 32, such as 64"):
        build_detector("ssan_r", preset="tiny", image_size=32)
    smallest = build_detector("ssan_r", preset="tiny", image_size=33)
    assert smallest(torch.zeros(2, 3, 33, 33)).logits.isfinite().all()


def slow_instance_norm(content: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
    """Every face and channel for itself, in plain numbers."""
    out = torch.empty_like(content)
    faces, channels, height, width = content.shape
    for face in range(faces):
        for channel in range(channels):
            values = [content[face, channel, i, j].item() for i in range(height) for j in range(width)]
            mean = sum(values) / len(values)
            deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) + 1e-5)
            scale, shift = style[face, 0, channel].item(), style[face, 1, channel].item()
            for place, value in enumerate(values):
                out[face, channel, place // width, place % width] = scale * (value - mean) / deviation + shift
    return out


def test_style_assembly_equals_the_slow_loops() -> None:
    content, style = torch.randn(3, 4, 5, 6), torch.randn(3, 2, 4)
    torch.testing.assert_close(adaptive_instance_norm(content, style), slow_instance_norm(content, style))
    block = AdaptiveBlock(4)
    first, second = block.parameters()
    inner = slow_instance_norm(F.conv2d(content, first, padding=1), style).clamp_min(0)
    expected = content + slow_instance_norm(F.conv2d(inner, second, padding=1), style)
    torch.testing.assert_close(block(content, style), expected, rtol=1e-4, atol=1e-5)


def test_styles_are_read_as_the_public_code_reads_them() -> None:
    reader = StyleReader((4, 6, 8), 8).eval()
    levels = [torch.randn(2, 4, 16, 16), torch.randn(2, 6, 8, 8), torch.randn(2, 8, 4, 4)]
    one, two, three = (adapter[0].weight for adapter in reader.adapters)  # type: ignore[index, union-attr]

    def adapted(values: torch.Tensor, weight: torch.Tensor, last: bool) -> torch.Tensor:
        mapped = F.conv2d(values, weight, stride=2, padding=1)
        variance, mean = torch.var_mean(mapped, dim=(2, 3), keepdim=True, correction=0)
        normal = (mapped - mean) / (variance + 1e-5).sqrt()
        return normal if last else normal.clamp_min(0)

    joined = adapted(levels[0], one, False) + levels[1]
    joined = adapted(adapted(joined, two, False) + levels[2], three, True)
    hidden = (joined.flatten(2).max(dim=2).values @ reader.hidden.weight.T).clamp_min(0)
    assert reader.hidden.bias is None
    expected = torch.stack([hidden @ reader.scale.weight.T, hidden @ reader.shift.weight.T], dim=1)
    torch.testing.assert_close(reader(levels), expected, rtol=1e-4, atol=1e-5)


def test_running_statistics_follow_two_batches_a_step(make_batch: MakeBatch) -> None:
    batch = make_batch(6)
    objective = ssan().train()
    twin = tiny().train()
    twin.load_state_dict(objective.detector.state_dict())
    objective(batch, 0.5)
    with torch.no_grad():
        content, style = twin.disentangle(batch.image)
        twin.disentangle(batch.image.flip(0))
        twin.assemble(content, style)
    for name, value in twin.named_buffers():
        if name.startswith(("trunk", "content")) and "num_batches" not in name:
            torch.testing.assert_close(objective.detector.get_buffer(name), value)


def test_the_discriminator_starts_as_torch_starts_a_linear() -> None:
    discriminator = ssan().discriminator
    for layer in (discriminator.hidden, discriminator.output):
        bound = layer.in_features**-0.5
        assert 0.5 * bound < layer.weight.abs().max() <= bound
        assert layer.bias.any()


def test_faces_are_classified_in_full_precision() -> None:
    detector, assembled = tiny(), torch.randn(3, tiny().feature_dim, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = detector.judge(assembled)
    assert torch.equal(rounded.logits, detector.judge(assembled).logits)


def test_the_released_block_has_no_convolution() -> None:
    content, style = torch.randn(2, 4, 5, 5), torch.randn(2, 2, 4)
    block = AdaptiveBlock(4, released=True)
    assert not list(block.parameters())
    torch.testing.assert_close(block(content, style), content + slow_instance_norm(content, style))


def test_a_face_is_its_content_in_its_own_style(make_batch: MakeBatch) -> None:
    image = make_batch(4).image
    detector = tiny().eval()
    content, style = detector.disentangle(image)
    assert torch.equal(detector(image).logits, detector.judge(detector.assemble(content, style)).logits)
    other = detector.assemble(content, style[[1, 0, 3, 2]])
    assert not torch.allclose(other, detector.assemble(content, style), atol=1e-3)
    # The style of another face is all that is taken from it.
    swapped = detector.assemble(content[:1], style[1:2])
    torch.testing.assert_close(other[:1], swapped, rtol=1e-4, atol=1e-5)


def test_contrast_by_hand_and_without_gradient_to_the_anchor() -> None:
    own = torch.tensor([[1.0, 0.0], [0.0, 2.0]], requires_grad=True)
    mixed = torch.tensor([[3.0, 4.0], [1.0, 1.0]], requires_grad=True)
    loss = assembly_contrast(own, mixed, torch.tensor([True, False]))
    assert loss.item() == pytest.approx((-0.6 + math.sqrt(0.5)) / 2)
    loss.backward()
    assert own.grad is None
    assert mixed.grad is not None


def test_objective_equals_a_slow_computation(make_batch: MakeBatch) -> None:
    batch = make_batch(8)
    objective = ssan(lambda_contrastive=0.5, lambda_adversarial=0.25).eval()
    detector = objective.detector
    assert isinstance(detector, SSANR)
    torch.manual_seed(3)
    result = objective(batch, 0.5)
    torch.manual_seed(3)
    donors = torch.randperm(8).tolist()
    content, style = detector.disentangle(batch.image)
    output = detector.judge(detector.assemble(content, style))
    own = output.features.double()
    contrast, domain = 0.0, 0.0
    for face, donor in enumerate(donors):
        mixed = detector.assemble(content[face : face + 1], style[donor : donor + 1])[0].mean(dim=(1, 2)).double()
        cosine = (own[face] @ mixed / own[face].norm() / mixed.norm()).item()
        contrast += (-1 if batch.label[face] == batch.label[donor] else 1) * cosine / 8
        scores = objective.discriminator(content[face].mean(dim=(1, 2))[None])[0].double()
        domain += (scores.exp().sum().log() - scores[batch.domain[face]]).item() / 8
    cross_entropy = F.cross_entropy(output.logits, batch.label).item()
    assert result["contrastive"].item() == pytest.approx(contrast, abs=1e-5)
    assert result["adversarial"].item() == pytest.approx(domain, rel=1e-5)
    total = cross_entropy + 0.5 * contrast + 0.25 * domain
    assert result["loss"].item() == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("released", [False, True])
def test_the_discriminator_is_fought_and_in_the_released_code_helped(released: bool, make_batch: MakeBatch) -> None:
    batch = make_batch(8)
    objective = ssan(released).eval()
    content = torch.randn(8, objective.discriminator.hidden.in_features, 2, 2, requires_grad=True)
    got = torch.autograd.grad(objective._adversarial(content.mean(dim=(2, 3)), batch, 0.5), content)[0]
    plain = F.cross_entropy(objective.discriminator(content.mean(dim=(2, 3))), batch.domain)
    expected = torch.autograd.grad(plain, content)[0]
    sign = 1.0 if released else -reversal_coefficient(0.5)
    torch.testing.assert_close(got, sign * expected)


def test_an_extra_face_does_not_reach_the_discriminator(make_batch: MakeBatch) -> None:
    batch = make_batch(6)
    objective = ssan().eval()
    content = torch.randn(6, objective.discriminator.hidden.in_features)
    batch.domain[2:] = -1
    few = FaceBatch(batch.image[:2], None, batch.label[:2], batch.domain[:2], batch.key[:2])
    torch.testing.assert_close(
        objective._adversarial(content, batch, 0.5), objective._adversarial(content[:2], few, 0.5)
    )
    batch.domain[:] = -1
    assert objective._adversarial(content, batch, 0.5).item() == 0


def test_what_is_missing_is_said() -> None:
    assert isinstance(tiny(), Disentangling)
    with pytest.raises(
        ValueError, match=r"'image_only' has no disentangle, assemble, judge.*Use the detector 'ssan_r' or 'ssan_m'"
    ):
        build_objective("ssan", build_detector("image_only", preset="tiny"), 3)
    with pytest.raises(ValueError, match="Give both the same"):
        build_objective("ssan", tiny(released=False), 3, released=True)

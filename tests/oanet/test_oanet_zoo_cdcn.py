"""Central differences against a slow loop, and how a depth map becomes a score."""

from __future__ import annotations

import pytest
import torch

from oanet.detectors import build_detector
from oanet.detectors.cdcn import CentralDifferenceConv2d, SpatialAttention, depth_logits


def slow_central_difference(image: torch.Tensor, weight: torch.Tensor, theta: float) -> torch.Tensor:
    """Eq. 4 place by place: theta of the sum over differences to the centre, the rest over the values themselves."""
    batch, channels, height, width = image.shape
    result = torch.zeros(batch, len(weight), height, width, dtype=image.dtype)
    for b in range(batch):
        for out in range(len(weight)):
            for y in range(height):
                for x in range(width):
                    total = 0.0
                    for c in range(channels):
                        centre = image[b, c, y, x].item()
                        for dy in (-1, 0, 1):
                            for dx in (-1, 0, 1):
                                inside = 0 <= y + dy < height and 0 <= x + dx < width
                                value = image[b, c, y + dy, x + dx].item() if inside else 0.0
                                kernel = weight[out, c, dy + 1, dx + 1].item()
                                total += kernel * (theta * (value - centre) + (1 - theta) * value)
                    result[b, out, y, x] = total
    return result


@pytest.mark.parametrize("theta", [0.0, 0.7, 1.0])
def test_central_difference_equals_the_slow_loop(theta: float) -> None:
    layer = CentralDifferenceConv2d(2, 3, theta).double()
    image = torch.randn(2, 2, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(image), slow_central_difference(image, layer.weight.detach(), theta))
    assert set(layer.state_dict()) == {"weight"}


def test_a_flat_picture_has_no_central_differences() -> None:
    layer = CentralDifferenceConv2d(1, 2, theta=1.0)
    inner = layer(torch.full((1, 1, 6, 6), 3.0))[..., 1:-1, 1:-1]
    torch.testing.assert_close(inner, torch.zeros_like(inner), rtol=0, atol=1e-5)


def test_the_gradient_goes_through_the_centre_too() -> None:
    layer = CentralDifferenceConv2d(2, 2).double()
    image = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (image,))
    layer(image).square().sum().backward()
    step, weight = 1e-6, layer.weight
    assert weight.grad is not None
    with torch.no_grad():
        before = layer(image).square().sum()
        weight[1, 0, 1, 1] += step
        slope = (layer(image).square().sum() - before) / step
    assert slope.item() == pytest.approx(weight.grad[1, 0, 1, 1].item(), rel=1e-4)


def test_attention_by_hand() -> None:
    attention = SpatialAttention(3)
    with torch.no_grad():
        attention.convolution.weight.zero_()
        attention.convolution.weight[0, 0, 1, 1] = 1.0  # the mean
        attention.convolution.weight[0, 1, 1, 1] = -2.0  # the maximum
    places = torch.tensor([1.0, 5.0]).view(1, 2, 1, 1)
    assert attention(places).item() == pytest.approx(torch.sigmoid(torch.tensor(3.0 - 10.0)).item())


def test_the_score_is_the_mean_of_the_map() -> None:
    depth = torch.rand(5, 1, 32, 32)
    score = depth_logits(depth).softmax(dim=1)[:, 1]
    torch.testing.assert_close(score, depth.mean(dim=(1, 2, 3)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("value", "expected"), [(0.0, 1e-4), (1.5, 1 - 1e-4)])
def test_beyond_the_bounds_the_value_is_clipped_and_the_gradient_is_not(value: float, expected: float) -> None:
    depth = torch.full((1, 1, 4, 4), value, requires_grad=True)
    logits = depth_logits(depth)
    assert logits.softmax(dim=1)[0, 1].item() == pytest.approx(expected, rel=1e-3)
    torch.nn.functional.cross_entropy(logits, torch.tensor([1 if value == 0 else 0])).backward()
    assert depth.grad is not None
    assert (depth.grad < 0).all() if value == 0 else (depth.grad > 0).all()


@pytest.mark.parametrize("name", ["cdcn", "cdcn_pp"])
@pytest.mark.parametrize("side", [64, 96])
def test_maps_are_32_by_32_and_not_negative(name: str, side: int) -> None:
    output = build_detector(name, preset="tiny", image_size=side).eval()(torch.rand(2, 3, 64, 64) * 2 - 1)
    assert output.maps is not None
    assert output.maps["depth"].shape == (2, 1, 32, 32)
    assert (output.maps["depth"] >= 0).all()
    torch.testing.assert_close(
        output.probability_bonafide, output.maps["depth"].mean(dim=(1, 2, 3)).clamp(1e-4, 0.9999)
    )


def test_values_are_scaled_as_the_paper_does() -> None:
    detector = build_detector("cdcn", preset="tiny").eval()
    seen: list[torch.Tensor] = []
    detector.stem[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for pixel in (0.0, 255.0):
        detector(torch.full((1, 3, 64, 64), pixel / 127.5 - 1))
        torch.testing.assert_close(seen.pop(), torch.full((1, 3, 64, 64), (pixel - 127.5) / 128))

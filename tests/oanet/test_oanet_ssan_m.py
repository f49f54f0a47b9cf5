"""SSAN-M: its layers counted by hand, its network and losses against slow computations in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from oanet.batch import FaceBatch
from oanet.detectors import build_detector
from oanet.detectors.ssan import SSANM
from oanet.objectives import build_objective
from oanet.objectives.ssan import SSAN, MapDiscriminator
from oanet.objectives.ssdg import reversal_coefficient

MakeBatch = Callable[..., FaceBatch]
Array = np.ndarray[Any, np.dtype[np.float64]]


def small(released: bool = False, image_size: int = 48) -> SSANM:
    """Four channels; BatchNorm with other statistics than those it starts with."""
    detector = build_detector("ssan_m", image_size=image_size, width=4, released=released)
    assert isinstance(detector, SSANM)
    return shaken(detector)


def shaken(module: Any) -> Any:
    draw = torch.Generator().manual_seed(5)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            for values in (layer.weight.data, layer.running_var):
                values.uniform_(0.5, 1.5, generator=draw)  # type: ignore[union-attr]
            for values in (layer.bias.data, layer.running_mean):
                values.uniform_(-0.5, 0.5, generator=draw)  # type: ignore[union-attr]
    return module


def ssan(released: bool = False, **options: Any) -> SSAN:
    objective = build_objective("ssan", small(released), 3, released=released, **options)
    assert isinstance(objective, SSAN)
    return objective


def test_parameters_layer_by_layer() -> None:
    def normalised(before: int, after: int) -> int:
        return 9 * before * after + 2 * after

    block = normalised(128, 196) + normalised(196, 128)
    trunk = normalised(3, 64) + normalised(64, 128) + 2 * normalised(128, 128) + 3 * block
    content, joined = normalised(128, 256), normalised(256, 512)
    style = 9 * (128 * 128 + 128 * 128 + 128 * 256) + 3 * 256 * 256
    decoder = normalised(512, 128) + normalised(128, 64) + 9 * 64
    released = trunk + content + joined + style + decoder
    assert build_detector("ssan_m", preset="released").num_parameters() == released
    assert build_detector("ssan_m").num_parameters() == released + 4 * 9 * 256 * 256
    discriminator = MapDiscriminator(256, 3)
    counted = sum(weights.numel() for weights in discriminator.parameters())
    assert counted == normalised(256, 256) + normalised(256, 512) + 512 * 3 + 3


def test_shapes_at_full_size() -> None:
    with torch.device("meta"):
        detector = build_detector("ssan_m").eval()
        assert isinstance(detector, SSANM)
        content, style = detector.disentangle(torch.zeros(1, 3, 256, 256))
        assembled = detector.assemble(content, style)
        output = detector.judge(assembled)
    assert (content.shape, style.shape) == ((1, 256, 16, 16), (1, 2, 256))
    assert assembled.shape == (1, 512, 8, 8)
    assert output.maps is not None
    assert output.maps["depth"].shape == (1, 1, 32, 32)
    assert output.features.shape == (1, 512)


def conv(x: Array, weight: Any, stride: int = 1) -> Array:
    """3x3, padding 1, every output pixel for itself."""
    kernel = weight.detach().double().numpy()
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows, columns = (range(0, size, stride) for size in x.shape[2:])
    out = np.empty((len(x), len(kernel), len(rows), len(columns)))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            window = padded[:, None, :, row : row + 3, column : column + 3]
            out[:, :, i, j] = (window * kernel[None]).sum(axis=(2, 3, 4))
    return out


def pool(x: Array) -> Array:
    """The maximum of 3x3 around every second pixel."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    rows, columns = (range(0, size, 2) for size in x.shape[2:])
    lines = [np.stack([padded[:, :, i : i + 3, j : j + 3].max(axis=(2, 3)) for j in columns], axis=-1) for i in rows]
    return np.stack(lines, axis=-2)


def batch_norm(x: Array, layer: Any) -> Array:
    mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    if not layer.training:
        mean, variance = layer.running_mean.double().numpy(), layer.running_var.double().numpy()
    weight, bias = (values.detach().double().numpy() for values in (layer.weight, layer.bias))
    return (x - column(mean)) / np.sqrt(column(variance) + 1e-5) * column(weight) + column(bias)


def column(values: Array) -> Array:
    return values[None, :, None, None]


def instance_norm(x: Array, correction: int = 0) -> Array:
    count = x.shape[2] * x.shape[3]
    mean = x.sum(axis=(2, 3), keepdims=True) / count
    variance = ((x - mean) ** 2).sum(axis=(2, 3), keepdims=True) / (count - correction)
    return (x - mean) / np.sqrt(variance + 1e-5)


def twice(x: Array) -> Array:
    """Bilinear: an output pixel's centre lies a quarter of a pixel from the nearest input centre; edges repeat."""
    for axis in (2, 3):
        size = x.shape[axis]
        lines = []
        for place in range(2 * size):
            near, far = place // 2, place // 2 + (1 if place % 2 else -1)
            far = min(max(far, 0), size - 1)
            lines.append(0.75 * x.take(near, axis) + 0.25 * x.take(far, axis))
        x = np.stack(lines, axis)
    return x


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def adaptive(x: Array, scale: Array, shift: Array) -> Array:
    return scale[:, :, None, None] * instance_norm(x, correction=1) + shift[:, :, None, None]


def slow_layers(x: Array, layers: Any) -> Array:
    """Convolutions, BatchNorms, ReLUs and poolings, one after another."""
    for layer in layers:
        if isinstance(layer, torch.nn.Conv2d):
            x = conv(x, layer.weight, layer.stride[0])
        elif isinstance(layer, torch.nn.BatchNorm2d):
            x = batch_norm(x, layer)
        elif isinstance(layer, torch.nn.MaxPool2d):
            x = pool(x)
        elif isinstance(layer, torch.nn.Upsample):
            x = twice(x)
        elif isinstance(layer, torch.nn.LeakyReLU):
            x = np.where(x > 0, x, 0.2 * x)
        elif isinstance(layer, torch.nn.ReLU):
            x = relu(x)
    return x


def slow_content_and_style(detector: SSANM, image: Array) -> tuple[Array, Array, Array]:
    x = slow_layers(image * 127.5 / 128, detector.trunk.stem)  # type: ignore[arg-type]
    levels = []
    for block in detector.trunk.blocks:  # type: ignore[union-attr]
        x = slow_layers(x, block)
        levels.append(x)
    one, two, three = (adapter[0].weight for adapter in detector.style.adapters)  # type: ignore[index, union-attr]
    joined = relu(instance_norm(conv(levels[0], one, 2))) + levels[1]
    joined = relu(instance_norm(conv(joined, two, 2))) + levels[2]
    joined = instance_norm(conv(joined, three, 2))
    hidden, scale, shift = (
        layer.weight.detach().double().numpy()
        for layer in (detector.style.hidden, detector.style.scale, detector.style.shift)
    )
    hidden = relu(joined.max(axis=(2, 3)) @ hidden.T)
    return slow_layers(x, detector.content), hidden @ scale.T, hidden @ shift.T


def slow_assembly(detector: SSANM, content: Array, scale: Array, shift: Array) -> Array:
    for block in detector.blocks:
        inner = content
        if not detector.released:
            first, second = block.convolutions  # type: ignore[union-attr, misc]
            inner = conv(relu(adaptive(conv(content, first.weight), scale, shift)), second.weight)
        content = content + adaptive(inner, scale, shift)
    return slow_layers(content, detector.joined)


@pytest.mark.parametrize("released", [False, True])
def test_the_network_equals_the_slow_computation(released: bool, make_batch: MakeBatch) -> None:
    detector = small(released).eval()
    image = make_batch(3, side=48).image
    content, scale, shift = slow_content_and_style(detector, image.double().numpy())
    assembled = slow_assembly(detector, content, scale, shift)
    depth = slow_layers(assembled, detector.decoder)
    with torch.no_grad():
        output = detector(image)
    assert assembled.shape == (3, 16, 2, 2)
    assert depth.shape == (3, 1, 8, 8)
    assert (depth > 0).any()
    np.testing.assert_allclose(output.maps["depth"], depth, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(output.features, assembled.mean(axis=(2, 3)), rtol=1e-3, atol=1e-5)
    mean = depth.mean(axis=(1, 2, 3)).clip(1e-4, 1 - 1e-4)
    np.testing.assert_allclose(output.probability_bonafide, mean, rtol=1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_the_discriminator_equals_the_slow_computation(training: bool) -> None:
    discriminator = shaken(MapDiscriminator(6, 3)).train(training)
    content = torch.randn(5, 6, 12, 12, generator=torch.Generator().manual_seed(0))
    hidden = slow_layers(content.double().numpy(), discriminator)
    linear = discriminator[-1]
    assert hidden.shape == (5, 12, 3, 3)
    expected = hidden.mean(axis=(2, 3)) @ linear.weight.detach().double().numpy().T + linear.bias.detach().numpy()
    np.testing.assert_allclose(discriminator(content).detach(), expected, rtol=1e-4, atol=1e-5)


def test_the_loss_equals_a_slow_computation(make_batch: MakeBatch) -> None:
    batch = make_batch(6, side=48)
    batch.depth = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    objective = ssan(lambda_contrastive=0.5, lambda_adversarial=0.25).eval()
    detector = objective.detector
    assert isinstance(detector, SSANM)
    torch.manual_seed(3)
    result = objective(batch, 0.5)
    torch.manual_seed(3)
    donors = torch.randperm(6).numpy()
    content, scale, shift = slow_content_and_style(detector, batch.image.double().numpy())
    own = slow_assembly(detector, content, scale, shift)
    mixed = slow_assembly(detector, content, scale[donors], shift[donors]).mean(axis=(2, 3))
    target = batch.depth.double().numpy() * (batch.label.numpy() == 1)[:, None, None, None]
    depth = ((slow_layers(own, detector.decoder) - target) ** 2).mean()
    contrast = 0.0
    for face, feature in enumerate(own.mean(axis=(2, 3))):
        cosine = feature @ mixed[face] / np.linalg.norm(feature) / np.linalg.norm(mixed[face])
        contrast += (-1 if batch.label[face] == batch.label[donors[face]] else 1) * cosine / 6
    linear = objective.discriminator[-1]  # type: ignore[index]
    hidden = slow_layers(content, objective.discriminator).mean(axis=(2, 3))
    scores = hidden @ linear.weight.detach().double().numpy().T + linear.bias.detach().numpy()
    domain = np.mean([np.log(np.exp(row).sum()) - row[which] for row, which in zip(scores, batch.domain, strict=True)])
    assert result["depth"].item() == pytest.approx(depth, rel=1e-3)
    assert result["contrastive"].item() == pytest.approx(contrast, abs=1e-4)
    assert result["adversarial"].item() == pytest.approx(domain, rel=1e-4)
    assert result["loss"].item() == pytest.approx(depth + 0.5 * contrast + 0.25 * domain, rel=1e-3)
    assert "cross_entropy" not in result
    assert objective.wanted_maps == ("depth", "mask")


@pytest.mark.parametrize("released", [False, True])
def test_the_discriminator_is_fought_and_in_the_released_code_helped(released: bool, make_batch: MakeBatch) -> None:
    batch = make_batch(6)
    objective = ssan(released)
    content = torch.randn(6, 8, 4, 4, requires_grad=True)
    got = torch.autograd.grad(objective._adversarial(content, batch, 0.5), content)[0]
    plain = torch.nn.functional.cross_entropy(objective.discriminator(content), batch.domain)
    sign = 1.0 if released else -reversal_coefficient(0.5)
    torch.testing.assert_close(got, sign * torch.autograd.grad(plain, content)[0])
    assert got.abs().max() > 0


def test_a_picture_too_small_for_its_maps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ssan_m normalises maps at a stride of 16.*above 16"):
        small(image_size=16)
    assert small(image_size=17)(torch.zeros(2, 3, 17, 17)).logits.isfinite().all()


def test_it_learns_depth_from_a_batch(make_batch: MakeBatch) -> None:
    batch = make_batch(8, side=32)
    batch.image[batch.label == 1] += 0.5
    objective = build_objective("ssan", build_detector("ssan_m", image_size=32, width=8), 3)
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3)
    found = []
    for _ in range(25):
        result = objective(batch, 0.1)
        optimizer.zero_grad()
        result["loss"].backward()
        optimizer.step()
        found.append(result["depth"].item())
    assert found[-1] < 0.5 * found[0]
    scores = result["output"].probability_bonafide
    assert scores[batch.label == 1].min() > scores[batch.label == 0].max()

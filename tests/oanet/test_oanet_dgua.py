"""DGUA-FAS: its network's count, its losses by slow computations, and which loss teaches which network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from oanet.batch import FaceBatch
from oanet.detectors import build_detector
from oanet.detectors.dgua import DGUA
from oanet.objectives import build_objective
from oanet.objectives.dgua import UnknownAttacks

MakeBatch = Callable[..., FaceBatch]


def dgua(**options: Any) -> UnknownAttacks:
    """Small; the networks differ, and so do their statistics."""
    detector = build_detector("dgua", preset="tiny", image_size=32, dropout=0.0)
    objective = build_objective("dgua", detector, 3, **options)
    assert isinstance(objective, UnknownAttacks)
    draw = torch.Generator().manual_seed(2)
    for name, values in objective.named_parameters():
        if name.startswith("copycat"):
            values.data += 0.02 * torch.randn(values.shape, generator=draw)
    for name, values in objective.named_buffers():
        if "running" in name:
            values.uniform_(0.5, 1.5, generator=draw)
    return objective


def test_parameters_are_the_published_ones_with_another_classifier() -> None:
    with torch.device("meta"):
        detector = build_detector("dgua")
    assert detector.num_parameters() == 5_578_632 - 641 * 1000 + 641 * 3 == 4_939_555


def test_inner_maps_at_full_size() -> None:
    with torch.device("meta"):
        detector = build_detector("dgua").eval()
        assert isinstance(detector, DGUA)
        maps, last = detector.trace(torch.zeros(1, 3, 256, 256))
        assert [tuple(values.shape[1:]) for values in maps] == [(96, 32, 32), (128, 16, 16), (160, 8, 8)]
        assert last.shape == (1, 640, 8, 8)
        for level, values in enumerate(maps):
            assert detector.resume(level, values).shape == last.shape


def test_the_score_is_the_probability_of_live(make_batch: MakeBatch) -> None:
    detector = build_detector("dgua", preset="tiny").eval()
    assert isinstance(detector, DGUA)
    image = make_batch(4).image
    output = detector(image)
    kinds = detector.classify(detector.trace(image)[1])[1]
    torch.testing.assert_close(output.probability_bonafide, kinds.softmax(dim=1)[:, 1])
    last = torch.randn(4, detector.feature_dim, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = detector.classify(last)[1]
    assert torch.equal(rounded, detector.classify(last)[1])


def test_dropout_is_where_the_public_network_has_it() -> None:
    detector = build_detector("dgua", preset="tiny", dropout=0.3)
    named = {name: layer.p for name, layer in detector.named_modules() if isinstance(layer, torch.nn.Dropout)}
    dropped = {name for name, rate in named.items() if rate == 0.3}
    assert all(name == "dropout" or name.endswith(("attn.proj_drop.dropout", "mlp.drop2.dropout")) for name in dropped)
    assert len(dropped) == 1 + 2 * 9  # two, four and three transformers
    assert set(named.values()) == {0.0, 0.3}


def slow_cross_entropy(logits: Tensor, kinds: Tensor, smoothing: float) -> float:
    total = 0.0
    for row, kind in zip(logits.double(), kinds.tolist(), strict=True):
        logs = row - row.exp().sum().log()
        target = torch.full((3,), smoothing / 3, dtype=torch.float64)
        target[kind] += 1 - smoothing
        total -= float((target * logs).sum())
    return total / len(logits)


def slow_stages(network: Any, values: Tensor, first: int = 0) -> list[Tensor]:
    """The values, the outputs of the stages from `first` on, and the last map."""
    outputs = [values]
    for stage in list(network.trunk.stages)[first:]:
        outputs.append(stage(outputs[-1]))
    return [*outputs, network.trunk.final_conv(outputs[-1])]


def test_the_loss_equals_a_slow_computation(make_batch: MakeBatch) -> None:
    batch = make_batch(6, side=32)
    objective = dgua(lambda_compact=0.5, lambda_unknown=0.25).eval()
    detector, copycat = objective.detector, objective.copycat
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = ((batch.image + 1) / 2 - mean) / deviation
    with torch.no_grad():
        result = objective(batch, 0.5)
        real, copied = (slow_stages(net, net.trunk.stem(pixels)) for net in (detector, copycat))  # type: ignore[operator, union-attr]

        def kinds(net: Any, last: Tensor) -> Tensor:
            return last.mean(dim=(2, 3)) @ net.classifier.weight.T + net.classifier.bias

        assert batch.kind is not None
        unknown = sum(
            slow_cross_entropy(kinds(detector, slow_stages(detector, copied[stage], stage)[-1]), batch.kind, smoothing)
            / 3
            for stage, smoothing in ((3, 0.5), (4, 0.5), (5, 1.0))
        )
        expected = {
            "cross_entropy": slow_cross_entropy(kinds(detector, real[-1]), batch.kind, 0.1),
            "compact": float(real[-1][batch.label == 1].abs().mean()),
            "unknown": unknown,
            "copycat": slow_cross_entropy(kinds(copycat, copied[-1]), batch.kind, 0.1),
            "imitation": sum(float((real[stage] - copied[stage]).abs().mean()) for stage in (3, 4)) / 2,
        }
    for part, value in expected.items():
        assert result[part].item() == pytest.approx(value, rel=1e-4), part
    weighted = sum({"compact": 0.5, "unknown": 0.25}.get(part, 1.0) * value for part, value in expected.items())
    assert result["loss"].item() == pytest.approx(weighted, rel=1e-4)


def test_each_network_learns_from_its_own_losses(make_batch: MakeBatch) -> None:
    batch = make_batch(6, side=32)
    objective = dgua().train()
    start = {name: values.clone() for name, values in objective.state_dict().items()}

    def gradients(*parts: str) -> dict[str, Tensor | None]:
        objective.load_state_dict(start)
        seen = objective.observe(batch)
        live = (batch.label == 1).float()
        cross_entropy = torch.nn.functional.cross_entropy
        losses = {
            "copycat": cross_entropy(seen.copied, batch.kind, label_smoothing=0.1) + seen.apart.mean(),
            "detector": cross_entropy(seen.kinds, batch.kind, label_smoothing=0.1)
            + (seen.length * live).sum() / live.sum()
            + 0.1
            * sum(
                cross_entropy(values, batch.kind, label_smoothing=smoothing) / 3
                for values, smoothing in zip(seen.unknown, (0.5, 0.5, 1.0), strict=True)
            ),
        }
        objective.zero_grad(set_to_none=True)
        sum(losses[part] for part in parts).backward()  # type: ignore[union-attr]
        return {name: parameter.grad for name, parameter in objective.named_parameters()}

    both, copycats, detectors = gradients("copycat", "detector"), gradients("copycat"), gradients("detector")
    for name, gradient in both.items():
        own, other = (copycats, detectors) if name.startswith("copycat") else (detectors, copycats)
        assert other[name] is None, name
        torch.testing.assert_close(gradient, own[name], msg=name)
    assert all(module.training for module in objective.modules())


def test_running_statistics_follow_the_training_passes_alone(make_batch: MakeBatch) -> None:
    batch = make_batch(6, side=32)
    objective = dgua().train()
    twin = dgua().train()
    objective.observe(batch)
    with torch.no_grad():
        twin.copycat.trace(batch.image)  # type: ignore[operator]
    for name, values in twin.copycat.named_buffers():
        torch.testing.assert_close(objective.copycat.get_buffer(name), values, msg=name)
    stem = [name for name, _ in objective.detector.named_buffers() if "stem" in name and "batches" in name]
    assert stem
    for name in stem:
        assert objective.detector.get_buffer(name) == 1  # three more passes begin behind it


def test_what_is_missing_is_said(make_batch: MakeBatch) -> None:
    with pytest.raises(ValueError, match="the batch has no `kind`"):
        dgua()(replace(make_batch(4, side=32), kind=None), 0.5)
    with pytest.raises(ValueError, match=r"'image_only' has no trace, resume, classify, judge, classifier.*'dgua'"):
        build_objective("dgua", build_detector("image_only", preset="tiny"), 3)
    with pytest.raises(ValueError, match="no MobileViT with 3 blocks"):
        build_detector("dgua", backbone="resnet18")
    with pytest.raises(ValueError, match="smoothing = 1"):
        build_objective("dgua", build_detector("dgua", preset="tiny"), 3, smoothing=1.0)

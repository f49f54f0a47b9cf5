"""Other people's detectors: the counts of their papers, one contract, and what their options change."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from detector_names import TRAINABLE

from oanet.batch import FaceBatch
from oanet.detectors import Detector, build_detector
from oanet.detectors.attacknet import DenseBatchNorm, SkipBlock
from oanet.head import HEADS, normalize_feature
from oanet.names import DETECTORS
from oanet.objectives import build_objective
from oanet.presets import detector_preset

MakeBatch = Callable[..., FaceBatch]

ZOO = (
    "vit",
    "resnet18",
    "ssdg_r",
    "ssdg_m",
    "liveness_vit",
    "livenessnet",
    "attacknet_v1",
    "attacknet_v2_1",
    "attacknet_v2_2",
    "cdcn",
    "cdcn_pp",
    "minifasnet",
    "flip_v",
    "flip_it",
)
TRAINED = tuple(name for name in ZOO if name in TRAINABLE)


def on_meta(name: str, **options: Any) -> Detector:
    with torch.device("meta"):
        return build_detector(name, **options)


def running_statistics(detector: Detector) -> int:
    return sum(buffer.numel() for name, buffer in detector.named_buffers() if "running_" in name)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vit", 85_798_656 + 768 * 2 + 2),
        ("resnet18", 11_177_538),
        ("ssdg_r", 11_440_194),
        ("ssdg_m", 3_615_450),
        ("liveness_vit", 520_578),
        ("cdcn", 2_245_016),
        ("cdcn_pp", 2_257_352),
        ("minifasnet", 434_560 + 433_586),
        ("flip_v", 85_799_424 + 393_728 + 1_026),
        ("flip_it", 149_620_737),
        ("flip_mcl", 149_620_737),
        ("gd_fas", 149_620_737),
        ("ddm_star", 2 * 85_798_656 + 1536 * 512 + 512 + 1_026),
    ],
)
def test_full_size(name: str, count: int) -> None:
    assert on_meta(name).num_parameters() == count


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("livenessnet", 8_406_098),
        ("attacknet_v1", 33_588_738),
        ("attacknet_v2_1", 33_588_738),
        ("attacknet_v2_2", 16_806_722),
    ],
)
@pytest.mark.parametrize("preset", ["base", "released"])
def test_full_size_as_keras_counts(name: str, count: int, preset: str) -> None:
    detector = on_meta(name, preset=preset)
    assert detector.num_parameters() + running_statistics(detector) == count


@pytest.mark.parametrize(("preset", "width"), [("base", 768), ("small", 384), ("ti", 192)])
def test_vit_comes_in_three_sizes(preset: str, width: int) -> None:
    assert on_meta("vit", preset=preset).feature_dim == width


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_learns_and_a_batch_is_its_singles(name: str, make_batch: MakeBatch) -> None:
    batch = make_batch(8)
    detector = build_detector(name, preset="tiny")
    build_objective("erm", detector, num_domains=1)(batch, 0.0)["loss"].backward()
    for parameter_name, parameter in detector.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name
    detector.eval()
    with torch.no_grad():
        together = detector(batch.image)
        alone = [detector(image[None]) for image in batch.image]
    assert together.logits.dtype == together.features.dtype == torch.float32
    assert together.features.shape == (8, detector.feature_dim)
    torch.testing.assert_close(together.logits, torch.cat([one.logits for one in alone]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.features, torch.cat([one.features for one in alone]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in ZOO if name != "minifasnet"])  # which cuts its own input
def test_pictures_of_another_size_are_resized(name: str) -> None:
    detector = build_detector(name, preset="tiny").eval()
    smooth = torch.linspace(-1, 1, 48).view(1, 1, 48, 1).expand(2, 3, 48, 48)
    large = torch.linspace(-1, 1, 96).view(1, 1, 96, 1).expand(2, 3, 96, 96)
    with torch.no_grad():
        first, second = detector(smooth), detector(large)
    assert first.logits.shape == second.logits.shape == (2, 2)
    torch.testing.assert_close(first.probability_bonafide, second.probability_bonafide, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("name", ["ssdg_r", "resnet18", "flip_v", "flip_it"])
def test_imagenets_mean_is_zero_inside(name: str) -> None:
    """A picture of ImageNet's mean colour reaches the first convolution as zeros, whatever the data's range is."""
    detector = build_detector(name, preset="tiny").eval()
    first = next(module for module in detector.modules() if isinstance(module, torch.nn.Conv2d))
    seen: list[torch.Tensor] = []
    first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    colour = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1) * 2 - 1
    detector(colour.expand(1, 3, 64, 64))
    torch.testing.assert_close(seen[0], torch.zeros(1, 3, 64, 64), rtol=0, atol=1e-6)


def test_vit_with_the_embedding_is_image_only(make_batch: MakeBatch) -> None:
    plain = build_detector("image_only", preset="tiny", seed=3).eval()
    same = build_detector("vit", preset="tiny", seed=3, head="embedding").eval()
    same.load_state_dict(plain.state_dict())
    image = make_batch(3).image
    assert torch.equal(plain(image).logits, same(image).logits)


@pytest.mark.parametrize("head", HEADS)
def test_heads_of_the_vit(head: str, make_batch: MakeBatch) -> None:
    detector = build_detector("vit", preset="tiny", head=head)
    image = make_batch(4).image
    first, second = detector(image).features, detector(image).features
    assert first.shape[1] == detector.feature_dim == (96 if head == "linear" else 128)
    assert torch.equal(first, second) == (head != "bottleneck"), "the bottleneck alone has dropout"


def test_the_bottleneck_is_relu_and_scaled() -> None:
    detector = build_detector("ssdg_r", preset="tiny").eval()
    pooled = torch.randn(5, detector.trunk.dim)
    _, features = detector.head(pooled)
    expected = normalize_feature(torch.relu(pooled @ detector.head.embedder.weight.T + detector.head.embedder.bias))
    torch.testing.assert_close(features, expected)


def test_v1_differs_from_v2_1_by_its_activations_alone(make_batch: MakeBatch) -> None:
    image = make_batch(4).image
    paper = build_detector("attacknet_v1", preset="tiny").eval()
    released = build_detector("attacknet_v1", preset="tiny", relu=False).eval()
    second = build_detector("attacknet_v2_1", preset="tiny").eval()
    for other in (released, second):
        other.load_state_dict(paper.state_dict())
    assert torch.equal(released(image).logits, second(image).logits)
    assert not torch.allclose(paper(image).logits, second(image).logits)


@pytest.mark.parametrize("concatenate", [True, False])
def test_the_skip_joins_the_first_convolution_and_the_third(concatenate: bool) -> None:
    """Written out: y = conv(x), z = act(conv(act(conv(norm(act(y)))))), then the norm of both."""
    block = SkipBlock(3, 4, momentum=0.01, concatenate=concatenate, slope=0.2).eval()
    for norm in (block.deep[1], block.norm):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    face = torch.randn(2, 3, 8, 8)

    def normal(norm: torch.nn.BatchNorm2d, values: torch.Tensor) -> torch.Tensor:
        mean, deviation, weight, bias = (
            each.view(-1, 1, 1)
            for each in (norm.running_mean, (norm.running_var + 1e-3).sqrt(), norm.weight, norm.bias)
        )
        return (values - mean) / deviation * weight + bias

    def bent(values: torch.Tensor) -> torch.Tensor:
        return torch.where(values > 0, values, 0.2 * values)

    first = block.first(face)
    deep = bent(block.deep[4](bent(block.deep[2](normal(block.deep[1], bent(first))))))
    joined = torch.cat([first, deep], dim=1) if concatenate else first + deep
    torch.testing.assert_close(block(face), normal(block.norm, joined))
    assert block.out_channels == joined.shape[1]


def test_the_running_variance_after_dense_layers_is_the_biased_one() -> None:
    layer = DenseBatchNorm(3, eps=1e-3, momentum=0.25).train()
    values = torch.randn(8, 3)
    plain = torch.nn.BatchNorm1d(3, eps=1e-3, momentum=0.25).train()
    torch.testing.assert_close(layer(values), plain(values))
    torch.testing.assert_close(layer.running_mean, plain.running_mean)
    assert layer.num_batches_tracked == plain.num_batches_tracked
    torch.testing.assert_close(layer.running_var, 0.75 + 0.25 * values.var(dim=0, correction=0))
    for options in ({"momentum": None}, {"track_running_stats": False}):  # which Keras has not: as torch does
        layer, plain = (kind(3, **options).train() for kind in (DenseBatchNorm, torch.nn.BatchNorm1d))
        torch.testing.assert_close(layer(values), plain(values))
        assert layer.state_dict().keys() == plain.state_dict().keys()
        torch.testing.assert_close(list(layer.state_dict().values()), list(plain.state_dict().values()))


def test_the_penalty_is_that_of_keras(make_batch: MakeBatch) -> None:
    for name, options, parts in (
        ("attacknet_v1", {}, ("blocks", "hidden", "head")),
        ("attacknet_v2_1", {"l2_wide": False}, ("blocks", "head")),
    ):
        detector = build_detector(name, preset="tiny", **options)
        kernels = [w for key, w in detector.named_parameters() if key.startswith(parts) and w.ndim > 1]
        expected = sum(1e-5 * kernel.detach().double().square().sum().item() for kernel in kernels)
        assert detector.penalty().item() == pytest.approx(expected)  # type: ignore[union-attr]
        objective = build_objective("erm", detector, 1)
        result = objective(make_batch(4), 0.5)
        assert result["loss"].item() == pytest.approx((result["cross_entropy"] + result["penalty"]).item())
    for name in ("livenessnet", "attacknet_v2_2"):
        assert build_detector(name, preset="tiny", l2=detector_preset(name, "released")["l2"]).penalty() is None


def test_released_presets_change_what_the_code_changes() -> None:
    rates = {
        name: {key: detector_preset(name, "released")[key] for key in ("conv_dropout", "dropout")}
        for name in ("livenessnet", "attacknet_v1", "attacknet_v2_1", "attacknet_v2_2")
    }
    for name, rate in rates.items():
        share = 1.0 if name == "attacknet_v2_1" else 0.5
        assert rate["conv_dropout"] == pytest.approx(share * rate["dropout"]), name
    assert detector_preset("attacknet_v1", "released")["relu"] is False


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("livenessnet", {"image_size": 66}, "image_size = 66.*4 must divide it"),
        ("attacknet_v1", {"dropout": 1.0}, "dropout = 1.0"),
        ("cdcn", {"theta": 1.5}, "theta = 1.5"),
        ("cdcn_pp", {"width": 2}, "width = 2"),
        ("ssdg_m", {"width": 1}, "width = 1"),
        ("vit", {"head": "lineer"}, "did you mean 'linear'"),
        ("vit", {"cue_stages": 2}, "cue_stages of the detector 'vit' needs its option cue: true"),
        ("ddm", {}, "'ddm' is not offered: .*'ddm_star' is the AG-FAS paper's variant"),
        ("flip_v", {"clip": "no/such/folder/clip"}, "CLIP 'no/such/folder/clip' could not be opened"),
        ("flip_it", {"clip": "x", "clip_options": {"projection_dim": 8}}, "leave clip_options out"),
        ("flip_it", {"clip_options": {"visions": {}}}, "did you mean 'vision'"),
        ("flip_it", {"clip_options": {"text": {"hiden_size": 8}}}, "did you mean 'hidden_size'"),
        ("flip_it", {"clip_options": {"text": {"vocab_size": 12}}}, "vocab_size = 12; the prompts have 20 words"),
        ("flip_it", {"clip_options": {"text": {"max_position_embeddings": 8}}}, "reads 8 tokens.*need 10"),
        (
            "resnet18",
            {"backbone": "vit_tiny_patch16_224", "backbone_options": None},
            "refuses an option|ResNet is needed",
        ),
        ("liveness_vit", {"patch_size": 15}, "patch_size = 15 does not divide"),
        ("liveness_vit", {"num_heads": 7}, "num_heads = 7 does not divide"),
        ("liveness_vit", {"patch_size": 0}, "patch_size = 0 does not divide"),
        ("livenessnet", {"width": 0}, "width = 0; it must be in"),
        ("attacknet_v2_2", {"width": 0}, "width = 0; it must be in"),
        ("image_only", {"preset": "tiny", "backbone_options": {"num_heads": 5, "embed_dim": 24}}, "refuses an option"),
        ("liveness_vit", {"weights": "no/such.pt"}, "No weights at no/such.pt"),
        ("minifasnet", {"networks": ["v3"]}, "Unknown network 'v3'"),
        ("minifasnet", {"weights": ["no/such.pth"]}, "No weights at no/such.pth"),
        ("cdcn", {"preset": "released"}, "Unknown preset 'released'.*Allowed: base, tiny"),
    ],
)
def test_mistakes_teach(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        on_meta(name, **options)


def test_the_options_of_the_tables_are_all_used() -> None:
    assert set(ZOO) <= set(DETECTORS.builtin)


@pytest.mark.parametrize("name", ["livenessnet", "attacknet_v1", "attacknet_v2_1", "attacknet_v2_2"])
def test_layers_start_and_drop_as_in_keras(name: str) -> None:
    detector = build_detector(name, preset="tiny", conv_dropout=0.3, dropout=0.7, momentum=0.2)
    parts = list(detector.modules())
    norms = [part for part in parts if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    assert {(part.eps, part.momentum) for part in norms} == {(1e-3, 0.2)}
    assert [part.p for part in parts if isinstance(part, torch.nn.Dropout)] == [0.3, 0.3, 0.7]
    for part in parts:
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            area = part.weight[0, 0].numel()
            bound = math.sqrt(6 / (area * (part.weight.shape[0] + part.weight.shape[1])))  # Glorot's
            assert 0.85 * bound < part.weight.abs().max() <= bound
            assert not part.bias.any()  # type: ignore[union-attr]

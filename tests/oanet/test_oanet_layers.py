"""Cross-attention, head, stem, trunk and cue encoder, each against an independent computation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from oanet.attention import OffRealCrossAttention
from oanet.cue_encoder import CueEncoder
from oanet.detectors import build_detector
from oanet.head import LivenessHead, normalize_feature
from oanet.objectives.flip_mcl import projector
from oanet.objectives.ssan import MapDiscriminator
from oanet.towers import ConvStem, build_vit, fit_image, pool
from oanet.trunks import RESIZES, _per_channel, build_resnet, forget_constants, resize, standardize

SMALL_VIT = {"patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 3}


def randomized_attention() -> OffRealCrossAttention:
    torch.manual_seed(0)
    layer = OffRealCrossAttention(dim=12, cue_dim=8, num_heads=3)
    nn.init.normal_(layer.output.weight)
    nn.init.normal_(layer.key.bias)
    nn.init.normal_(layer.norm.weight)
    return layer


def test_cross_attention_equals_torchs_multihead_attention() -> None:
    layer = randomized_attention()
    tokens, cue = torch.randn(2, 5, 12), torch.randn(2, 7, 8)
    expected, expected_weights = F.multi_head_attention_forward(
        F.layer_norm(tokens, (12,), layer.norm.weight, layer.norm.bias, 1e-12).transpose(0, 1),
        cue.transpose(0, 1),
        cue.transpose(0, 1),
        embed_dim_to_check=12,
        num_heads=3,
        in_proj_weight=None,
        in_proj_bias=torch.cat([layer.query.bias, layer.key.bias, layer.value.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=layer.output.weight,
        out_proj_bias=layer.output.bias,
        use_separate_proj_weight=True,
        q_proj_weight=layer.query.weight,
        k_proj_weight=layer.key.weight,
        v_proj_weight=layer.value.weight,
        average_attn_weights=False,
    )
    update, weights = layer(tokens, cue, need_weights=True)
    torch.testing.assert_close(update, expected.transpose(0, 1))
    torch.testing.assert_close(weights, expected_weights)
    torch.testing.assert_close(layer(tokens, cue)[0], update)
    assert layer(tokens, cue)[1] is None


def test_cross_attention_starts_at_exactly_zero_with_the_papers_parameters() -> None:
    layer = OffRealCrossAttention(dim=768, cue_dim=512, num_heads=12)
    assert sum(p.numel() for p in layer.parameters()) == 1_970_688
    assert torch.equal(layer(torch.randn(1, 3, 768), torch.randn(1, 4, 512))[0], torch.zeros(1, 3, 768))
    assert layer.query.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not layer.query.bias.any()
    with pytest.raises(ValueError, match="does not divide"):
        OffRealCrossAttention(dim=10, cue_dim=8, num_heads=3)


def test_feature_normalisation_is_ssdgs_formula() -> None:
    feature = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    normalized = normalize_feature(feature)
    torch.testing.assert_close(normalized[0], torch.tensor([3.0, 4.0]) / math.sqrt(10))
    assert normalized[0].norm().item() == pytest.approx(math.sqrt(5 / 2))
    (gradient,) = torch.autograd.grad(normalized.sum(), feature)
    torch.testing.assert_close(gradient[1], torch.full((2,), 1e6))  # of 1 / sqrt(1e-12), which keeps it finite


def test_classifier_columns_are_unit_at_every_use() -> None:
    torch.manual_seed(0)
    head = LivenessHead(10, 6)
    assert head.embedder.weight.std().item() == pytest.approx(0.005, rel=0.4)
    assert (head.embedder.bias == 0.1).all()
    assert not head.classifier.bias.any()
    torch.testing.assert_close(head.classifier.weight.norm(dim=0), torch.ones(6))  # unit columns from the start
    wide = LivenessHead(1, 20_000).classifier.weight
    diagonal = (wide[0].abs() - wide[1].abs()).abs() < 0.2  # as often as angles of any direction have it
    assert diagonal.float().mean().item() == pytest.approx(0.180, abs=0.012)
    pooled = torch.randn(4, 10)
    logits, features = head(pooled)
    weight = head.classifier.weight.detach()
    columns = torch.stack([column / column.norm() for column in weight.T], dim=1)
    torch.testing.assert_close(logits, features @ columns.T + head.classifier.bias)
    with torch.no_grad():
        head.classifier.weight.mul_(torch.rand(6) * 5 + 0.1)  # the length of a column does not matter
    torch.testing.assert_close(head(pooled)[0], logits)


def test_the_bottleneck_drops_half() -> None:
    assert LivenessHead(3, 4, bottleneck=True).bottleneck[1].p == 0.5
    assert isinstance(LivenessHead(3, 4).bottleneck, nn.Identity)


def test_residual_blocks_do_not_start_as_identities() -> None:
    resnet = build_resnet("resnet18", options={"layers": [1, 1], "channels": [8, 8]})
    assert resnet.layer1[0].bn2.weight.unique().tolist() == [1]


def test_head_is_float32_under_autocast() -> None:
    head = LivenessHead(10, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, features = head(torch.randn(4, 10, dtype=torch.bfloat16))
    assert logits.dtype == features.dtype == torch.float32


def test_full_size_head_counts() -> None:
    head = LivenessHead(768, 512)
    assert sum(p.numel() for p in head.embedder.parameters()) == 393_728
    assert sum(p.numel() for p in head.classifier.parameters()) == 1_026


def test_conv_stem_gives_the_patch_grid() -> None:
    stem = ConvStem(img_size=32, patch_size=8, in_chans=6, embed_dim=24)
    assert stem(torch.randn(2, 6, 32, 32)).shape == (2, 16, 24)
    assert [m.out_channels for m in stem.layers if isinstance(m, nn.Conv2d)] == [6, 12, 24, 24]
    for img_size, patch_size in ((36, 12), (36, 8)):
        with pytest.raises(ValueError, match="power of two that divides"):
            ConvStem(img_size=img_size, patch_size=patch_size, in_chans=3, embed_dim=24)


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "vit_base_patch16_siglip_224", "test_vit2"])
def test_any_timm_vit_at_any_size(backbone: str) -> None:
    options = SMALL_VIT if backbone != "test_vit2" else {"depth": 2}
    vit = build_vit(backbone, image_size=48, options=options).eval()
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    vector = pool(vit, vit.forward_features(fit_image(vit, image, 48, True)))
    assert vector.shape == (2, vit.num_features)
    assert all(module.eps == 1e-12 for module in vit.modules() if isinstance(module, nn.LayerNorm))


def test_own_epsilon_and_own_statistics_are_kept() -> None:
    vit = build_vit("deit_tiny_patch16_224", 32, layer_norm_eps=None, options=SMALL_VIT)
    assert vit.norm.eps == 1e-6
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    torch.testing.assert_close(fit_image(vit, image, 32, False)[0], ((image[0] + 1) / 2 - mean) / deviation)


def test_a_vit_is_pooled_before_a_classifier_that_it_may_have() -> None:
    vit = build_vit("vit_tiny_patch16_224", 32, options={**SMALL_VIT, "num_classes": 5}).eval()
    assert pool(vit, vit.forward_features(torch.zeros(2, 3, 32, 32))).shape == (2, 24)


def test_constants_that_are_kept_can_be_dropped() -> None:
    standardize(torch.zeros(1, 3, 2, 2))
    assert _per_channel.cache_info().currsize > 0
    forget_constants()
    assert _per_channel.cache_info().currsize == 0


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        *((name, True) for name in ("resnet18", "ssdg_r", "ssdg_m", "ssan_r", "auxiliary", "livenessnet")),
        *((name, False) for name in ("ssan_m", "cdcn")),
    ],
)
def test_convolutions_run_in_the_fast_layout(name: str, inputs: bool) -> None:
    detector = build_detector(name, preset="tiny").eval()
    seen: list[bool] = []
    for layer in getattr(detector, "trunk", detector).modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.is_contiguous(memory_format=torch.channels_last)
            layer.register_forward_pre_hook(
                lambda _, given: seen.append(given[0].is_contiguous(memory_format=torch.channels_last))
            )
    detector(torch.zeros(2, 3, 64, 64))
    assert all(seen if inputs else seen[1:])


def test_activations_are_overwritten_where_nothing_else_reads_them() -> None:
    ssan: Any = build_detector("ssan_m", preset="tiny")
    modules: list[Any] = [
        *(build_detector("ssdg_m", preset="tiny").trunk, build_detector("cdcn", preset="tiny")),
        *(ssan.trunk, ssan.content, ssan.decoder, build_detector("auxiliary", preset="tiny").map_heads),
        *(ConvStem(32, 8, 3, 24), MapDiscriminator(4, 2), projector(4, 4, 4)),
    ]
    for module in modules:
        activations = [layer for layer in module.modules() if isinstance(layer, nn.ReLU | nn.LeakyReLU)]
        assert activations
        assert all(layer.inplace for layer in activations)


def test_cues_and_patches_are_brought_into_the_fast_layout() -> None:
    encoder = CueEncoder(options={"layers": [1, 1], "channels": [8, 8]}, stages=1)
    stem = ConvStem(img_size=32, patch_size=8, in_chans=3, embed_dim=24)
    for module, first in ((encoder, encoder.stem[0]), (stem, stem.layers[0])):
        seen: list[bool] = []
        first.register_forward_pre_hook(
            lambda _, given, seen=seen: seen.append(given[0].is_contiguous(memory_format=torch.channels_last))
        )
        module(torch.zeros(2, 3, 32, 32))
        assert seen == [True]


def test_a_picture_that_fits_is_not_touched() -> None:
    vit = build_vit("vit_tiny_patch16_224", 32, options=SMALL_VIT)
    image = torch.rand(1, 3, 32, 32)
    assert fit_image(vit, image, 32, False) is image
    torch.testing.assert_close(resize(torch.full((1, 6, 64, 64), 0.3), 32), torch.full((1, 6, 32, 32), 0.3))


def test_trunk_errors_teach() -> None:
    with pytest.raises(ValueError, match=r"Nearest: (\w+, ){2}\w+\. `timm"):
        build_vit("vit_bas_patch16_224", 224)
    with pytest.raises(ValueError, match=r"Nearest: .*vit_base_patch16_224"):
        build_vit("vit_bas_patch16_224", 224)
    with pytest.raises(ValueError, match="a timm VisionTransformer or a DINOv3 is needed"):
        build_vit("pit_ti_224", 224)
    with pytest.raises(ValueError, match=r"refuses an option.*img_size"):
        build_vit("resnet18", 224)
    with pytest.raises(ValueError, match=r"refuses an option.*dept"):
        build_vit("vit_tiny_patch16_224", 224, options={"dept": 2})
    with pytest.raises(ValueError, match="Allowed: conv, patch"):
        build_vit("vit_tiny_patch16_224", 224, stem="hybrid")
    with pytest.raises(ValueError, match="no pretrained weights"):
        build_vit("vit_tiny_patch16_224", 224, stem="conv", pretrained=True)
    with pytest.raises(ValueError, match="a timm ResNet is needed"):
        CueEncoder("regnetx_002")
    with pytest.raises(ValueError, match="1 to 4 stages"):
        CueEncoder("resnet18", stages=5)


def test_cue_encoder_gives_the_papers_64_tokens_of_512() -> None:
    encoder = CueEncoder("resnet18").eval()
    assert sum(p.numel() for p in encoder.parameters()) == 11_176_512
    assert sum(p.numel() for p in encoder.stages[3].parameters()) == 8_393_728
    with torch.no_grad():
        assert encoder(torch.randn(1, 3, 256, 256)).shape == (1, 64, 512)
    assert encoder.dim == 512


@pytest.mark.parametrize(("stages", "side", "dim"), [(1, 16, 64), (2, 8, 128), (3, 4, 256)])
def test_fewer_stages_give_a_finer_map(stages: int, side: int, dim: int) -> None:
    encoder = CueEncoder("resnet18", in_channels=6, stages=stages).eval()
    assert encoder.dim == dim
    assert encoder(torch.randn(1, 6, 64, 64)).shape == (1, side * side, dim)


def test_tokens_run_row_by_row() -> None:
    encoder = CueEncoder("resnet18", stages=1).eval()
    cue = torch.randn(1, 3, 64, 64)
    expected = encoder.stages(encoder.stem(cue))[0, :, 3, 5]
    torch.testing.assert_close(encoder(cue)[0, 3 * 16 + 5], expected)


def plainly(image: torch.Tensor, side: int) -> torch.Tensor:
    """(H, W) -> (side, side): each pixel from the four around its centre, alone."""
    scale, out = len(image) / side, torch.empty(side, side, dtype=image.dtype)
    for row in range(side):
        for column in range(side):
            y, x = (min(max((place + 0.5) * scale - 0.5, 0), len(image) - 1) for place in (row, column))
            top, left = int(y), int(x)
            below, right = min(top + 1, len(image) - 1), min(left + 1, len(image) - 1)
            upper = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
            lower = image[below, left] * (1 - (x - left)) + image[below, right] * (x - left)
            out[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return out


def test_plain_resizing_reads_four_pixels_and_keeps_a_screen() -> None:
    image = torch.rand(1, 1, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(resize(image, 28, antialias=False)[0, 0], plainly(image[0, 0], 28))
    line = torch.cos(2 * math.pi * torch.arange(256) / 3)
    screen = (line[:, None] * line)[None, None]
    plain, smooth = (resize(screen, 224, antialias=how).square().mean().item() for how in (False, True))
    assert smooth / plain == pytest.approx(0.56, abs=0.02)


def test_vits_resize_as_their_option_says() -> None:
    image = torch.rand(1, 3, 80, 80) * 2 - 1
    plain, smooth = (build_detector("image_only", preset="tiny", resize=how).eval() for how in RESIZES)
    for detector, antialias in ((plain, False), (smooth, True)):
        torch.testing.assert_close(detector(image).logits, detector(resize(image, 64, antialias)).logits)
    assert not torch.allclose(plain(image).logits, smooth(image).logits)
    with pytest.raises(ValueError, match="Unknown resize 'smooth'"):
        build_detector("image_only", preset="tiny", resize="smooth")

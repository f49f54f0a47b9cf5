"""Patch tokens and the class token's attention, against plain loops over heads and tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lookalike import Lookalike

from oanet.batch import FaceBatch
from oanet.detectors import build_detector
from oanet.objectives.base import check_protocol
from oanet.patches import PatchDetector

MakeBatch = Callable[..., FaceBatch]

# A ViT as DINOv2 with registers has it: layer scale, four registers, patches of 14, positions for the patches alone.
REGISTERS: dict[str, Any] = {
    "backbone": "vit_small_patch14_reg4_dinov2",
    "image_size": 56,
    "stem": "patch",
    "backbone_options": {"embed_dim": 24, "depth": 2, "num_heads": 3},
}
CASES: list[tuple[str, dict[str, Any], int]] = [
    ("image_only", {}, 96),
    ("image_only", REGISTERS, 24),
    ("residual_only", REGISTERS, 24),
    ("dual_branch", {}, 192),
    ("ddm_star", REGISTERS, 48),
    ("vit", REGISTERS, 24),
    ("vit", {**REGISTERS, "cue": True}, 24),
    ("oanet", {}, 96),
    ("oanet", REGISTERS, 24),
]


def alive(detector: Any) -> Any:
    """Every weight off its special start, so that all of the computation shows."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return detector.eval()


def slow_class_attention(vit: Any, read: torch.Tensor) -> np.ndarray:
    """Softmax of q k' / sqrt(d) of token 0, by loops, for the patches: (B, N)."""
    attention = vit.blocks[-1].attn
    weight, bias = (value.detach().double().numpy() for value in (attention.qkv.weight, attention.qkv.bias))
    width, heads = weight.shape[1], attention.num_heads
    size = width // heads
    rows = []
    for tokens in read.detach().double().numpy():
        mean = np.zeros(len(tokens))
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            query = weight[:width][part] @ tokens[0] + bias[:width][part]
            keys = [weight[width : 2 * width][part] @ token + bias[width : 2 * width][part] for token in tokens]
            scores = np.exp([query @ key / np.sqrt(size) for key in keys])
            mean += scores / scores.sum() / heads
        rows.append(mean[vit.num_prefix_tokens :])
    return np.stack(rows)


@pytest.mark.parametrize(("name", "options", "width"), CASES)
def test_patches_and_attention(name: str, options: dict[str, Any], width: int, make_batch: MakeBatch) -> None:
    detector, batch = alive(build_detector(name, preset="tiny", **options)), make_batch(2)
    read: dict[Any, torch.Tensor] = {}
    final: dict[Any, torch.Tensor] = {}
    for vit in detector.towers():
        vit.blocks[-1].norm1.register_forward_hook(lambda *seen, vit=vit: read.update({vit: seen[2]}))
        vit.norm.register_forward_hook(lambda *seen, vit=vit: final.update({vit: seen[2]}))
    plain = detector(batch.image, batch.cue)
    output = detector.see_patches(batch.image, batch.cue)
    assert torch.equal(output.logits, plain.logits)
    assert torch.equal(output.features, plain.features)
    assert plain.patches is None
    assert plain.patch_attention is None
    rows, columns = detector.patch_grid
    assert output.patches.shape == (2, rows * columns, width)
    assert detector.patch_dim == width
    prefix = detector.towers()[0].num_prefix_tokens
    assert prefix == (5 if options else 1)
    assert torch.equal(output.patches, torch.cat([final[vit][:, prefix:] for vit in detector.towers()], dim=2))
    expected = np.mean([slow_class_attention(vit, read[vit]) for vit in detector.towers()], axis=0)
    np.testing.assert_allclose(output.patch_attention.numpy(), expected, rtol=1e-4, atol=1e-7)
    assert output.patches.requires_grad
    assert (output.patch_attention.sum(dim=1) < 1).all()
    assert isinstance(detector, PatchDetector)


def test_attention_with_rotary_codes_is_timms_own(make_batch: MakeBatch) -> None:
    """DINOv3, whose keys are turned: timm's attention without the fused kernel forms the map."""
    options = {**REGISTERS, "backbone": "vit_small_patch16_dinov3_qkvb", "image_size": 64}
    detector, batch = alive(build_detector("oanet", preset="tiny", **options)), make_batch(2)
    attention = detector.vit.blocks[-1].attn
    attention.fused_attn = False
    maps: list[torch.Tensor] = []
    attention.attn_drop.register_forward_hook(lambda *seen: maps.append(seen[2]))
    found = detector.see_patches(batch.image, batch.cue)
    assert found.patches.shape == (2, 16, 24)
    torch.testing.assert_close(found.patch_attention, maps[0].mean(dim=1)[:, 0, 5:])
    assert not detector.vit.norm._forward_hooks, "nothing is kept once it has been seen"
    assert not attention._forward_pre_hooks


def test_only_vits_have_patches(make_batch: MakeBatch) -> None:
    with pytest.raises(ValueError, match="'resnet18' has no see_patches, patch_dim, patch_grid"):
        check_protocol(build_detector("resnet18", preset="tiny"), PatchDetector, "gives patches", "Use a ViT.")
    image = make_batch(1).image
    options = {"patch_size": 16, "embed_dim": 24, "depth": 1, "num_heads": 3}
    for more in ({"class_token": False, "global_pool": "avg"}, {"attn_layer": "diff"}):
        detector: Any = build_detector("image_only", preset="tiny", stem="patch", backbone_options=options | more)
        with pytest.raises(ValueError, match="a class token and plain attention"):
            detector.see_patches(image)
    dropping: Any = build_detector(
        "image_only", preset="tiny", stem="patch", backbone_options={**options, "patch_drop_rate": 0.5}
    )
    with pytest.raises(ValueError, match="8 of 16 patches are left; set patch_drop_rate to 0"):
        dropping.train().see_patches(image)


def test_a_gpu_is_not_waited_for(lookalike: Lookalike, make_batch: MakeBatch) -> None:
    batch = make_batch(2).to("cuda")
    detector: Any = build_detector("oanet", preset="tiny").to("cuda")
    lookalike.clear()
    output = detector.see_patches(batch.image, batch.cue)
    output.patches.square().mean().backward()
    assert lookalike.synchronisations == []
    assert output.patch_attention.is_cuda

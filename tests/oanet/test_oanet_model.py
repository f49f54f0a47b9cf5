"""OA-Net as a whole: the paper's counts, the zero start, the maps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from oanet.detectors import build_detector
from oanet.detectors.vit import ImageOnly
from oanet.model import OANet

UNUSED_POOLER = 590_592

SMALL: dict[str, Any] = {
    "backbone": "vit_tiny_patch16_224",
    "image_size": 32,
    "backbone_options": {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3},
    "embedding_dim": 16,
}


def awake(detector: Any) -> Any:
    """The detector with its cross-attention switched on."""
    generator = torch.Generator().manual_seed(3)
    for layer in detector.cross_attention:
        nn.init.normal_(layer.output.weight, std=0.2, generator=generator)
    return detector.eval()


def test_full_size_has_the_papers_parameters() -> None:
    with torch.device("meta"):
        detector, plain = OANet(), ImageOnly()
    assert detector.num_parameters() == 121_018_178
    assert detector.num_parameters() + UNUSED_POOLER == 121_608_770
    assert sum(p.numel() for p in detector.vit.parameters()) == 85_798_656
    assert sum(p.numel() for p in detector.cross_attention.parameters()) == 23_648_256
    assert plain.num_parameters() == 85_798_656 + 393_728 + 1_026


@pytest.mark.slow
def test_full_size_runs_on_256_pixel_faces() -> None:
    detector = OANet().eval()
    with torch.no_grad():
        output = detector(torch.rand(1, 3, 256, 256), torch.randn(1, 3, 256, 256), need_weights=True)
    assert output.features.shape == (1, 512)
    assert [tuple(m.shape) for m in output.attention] == [(1, 12, 197, 64)] * 12


@pytest.mark.parametrize("options", [SMALL, {}], ids=["patch stem", "tiny preset"])
def test_a_fresh_oanet_is_the_plain_vit_whatever_the_cue(options: dict[str, Any]) -> None:
    oanet = build_detector("oanet", preset="tiny", seed=5, **options).eval()
    plain = build_detector("image_only", preset="tiny", seed=5, **options).eval()
    image = torch.rand(3, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        expected = plain(image)
        for cue in (torch.zeros(3, 3, 64, 64), torch.randn(3, 3, 64, 64), torch.randn(3, 3, 64, 64) * 1e3):
            output = oanet(image, cue)
            assert torch.equal(output.logits, expected.logits)
            assert torch.equal(output.features, expected.features)


def test_weights_move_from_the_plain_vit_by_name() -> None:
    oanet = build_detector("oanet", preset="tiny", seed=1).eval()
    plain = build_detector("image_only", preset="tiny", seed=2).eval()
    missing, unexpected = oanet.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {key.split(".")[0] for key in missing} == {"cue_encoder", "cross_attention"}
    image = torch.rand(2, 3, 64, 64)
    assert torch.equal(oanet(image, torch.randn(2, 3, 64, 64)).logits, plain(image).logits)


def test_a_trained_oanet_depends_on_the_cue() -> None:
    detector = awake(OANet(**SMALL))
    image = torch.rand(2, 3, 32, 32)
    first, second = (detector(image, torch.randn(2, 3, 64, 64)).logits for _ in range(2))
    assert not torch.allclose(first, second)


def test_cross_attention_sits_between_self_attention_and_mlp() -> None:
    detector = awake(OANet(**SMALL))
    order: list[str] = []
    for name, module in detector.named_modules():
        if name.endswith((".attn", ".mlp", "cross_attention.0", "cross_attention.1")):
            module.register_forward_hook(lambda *_, name=name: order.append(name))
    detector(torch.rand(1, 3, 32, 32), torch.randn(1, 3, 64, 64))
    blocks = ([f"vit.blocks.{i}.attn", f"cross_attention.{i}", f"vit.blocks.{i}.mlp"] for i in range(2))
    assert order == [name for block in blocks for name in block]


def test_golden_slice() -> None:
    """Weights and pictures from a formula: whoever changes the computation must change these numbers."""
    detector = OANet(**SMALL, cue_stages=2).eval()
    with torch.no_grad():
        for index, parameter in enumerate(detector.parameters()):
            phase = torch.arange(parameter.numel(), dtype=torch.float64) * 0.37 + index
            parameter.copy_(phase.sin().mul(0.2).view_as(parameter))
    image = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)
    output = detector(image, (image * 40).sin())
    features = torch.tensor([0.1120, -0.2579, 0.3103, -0.1426, 0.1953, 0.1662])
    torch.testing.assert_close(output.logits, torch.tensor([[0.7235, 1.1547]]), rtol=0, atol=1e-3)
    torch.testing.assert_close(output.features[0, :6], features, rtol=0, atol=1e-3)


def test_maps_are_returned_on_request_and_change_nothing() -> None:
    detector = awake(build_detector("oanet", preset="tiny"))
    image, cue = torch.rand(2, 3, 64, 64), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        plain, mapped = detector(image, cue), detector(image, cue, need_weights=True)
    assert plain.attention is None
    assert [tuple(m.shape) for m in mapped.attention] == [(2, 3, 65, 64)] * 4
    torch.testing.assert_close(mapped.logits, plain.logits)
    for weights in mapped.attention:
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3, 65))


def test_a_batch_equals_its_singles() -> None:
    detector = awake(build_detector("oanet", preset="tiny"))
    image, cue = torch.rand(3, 3, 64, 64), torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        together = detector(image, cue).logits
        alone = torch.cat([detector(image[i : i + 1], cue[i : i + 1]).logits for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_six_channel_cues() -> None:
    detector = OANet(**SMALL, cue_channels=6).eval()
    assert detector(torch.rand(1, 3, 32, 32), torch.randn(1, 6, 32, 32)).logits.shape == (1, 2)
    with pytest.raises(ValueError, match="cue_channels = 6 but the cue has the shape"):
        detector(torch.rand(1, 3, 32, 32), torch.randn(1, 3, 32, 32))


def test_other_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="plain pre-norm blocks"):
        OANet(backbone="vit_base_patch16_224_miil", backbone_options={"depth": 1, "block_fn": _OtherBlock})


class _OtherBlock(nn.Module):
    def __init__(self, **unused: Any) -> None:
        super().__init__()

"""The cross-attention in any transformer: zero at the start, and equal to OA-Net in its ViT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detector_names import TRAINABLE, WITH_CUE
from test_oanet_contract import check_gradients, check_saved, train
from torch import nn

from oanet.batch import FaceBatch
from oanet.detectors import Detector, build_detector
from oanet.names import DETECTORS, takes_cue
from oanet.objectives import build_objective

MakeBatch = Callable[..., FaceBatch]

PLUGGABLE = tuple(name for name in TRAINABLE if "cue" in DETECTORS.options(name))


def awake(detector: Any) -> Any:
    """The detector with its cross-attention switched on."""
    generator = torch.Generator().manual_seed(3)
    for layer in detector.cross_attention:
        nn.init.normal_(layer.output.weight, std=0.2, generator=generator)
    return detector.eval()


def plugged(name: str, **options: Any) -> Detector:
    return build_detector(name, preset="tiny", cue=True, **options)


def test_four_transformers_take_the_cue() -> None:
    assert PLUGGABLE == ("vit", "liveness_vit", "flip_v", "flip_it")


@pytest.mark.parametrize("name", PLUGGABLE)
def test_a_fresh_plug_changes_nothing_whatever_the_cue(name: str, make_batch: MakeBatch) -> None:
    plain, detector = build_detector(name, preset="tiny", seed=5).eval(), plugged(name, seed=9).eval()
    missing, unexpected = detector.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {key.split(".")[0] for key in missing} == {"cue_encoder", "cross_attention"}
    batch = make_batch(3)
    with torch.no_grad():
        expected = plain(batch.image)
        for cue in (torch.zeros_like(batch.image), batch.cue, 1e3 * torch.randn_like(batch.image)):
            output = detector(batch.image, cue)
            torch.testing.assert_close(output.logits, expected.logits, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(output.features, expected.features, rtol=1e-5, atol=1e-6)


def test_a_plugged_vit_is_oanet(make_batch: MakeBatch) -> None:
    oanet = awake(build_detector("oanet", preset="tiny", seed=1))
    vit = plugged("vit", head="embedding", seed=2).eval()
    vit.load_state_dict(oanet.state_dict())
    batch = make_batch(3)
    with torch.no_grad():
        one, other = (each(batch.image, batch.cue, need_weights=True) for each in (oanet, vit))
    assert torch.equal(one.logits, other.logits)
    assert all(torch.equal(*maps) for maps in zip(one.attention, other.attention, strict=True))


@pytest.mark.parametrize("name", PLUGGABLE)
def test_trained_it_depends_on_the_cue_and_returns_its_attention(name: str, make_batch: MakeBatch) -> None:
    detector, batch = awake(plugged(name)), make_batch(2)
    with torch.no_grad():
        output = detector(batch.image, batch.cue, need_weights=True)
        other = detector(batch.image, -batch.cue)
    assert other.attention is None
    assert not torch.allclose(output.logits, other.logits, atol=1e-4)
    assert len(output.attention) == len(detector.cross_attention)
    for weights in output.attention:
        assert weights.shape[2:] == (65, 64)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:3]))


@pytest.mark.parametrize("name", PLUGGABLE)
def test_all_of_it_learns_and_is_saved(name: str, make_batch: MakeBatch, tmp_path: Path) -> None:
    batch = make_batch(12, cue_channels=6)
    objective = build_objective("ssdg", plugged(name, cue_channels=6), num_domains=3)
    train(objective, batch, steps=1)
    check_gradients(objective, batch)
    check_saved(objective.detector.eval(), batch, tmp_path)
    with pytest.raises(ValueError, match=f"{name}' needs a cue"):
        objective.detector(batch.image)
    with pytest.raises(ValueError, match="cue_channels = 6"):
        objective.detector(batch.image, batch.cue[:, :3])


def test_cross_attention_sits_between_self_attention_and_mlp(make_batch: MakeBatch) -> None:
    batch = make_batch(1)
    for name, before, after in (("liveness_vit", "self_attn", "linear2"), ("flip_v", "self_attn", "mlp")):
        detector = plugged(name).eval()
        order: list[str] = []
        for path, module in detector.named_modules():
            kind = "cross" if path.startswith("cross_attention.") and path.count(".") == 1 else path.split(".")[-1]
            if kind in (before, after, "cross"):
                module.register_forward_hook(lambda *_, kind=kind, order=order: order.append(kind))
        detector(batch.image, batch.cue)
        assert order == [before, "cross", after] * len(detector.cross_attention)


def test_full_sizes() -> None:
    with torch.device("meta"):
        assert build_detector("vit", cue=True, head="embedding").num_parameters() == 121_018_178
        assert build_detector("flip_v", cue=True).num_parameters() == 86_194_178 + 23_648_256 + 11_176_512
        assert build_detector("flip_it", cue=True).num_parameters() == 149_620_737 + 23_648_256 + 11_176_512


def test_flip_mcl_has_views_without_a_cue() -> None:
    with pytest.raises(ValueError, match="'flip_mcl' compares views of a face that have no cue"):
        build_objective("flip_mcl", plugged("flip_it"), 2)
    with pytest.raises(ValueError, match=r"cue"):
        build_detector("flip_mcl", preset="tiny", cue=True)


def test_whether_a_detector_takes_a_cue_follows_its_options() -> None:
    assert all(takes_cue(name, {}) for name in WITH_CUE)
    assert takes_cue("vit", {"cue": True, "cue_stages": 2})
    assert not takes_cue("vit", {"cue": False})
    assert plugged("vit").needs_cue
    assert not build_detector("vit", preset="tiny").needs_cue
    with pytest.raises(ValueError, match="cue_options of the detector 'flip_v' needs its option cue: true"):
        takes_cue("flip_v", {"preset": "tiny", "cue_options": {}})


def test_published_weights_take_the_plug(tmp_path: Path) -> None:
    """Weights without a plug are read into a network that has one."""
    plain = build_detector("liveness_vit", preset="tiny", seed=4).eval()
    names = {"positions": "pos_embed", "class_token": "cls_token"}
    names |= {f"patches.{part}": f"patch_embed.proj.{part}" for part in ("weight", "bias")}
    names |= {f"head.classifier.{part}": f"head.{part}" for part in ("weight", "bias")}
    state = {names.get(name, name): value for name, value in plain.state_dict().items()}
    state |= {name: value.flip(0) for name, value in state.items() if name.startswith("head.")}
    torch.save({"model": state}, tmp_path / "weights.pt")
    detector = plugged("liveness_vit", weights=str(tmp_path / "weights.pt")).eval()
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        expected, output = plain(image), detector(image, torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(output.logits, expected.logits, rtol=1e-5, atol=1e-6)

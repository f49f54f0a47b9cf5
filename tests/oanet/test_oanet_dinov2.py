"""DINOv2 with registers and DINOv3 as backbones, with the paper's plug in their blocks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from lookalike import Lookalike
from safetensors.torch import load_file, save_file
from test_oanet_contract import check_gradients, check_saved, train
from test_oanet_on_device import check_step
from test_oanet_patches import alive
from timm.layers import resample_abs_pos_embed
from timm.models import save_for_hf
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from oanet.batch import FaceBatch
from oanet.detectors import build_detector, load_detector
from oanet.detectors.vit import ImageOnly
from oanet.objectives import build_objective
from oanet.towers import build_vit, embed
from oanet.trunks import create_timm

MakeBatch = Callable[..., FaceBatch]

SIZES: dict[str, Any] = {"embed_dim": 24, "depth": 2, "num_heads": 3}
DINOV2: dict[str, Any] = {"backbone": "vit_small_patch14_reg4_dinov2", "image_size": 56, "backbone_options": SIZES}
DINOV3: dict[str, Any] = {"backbone": "vit_small_patch16_dinov3", "image_size": 64, "backbone_options": SIZES}
BOTH = pytest.mark.parametrize("options", [DINOV2, DINOV3], ids=["dinov2", "dinov3"])


def tiny(name: str, options: dict[str, Any], **more: Any) -> Any:
    """A detector on a small ViT of the kind, with timm's epsilon."""
    return build_detector(name, preset="dinov2_tiny", **{"stem": "patch", "layer_norm_eps": None, **options, **more})


def test_full_sizes() -> None:
    with torch.device("meta"):
        for side, parameters in ((224, 85_727_232), (518, 86_582_016)):
            vit = build_vit("vit_base_patch14_reg4_dinov2.lvd142m", side, layer_norm_eps=None)
            assert sum(p.numel() for p in vit.parameters()) == parameters
            assert vit.patch_embed.num_patches == (side // 14) ** 2
            assert vit.num_prefix_tokens == 5
        found: dict[str, Any] = {
            preset: build_detector("oanet", preset=preset) for preset in ("dinov2", "dinov2_small", "dinov3")
        }
    rest = 11_176_512 + 1_026
    assert found["dinov2"].num_parameters() == 85_727_232 + 23_648_256 + 393_728 + rest
    assert sum(p.numel() for p in found["dinov2_small"].vit.parameters()) == 21_629_952
    assert sum(p.numel() for p in found["dinov3"].vit.parameters()) == 85_641_216


def test_presets_are_what_dino_was_trained_with() -> None:
    with torch.device("meta"):
        for preset, eps, prefix, side in (("dinov2", 1e-6, 5, 224), ("dinov3", 1e-5, 5, 256)):
            detector: Any = build_detector("oanet", preset=preset)
            assert {m.eps for m in detector.vit.modules() if isinstance(m, torch.nn.LayerNorm)} == {eps}
            assert {layer.norm.eps for layer in detector.cross_attention} == {eps}
            assert detector.vit.num_prefix_tokens == prefix
            assert detector.vit.global_pool == "token"
            assert detector.image_size == side
            assert detector.vit.pretrained_cfg["mean"] == (0.485, 0.456, 0.406)


@BOTH
def test_a_fresh_oanet_is_the_plain_vit_whatever_the_cue(options: dict[str, Any]) -> None:
    oanet, plain = tiny("oanet", options, seed=5).eval(), tiny("image_only", options, seed=5)
    assert plain.load_state_dict({k: v for k, v in oanet.state_dict().items() if k in plain.state_dict()})
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        expected = plain.eval()(image)
        for cue in (torch.zeros(2, 3, 64, 64), 1e3 * torch.randn(2, 3, 64, 64)):
            output = oanet(image, cue, need_weights=True)
            assert torch.equal(output.logits, expected.logits)
        assert [tuple(m.shape) for m in output.attention] == [(2, 3, 5 + 16, 64)] * 2
        awake = alive(oanet)
        assert not torch.allclose(awake(image, cue).logits, awake(image, -cue).logits)


def test_one_block_by_hand(make_batch: MakeBatch) -> None:
    """x + ls1 * attention(norm1 x), then + output(attention to the cue of norm x), then + ls2 * mlp(norm2 x)."""
    sizes = {**SIZES, "depth": 1}
    detector, batch = alive(tiny("oanet", {**DINOV2, "backbone_options": sizes})), make_batch(1)
    for part in (detector.vit, detector.cue_encoder, detector.cross_attention):
        part.double()
    image, cue = batch.image.double(), batch.cue.double()  # type: ignore[union-attr]
    seen: dict[str, torch.Tensor] = {}
    detector.vit.norm.register_forward_hook(lambda *io: seen.update(before=io[1][0]))
    detector.cue_encoder.register_forward_hook(lambda *io: seen.update(cue=io[2]))
    detector(image, cue)
    w = {name: value.detach().numpy() for name, value in detector.state_dict().items()}

    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    small = torch.nn.functional.interpolate(image, size=(56, 56), mode="bilinear")[0].numpy()
    pixels = ((small.transpose(1, 2, 0) + 1) / 2 - mean) / deviation
    patches = [
        np.einsum("dchw,hwc->d", w["vit.patch_embed.proj.weight"], pixels[y : y + 14, x : x + 14])
        for y in range(0, 56, 14)
        for x in range(0, 56, 14)
    ]
    patches = np.stack(patches) + w["vit.patch_embed.proj.bias"] + w["vit.pos_embed"][0]  # none for the prefix
    x = np.concatenate([w["vit.cls_token"][0], w["vit.reg_token"][0], patches])

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-6)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def attention(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
        heads = []
        for part in (slice(0, 8), slice(8, 16), slice(16, 24)):
            scores = np.exp(query[:, part] @ key[:, part].T / np.sqrt(8))
            heads.append(scores / scores.sum(1, keepdims=True) @ value[:, part])
        return np.concatenate(heads, axis=1)

    block, plug, tokens = "vit.blocks.0", "cross_attention.0", seen["cue"][0].detach().numpy()
    query, key, value = np.split(linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv"), 3, axis=1)
    x = x + w[f"{block}.ls1.gamma"] * linear(attention(query, key, value), f"{block}.attn.proj")
    query = linear(norm(x, f"{plug}.norm"), f"{plug}.query")
    attended = attention(query, linear(tokens, f"{plug}.key"), linear(tokens, f"{plug}.value"))
    x = x + linear(attended, f"{plug}.output")
    hidden = torch.nn.functional.gelu(torch.from_numpy(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))).numpy()
    x = x + w[f"{block}.ls2.gamma"] * linear(hidden, f"{block}.mlp.fc2")
    np.testing.assert_allclose(seen["before"][0].detach().numpy(), x, rtol=1e-9, atol=1e-9)


@BOTH
def test_it_learns_is_saved_and_does_not_wait(
    options: dict[str, Any], lookalike: Lookalike, make_batch: MakeBatch, tmp_path: Path
) -> None:
    batch = make_batch(12, cue_channels=6)
    objective = build_objective("ssdg", tiny("oanet", options, cue_channels=6), num_domains=3)
    train(objective, batch, steps=1)
    check_gradients(objective, batch)
    check_saved(objective.detector.eval(), batch, tmp_path)
    check_step(lookalike, objective, batch.to("cuda"))


@pytest.mark.parametrize("name", ["image_only", "residual_only", "dual_branch", "ddm_star", "vit", "oanet"])
def test_every_vit_takes_the_presets(name: str, make_batch: MakeBatch) -> None:
    detector, batch = build_detector(name, preset="dinov2_tiny"), make_batch(2)
    assert detector(batch.image, batch.cue).logits.shape == (2, 2)
    with torch.device("meta"):
        build_detector(name, preset="dinov2")


@pytest.mark.parametrize(
    ("side", "words"), [(256, "252 or 266"), (223, "210 or 224"), (15, "14 or 28"), (13, "is: 14")]
)
def test_the_image_must_be_filled_with_patches(side: int, words: str) -> None:
    with pytest.raises(ValueError, match=rf"image_size = {side} is no multiple of 14, the patch size.*{words}"):
        tiny("image_only", {**DINOV2, "image_size": side})


@pytest.mark.parametrize("side", [224, 252])
def test_sizes_that_it_fills_are_taken(side: int) -> None:
    detector = tiny("image_only", {**DINOV2, "image_size": side}).eval()
    assert detector.patch_grid == (side // 14, side // 14)
    assert detector(torch.rand(1, 3, 256, 256)).logits.shape == (1, 2)


def written(folder: Path, **more: Any) -> Any:
    """A small DINOv2 with registers in timm's layout, of 70 pixels."""
    torch.manual_seed(3)
    vit = alive(create_timm("vit_small_patch14_reg4_dinov2", False, img_size=70, **SIZES))
    vit.pretrained_cfg = {**vit.pretrained_cfg, "input_size": (3, 70, 70), **more}
    save_for_hf(vit, str(folder), model_args={**SIZES, "img_size": 70}, safe_serialization=True)
    (folder / "pytorch_model.bin").unlink(missing_ok=True)
    return vit


def from_folder(name: str, folder: Path | str, **more: Any) -> Any:
    options = {"backbone": str(folder), "pretrained": True, "image_size": 70, "backbone_options": None}
    return tiny(name, {**options, "cue_backbone": "resnet18"} if name == "oanet" else options, **more).eval()


def test_a_folder_of_timm(tmp_path: Path) -> None:
    vit = written(tmp_path / "dino", mean=(0.1, 0.2, 0.3))
    detector = from_folder("image_only", tmp_path / "dino")
    image = torch.rand(2, 3, 70, 70) * 2 - 1
    pixels = ((image + 1) / 2 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor(
        vit.pretrained_cfg["std"]
    ).view(3, 1, 1)
    with torch.no_grad():
        assert torch.equal(vit.forward_features(pixels), detector.vit.forward_features(pixels))
        expected = detector(image)
        torch.testing.assert_close(detector.head(vit(pixels))[0], expected.logits)
        assert not torch.equal(tiny("image_only", DINOV2, image_size=70).eval()(image).logits, expected.logits)
    for place in (f"local-dir:{tmp_path / 'dino'}", tmp_path / "dino"):
        smaller = from_folder("residual_only", place, image_size=42, cue_channels=6)
        resampled = resample_abs_pos_embed(vit.pos_embed, (3, 3), (5, 5), num_prefix_tokens=0)
        torch.testing.assert_close(smaller.cue_vit.pos_embed, resampled)
        weight = vit.patch_embed.proj.weight
        torch.testing.assert_close(smaller.cue_vit.patch_embed.proj.weight, torch.cat([weight, weight], 1) / 2)
    detector.save_pretrained(tmp_path / "saved")
    shutil.rmtree(tmp_path / "dino")
    loaded = load_detector(tmp_path / "saved")
    assert torch.equal(loaded(image).logits, expected.logits)
    assert loaded.config["backbone"] == "vit_small_patch14_reg4_dinov2.lvd142m"
    assert str(tmp_path) not in (tmp_path / "saved" / "config.json").read_text()


@pytest.mark.parametrize("registers", [0, 4])
def test_a_folder_of_transformers(registers: int, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "mlp_ratio": 2}
    sizes |= {"image_size": 70, "patch_size": 14}
    if registers:
        model: Any = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes, num_register_tokens=4))
    else:
        model = Dinov2Model(Dinov2Config(**sizes))
    alive(model).save_pretrained(tmp_path / "dino")
    detector = from_folder("image_only", tmp_path / "dino")
    pixels = torch.randn(2, 3, 70, 70)
    with torch.no_grad():
        expected = model(pixel_values=pixels).last_hidden_state
        torch.testing.assert_close(detector.vit.forward_features(pixels), expected, rtol=1e-4, atol=1e-4)
    detector.save_pretrained(tmp_path / "saved")
    shutil.rmtree(tmp_path / "dino")
    assert torch.equal(load_detector(tmp_path / "saved")(pixels).logits, detector(pixels).logits)


def test_cue_encoders_come_from_folders_too(tmp_path: Path) -> None:
    written(tmp_path / "dino")
    sizes: dict[str, Any] = {"layers": [1, 1], "channels": [8, 16], "stem_type": "deep", "stem_width": 8}
    resnet: Any = timm.create_model("resnet18", num_classes=7, **sizes)
    save_for_hf(resnet, str(tmp_path / "resnet"), model_args=sizes, safe_serialization=True)
    detector = tiny(
        "oanet",
        {"backbone": str(tmp_path / "dino"), "image_size": 70, "backbone_options": None, "pretrained": True},
        cue_backbone=str(tmp_path / "resnet"),
        cue_options=None,
    )
    stem = detector.cue_encoder.stem[0][0].weight
    assert torch.equal(stem, resnet.conv1[0].weight)
    detector.save_pretrained(tmp_path / "saved")
    shutil.rmtree(tmp_path / "resnet")
    shutil.rmtree(tmp_path / "dino")
    assert torch.equal(load_detector(tmp_path / "saved").state_dict()["cue_encoder.stem.0.0.weight"], stem)


def test_folders_that_are_none(tmp_path: Path) -> None:
    def build(folder: Path | str) -> ImageOnly:
        return from_folder("image_only", folder)

    with pytest.raises(FileNotFoundError, match=r"hub is written hf-hub:timm/nowhere"):
        build("timm/nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no .*config\.json\.$"):
        build(tmp_path / "nowhere")
    folder = tmp_path / "dino"
    written(folder)
    weights, config = folder / "model.safetensors", json.loads((folder / "config.json").read_text())
    state = load_file(weights)
    save_file({name: value for name, value in state.items() if name != "reg_token"}, weights)
    with pytest.raises(ValueError, match="does not fit VisionTransformer: it lacks reg_token"):
        build(folder)
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        build(folder)
    weights.unlink()
    with pytest.raises(OSError, match=r"holds a config.json but no model.safetensors"):
        build(folder)
    for found, words in (
        ({**config, "architecture": "resnet18"}, "'resnet18' refuses an option: ResNet"),
        ({**config, "architecture": "vit_smal"}, "timm has no model 'vit_smal'"),
        ({"model_type": "swin"}, "names no timm `architecture` but the model_type 'swin'"),
        ({"model_type": "dinov2", "use_swiglu_ffn": True}, "the giant is read in timm's"),
        ([], "names no timm `architecture`"),
    ):
        (folder / "config.json").write_text(json.dumps(found))
        with pytest.raises(ValueError, match=words):
            tiny("image_only", {"backbone": str(folder), "backbone_options": None, "image_size": 70})
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        build(folder)


def test_a_repository_is_fetched_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vit = written(tmp_path)
    asked: list[tuple[str, str | None]] = []

    def fetch(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        assert allow_patterns == ["config.json", "model.safetensors"]
        asked.append((name, revision))
        if name == "timm/gone":
            raise ConnectionError("offline")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    detector = from_folder("image_only", "hf-hub:timm/small@main")
    assert torch.equal(detector.vit.pos_embed, vit.pos_embed)
    assert set(asked) == {("timm/small", "main")}
    with pytest.raises(OSError, match=r"hf-hub:timm/gone could not be fetched \(offline\)"):
        from_folder("image_only", "hf_hub:timm/gone")
    assert asked[-1] == ("timm/gone", None)


def test_other_evas_are_refused() -> None:
    with pytest.raises(ValueError, match="is a Eva; a timm VisionTransformer or a DINOv3 is needed"):
        build_vit("eva02_tiny_patch14_224", 224)
    with torch.device("meta"):
        tokens, _ = embed(build_vit("vit_small_patch16_dinov3", 256), torch.zeros(1, 3, 256, 256))
    assert tokens.shape == (1, 5 + 256, 384)

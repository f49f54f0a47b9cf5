"""Backbones by the place of their files: what a config.json is read as, and the names of the weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from oanet.sources import Source, _authors_names, by_architecture, find_source, folder_of, is_source
from oanet.trunks import create_timm


def described(folder: Path, **config: object) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_places_are_told_from_names():
    for name in ("resnet18", "vit_base_patch16_224.augreg_in21k"):
        assert not is_source(name)
        assert folder_of(name) is None
    for place, folder in (
        ("local-dir:models/vit", Path("models/vit")),
        ("models/vit", Path("models/vit")),
        ("models\\vit", Path("models\\vit")),
        ("hf-hub:timm/vit", None),
        ("hf_hub:timm/vit", None),
    ):
        assert is_source(place)
        assert folder_of(place) == folder


def test_a_folder_of_timm_is_read_to_the_letter(tmp_path):
    statistics = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 8, 8]}
    ours = {"img_size": 8, "in_chans": 3, "num_classes": 4, "global_pool": "avg", "dynamic_img_size": True}
    whole = described(
        tmp_path / "a",
        architecture="resnet18",
        pretrained_cfg={"tag": "a1_in1k", "crop_pct": 0.9, **statistics},
        model_args={"layers": [1], **ours},
    )
    assert find_source(whole) == Source("resnet18.a1_in1k", {"layers": [1]}, statistics, tmp_path / "a")
    short = described(tmp_path / "b", architecture="resnet18", tag="none_such", mean=[0.1, 0.2, 0.3], model_args=None)
    assert find_source(short) == Source("resnet18", {}, {"mean": [0.1, 0.2, 0.3]}, tmp_path / "b")


@pytest.mark.parametrize(
    ("width", "registers", "name"),
    [
        (384, 0, "vit_small_patch14_dinov2.lvd142m"),
        (768, 4, "vit_base_patch14_reg4_dinov2.lvd142m"),
        (1024, 4, "vit_large_patch14_reg4_dinov2.lvd142m"),
        (24, 0, "vit_base_patch14_dinov2.lvd142m"),
    ],
)
def test_a_folder_of_transformers_is_read_to_the_letter(tmp_path, width, registers, name):
    kind = {"model_type": "dinov2_with_registers", "num_register_tokens": registers} if registers else {}
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 3, "mlp_ratio": 3, "patch_size": 7, "qkv_bias": False}
    more = {"image_size": 70, "num_channels": 4, "hidden_size": width}
    place = described(tmp_path / "a", **{"model_type": "dinov2", **sizes, **more, **kind})
    options = {"embed_dim": width, "depth": 2, "num_heads": 3, "mlp_ratio": 3.0, "patch_size": 7, "qkv_bias": False}
    options |= {"reg_tokens": registers} if registers else {}
    found = find_source(place)
    assert found == Source(name, options, {"input_size": [4, 70, 70]}, tmp_path / "a", from_transformers=True)
    assert list(found.options)[-1] == ("reg_tokens" if registers else "qkv_bias")


def test_a_config_names_architectures_instead_of_places(tmp_path):
    place = described(tmp_path / "a", architecture="resnet18", mean=[0.1], model_args={"layers": [1], "width": 2})
    given = {
        "backbone": place,
        "sizes": {"width": 3},
        "cue": place,
        "cue_sizes": None,
        "third": "resnet18",
        "none": None,
    }
    overlay = {"pretrained_cfg_overlay": {"mean": [0.1]}}
    assert by_architecture(given, {"backbone": "sizes", "cue": "cue_sizes", "third": "x", "none": "y"}) == {
        **{"backbone": "resnet18", "sizes": {"layers": [1], "width": 3, **overlay}},
        **{"cue": "resnet18", "cue_sizes": {"layers": [1], "width": 2, **overlay}, "third": "resnet18", "none": None},
    }
    bare = described(tmp_path / "b", architecture="resnet18")
    assert by_architecture({"backbone": bare, "sizes": None}, {"backbone": "sizes"}) == {
        "backbone": "resnet18",
        "sizes": {},
    }


def test_transformers_names_become_the_authors():
    layer = "encoder.layer.0"
    state = {
        name: torch.full((1,), float(number))
        for number, name in enumerate(
            (
                *("dinov2.embeddings.cls_token", "embeddings.patch_embeddings.projection.weight"),
                *("embeddings.position_embeddings", "dinov2_with_registers.embeddings.register_tokens"),
                *(f"{layer}.attention.attention.{part}.weight" for part in ("value", "query", "key")),
                *(f"{layer}.attention.output.dense.bias", f"{layer}.layer_scale1.lambda1"),
                *(f"{layer}.layer_scale2.lambda1", f"{layer}.mlp.fc1.weight", "layernorm.bias", "classifier.weight"),
            )
        )
    }
    found = {name: values.tolist() for name, values in _authors_names(state, Path("x")).items()}
    assert found == {
        **{"cls_token": [0.0], "patch_embed.proj.weight": [1.0], "pos_embed": [2.0], "register_tokens": [3.0]},
        **{"blocks.0.attn.qkv.weight": [5.0, 6.0, 4.0], "blocks.0.attn.proj.bias": [7.0]},
        **{"blocks.0.ls1.gamma": [8.0], "blocks.0.ls2.gamma": [9.0], "blocks.0.mlp.fc1.weight": [10.0]},
        **{"norm.bias": [11.0], "mask_token": [0.0]},
    }
    kept = _authors_names({"embeddings.mask_token": torch.ones(2)}, Path("x"))
    assert kept["mask_token"].tolist() == [1.0, 1.0]
    for part in ("key", "value"):
        short = {name: values for name, values in state.items() if f".{part}." not in name}
        with pytest.raises(ValueError, match=r"x has blocks\.0\.attention\.attention\.query\.weight without its key"):
            _authors_names(short, Path("x"))


def test_a_place_gives_a_network_of_its_sizes_with_and_without_weights(tmp_path):
    sizes = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}
    place = described(tmp_path / "a", architecture="resnet18", mean=[0.1, 0.2, 0.3], model_args=sizes, num_classes=7)
    network = create_timm(place, False, num_classes=0)
    assert network.pretrained_cfg["mean"] == [0.1, 0.2, 0.3]
    assert [len(stage) for stage in (network.layer1, network.layer4)] == [1, 1]
    with pytest.raises(OSError, match=r"holds a config\.json but no model\.safetensors"):
        create_timm(place, True, num_classes=0)
    with pytest.raises(ValueError, match="this detector needs a backbone by its timm name, such as 'resnet18'"):
        create_timm(place, False, features_only=True)

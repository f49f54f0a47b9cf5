"""Backbones named by the place of their files: a folder, or a repository of the Hugging Face hub.

It holds `config.json` and `model.safetensors` as timm writes them or, of DINOv2, as transformers does. Importing this
imports no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"

_HUBS = ("hf-hub:", "hf_hub:")
_FOLDER = "local-dir:"
_OURS = ("img_size", "in_chans", "num_classes", "global_pool", "dynamic_img_size")
"""timm's arguments that a detector sets itself."""
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_DINOV2_WIDTHS = {384: "small", 768: "base", 1024: "large"}
_MODEL_TYPES = ("dinov2", "dinov2_with_registers")


@dataclass(frozen=True)
class Source:
    """A backbone's architecture, and the folder of its weights.

    Attributes:
        name: timm's, with the tag of its weights if timm knows it.
        options: timm's arguments of its sizes.
        statistics: `mean`, `std` and `input_size` of its pretraining, as far as known.
        folder: of `model.safetensors`.
        from_transformers: whether the weights have transformers' names.
    """

    name: str
    options: dict[str, Any]
    statistics: dict[str, Any]
    folder: Path
    from_transformers: bool = False

    def read(self) -> dict[str, Tensor]:
        """The weights under timm's or, of DINOv2, its authors' names.

        Raises:
            OSError: there are none.
            ValueError: they are damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.folder / WEIGHTS_FILE
        if not path.is_file():
            raise OSError(f"{self.folder} holds a {CONFIG_FILE} but no {WEIGHTS_FILE}; put the weights beside it.")
        try:
            state = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a whole safetensors file: {error}. Copy it again.") from error
        return _authors_names(state, path) if self.from_transformers else state


def is_source(backbone: str) -> bool:
    """Whether a backbone is named by a place; timm's own names hold no separator and no colon."""
    return any(mark in backbone for mark in "/\\:")


def folder_of(backbone: str) -> Path | None:
    """The folder that a backbone names, if it names one on this machine."""
    named = is_source(backbone) and not backbone.startswith(_HUBS)
    return Path(backbone.removeprefix(_FOLDER)) if named else None


def find_source(backbone: str) -> Source:
    """What `hf-hub:OWNER/NAME`, `local-dir:FOLDER` or FOLDER names.

    Raises:
        OSError: the folder is missing, or the repository cannot be fetched.
        ValueError: its config.json describes another kind of model.
    """
    folder = folder_of(backbone)
    if folder is None:
        folder = _fetched(backbone.partition(":")[2])
    path = folder / CONFIG_FILE
    if not path.is_file():
        hint = f" A repository of the hub is written hf-hub:{backbone}." if _REPOSITORY.fullmatch(backbone) else ""
        raise FileNotFoundError(f"The backbone {backbone!r} has no {path}.{hint}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error
    if isinstance(config, dict) and config.get("model_type") in _MODEL_TYPES:
        return _from_transformers(config, folder)
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        found = config.get("model_type") if isinstance(config, dict) else None
        raise ValueError(
            f"{path} names no timm `architecture`" + (f" but the model_type {found!r}" if found else "") + "; a folder"
            f" in timm's layout is needed, or one of transformers with the model_type {' or '.join(_MODEL_TYPES)}."
        )
    pretrained = config.get("pretrained_cfg", config)
    statistics = {key: pretrained[key] for key in ("mean", "std", "input_size") if pretrained.get(key)}
    sizes = {key: value for key, value in (config.get("model_args") or {}).items() if key not in _OURS}
    return Source(_tagged(config, pretrained), sizes, statistics, folder)


def by_architecture(config: Mapping[str, Any], backbones: Mapping[str, str]) -> dict[str, Any]:
    """A detector's config with architectures and sizes instead of places, so that it is loaded without them.

    Args:
        config: the constructor's arguments.
        backbones: the options that name a backbone, and for each the option of its sizes.
    """
    found = dict(config)
    for option, sizes in backbones.items():
        if is_source(found.get(option) or ""):
            source = find_source(found[option])
            overlay = {"pretrained_cfg_overlay": source.statistics} if source.statistics else {}
            found |= {option: source.name, sizes: {**source.options, **overlay, **(found[sizes] or {})}}
    return found


@lru_cache(maxsize=8)
def _fetched(repository: str) -> Path:
    """The local copy of a repository's files; `@REVISION` may follow its name."""
    from huggingface_hub import snapshot_download

    name, _, revision = repository.partition("@")
    try:
        found = snapshot_download(name, revision=revision or None, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE])
    except Exception as error:  # downloads fail in many ways
        raise OSError(
            f"The backbone hf-hub:{repository} could not be fetched ({error}). Connect to the network once to cache it,"
            " or name a folder that holds it."
        ) from error
    return Path(found)


def _tagged(config: Mapping[str, Any], pretrained: Mapping[str, Any]) -> str:
    import timm

    tagged = f"{config['architecture']}.{pretrained.get('tag')}"
    return tagged if tagged in timm.list_pretrained(f"{config['architecture']}.*") else config["architecture"]


def _from_transformers(config: Mapping[str, Any], folder: Path) -> Source:
    """A DINOv2 that transformers wrote, as one of timm with the same sizes."""
    from transformers import Dinov2Config, Dinov2WithRegistersConfig

    kind = Dinov2Config if config["model_type"] == "dinov2" else Dinov2WithRegistersConfig
    sizes: Any = kind.from_dict(dict(config))  # which fills in what a config.json leaves out
    if sizes.use_swiglu_ffn:
        raise ValueError(f"{folder} is a DINOv2 with SwiGLU in transformers' layout; the giant is read in timm's.")
    registers = getattr(sizes, "num_register_tokens", 0)
    options = {
        "embed_dim": sizes.hidden_size,
        "depth": sizes.num_hidden_layers,
        "num_heads": sizes.num_attention_heads,
        "mlp_ratio": float(sizes.mlp_ratio),
        "patch_size": sizes.patch_size,
        "qkv_bias": sizes.qkv_bias,
        **({"reg_tokens": registers} if registers else {}),
    }
    side, width = sizes.image_size, _DINOV2_WIDTHS.get(sizes.hidden_size, "base")
    name = f"vit_{width}_patch14_{'reg4_' if registers else ''}dinov2.lvd142m"
    statistics = {"input_size": [sizes.num_channels, side, side]}
    return Source(name, options, statistics, folder, from_transformers=True)


_RENAMED = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.", ""),
    (r"^encoder\.layer\.", "blocks."),
    (r"^layernorm\.", "norm."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
)


def _authors_names(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """transformers' DINOv2 under the names of its authors, which timm reads; query, key and value become one matrix."""
    import torch

    found: dict[str, Tensor] = {}
    for name, value in state.items():
        name = re.sub(r"^dinov2(_with_registers)?\.", "", name)
        for pattern, ours in _RENAMED:
            name = re.sub(pattern, ours, name)
        found[name] = value
    for name in [name for name in found if ".attention.attention.query." in name]:
        parts = [found.pop(name.replace(".query.", f".{part}."), None) for part in ("query", "key", "value")]
        if any(part is None for part in parts):
            raise ValueError(f"{path} has {name} without its key or value.")
        found[name.replace("attention.attention.query", "attn.qkv")] = torch.cat([p for p in parts if p is not None])
    found.setdefault("mask_token", torch.zeros(1))  # by which timm knows these names
    return {name: value for name, value in found.items() if not name.startswith("classifier.")}

"""Named sizes of every built-in detector, as constructor options; plain Python.

* `base`: the paper's, for aligned 256x256 faces. The tags name the paper's pretrained weights, the ImageNet-21k
  ViT-B/16 and torchvision's ResNet-18; they are only fetched with `pretrained=True`.
* `tiny`: for 64x64 faces on two CPU cores, trained from scratch. A ViT of that size learns far faster with a
  convolutional stem (Xiao et al. 2021, "Early Convolutions Help Transformers See Better"). The cue encoder stops at
  stride 8, so that the cue still gives the paper's 64 tokens. Convolutional networks have their paper's graph at an
  eighth to a half of its widths.
* `dinov2`, `dinov2_small`: a ViT-B or ViT-S with four registers as DINOv2 pretrained it (Darcet et al. 2024), for the
  ViTs alone; `dinov2_tiny` has its parts (registers, layer scale, positions of patches alone) at the size of `tiny`.
* `dinov3`: the same of DINOv3, whose weights have a licence of their own.
* `released`: the public code's behaviour, for detectors whose code differs from their paper.
"""

from __future__ import annotations

import copy
from typing import Any

from oanet.checks import check_name
from oanet.names import DETECTORS, PRESETS

Options = dict[str, Any]

_BASE_CUE: Options = {"cue_backbone": "resnet18.tv_in1k", "cue_stages": 4}
_TINY_RESNET: Options = {"layers": [1, 1], "channels": [24, 48], "stem_type": "deep", "stem_width": 12}
_TINY_RESNET_4: Options = {**_TINY_RESNET, "layers": [1, 1, 1, 1], "channels": [24, 32, 48, 64]}
_TINY_CUE: Options = {"cue_backbone": "resnet18", "cue_stages": 2, "cue_options": _TINY_RESNET}

_BASE: Options = {"backbone": "vit_base_patch16_224.orig_in21k", "image_size": 224, "embedding_dim": 512, **_BASE_CUE}
_TINY: Options = {
    "backbone": "vit_tiny_patch16_224",
    "image_size": 64,
    "stem": "conv",
    "layer_norm_eps": 1e-6,
    "backbone_options": {"patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3, "mlp_ratio": 3.0},
    "embedding_dim": 128,
    **_TINY_CUE,
}
# Both were trained with timm's own epsilon; 14 divides 224.
_DINOV2: Options = {**_BASE, "backbone": "vit_base_patch14_reg4_dinov2.lvd142m", "layer_norm_eps": None}

_VITS: dict[str, Options] = {
    "base": _BASE,
    "tiny": _TINY,
    "dinov2": _DINOV2,
    "dinov2_small": {**_DINOV2, "backbone": "vit_small_patch14_reg4_dinov2.lvd142m"},
    "dinov2_tiny": {**_TINY, "backbone": "vit_small_patch14_reg4_dinov2"},
    "dinov3": {**_DINOV2, "backbone": "vit_base_patch16_dinov3.lvd1689m", "image_size": 256},
}
"""Of detectors that are not in `_PRESETS`: `oanet` and the plain ViTs; each takes the options that it has."""

_TINY_PYRAMID: Options = {
    "backbone": "resnet18",
    "image_size": 64,
    "backbone_options": {"layers": [1, 1, 1, 1], "channels": [16, 24, 32, 48], "zero_init_last": False},
}

# BatchNorm averages over 10 steps, not over Keras' 100: a minute of training is hardly more than that.
_TINY_KERAS: Options = {
    "image_size": 64,
    "width": 8,
    "hidden": 32,
    "conv_dropout": 0.05,
    "dropout": 0.1,
    "momentum": 0.1,
}

# CLIP has no convolutional stem, and a random text tower's word embeddings are as good as labels.
_TINY_TOWER: Options = {"hidden_size": 96, "intermediate_size": 288, "num_hidden_layers": 4, "num_attention_heads": 3}
_TINY_TEXT: Options = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
_TINY_CLIP: Options = {
    "vision": {**_TINY_TOWER, "image_size": 64, "patch_size": 8},
    "text": {**_TINY_TEXT, "vocab_size": 32, "max_position_embeddings": 16},
    "projection_dim": 64,
}

_PRESETS: dict[str, dict[str, Options]] = {
    "vit": {
        **_VITS,
        "small": {**_VITS["base"], "backbone": "vit_small_patch16_224.augreg_in21k"},
        "ti": {**_VITS["base"], "backbone": "vit_tiny_patch16_224.augreg_in21k"},
    },
    "resnet18": {
        "base": {"backbone": "resnet18.tv_in1k"},
        "tiny": {"backbone": "resnet18", "image_size": 64, "backbone_options": _TINY_RESNET_4},
    },
    "ssdg_r": {
        "base": {"backbone": "resnet18.tv_in1k"},
        "tiny": {"image_size": 64, "stages": 2, "embedding_dim": 128, "backbone_options": _TINY_RESNET},
    },
    "ssdg_m": {"tiny": {"image_size": 64, "width": 16, "embedding_dim": 128}},
    "liveness_vit": {"tiny": {"image_size": 64, "patch_size": 8, "width": 64, "hidden": 128, **_TINY_CUE}},
    "livenessnet": {"tiny": _TINY_KERAS, "released": {"conv_dropout": 0.1, "dropout": 0.2, "l2": 0.0}},
    "attacknet_v1": {"tiny": _TINY_KERAS, "released": {"relu": False, "conv_dropout": 0.25, "dropout": 0.5}},
    "attacknet_v2_1": {"tiny": _TINY_KERAS, "released": {"conv_dropout": 0.4, "dropout": 0.4, "l2_wide": False}},
    "attacknet_v2_2": {"tiny": _TINY_KERAS, "released": {"conv_dropout": 0.1, "dropout": 0.2, "l2": 0.0}},
    "cdcn": {"tiny": {"image_size": 64, "width": 16}},
    "cdcn_pp": {"tiny": {"image_size": 64, "width": 16}},
    "minifasnet": {},  # fixed by its published weights, and small
    "insightface_liveness": {},  # whatever its file holds
    "ssan_r": {
        "base": {"backbone": "resnet18.tv_in1k"},
        "tiny": _TINY_PYRAMID,
        "released": {"backbone": "resnet18.tv_in1k", "released": True},
    },
    "ssan_m": {"tiny": {"image_size": 64, "width": 16}, "released": {"released": True}},
    "auxiliary": {
        "base": {"backbone": "resnet18.tv_in1k", "maps": ["depth"]},
        "tiny": {**_TINY_PYRAMID, "maps": ["depth"], "embedding_dim": 128, "map_size": 16, "map_width": 16},
    },
    "dgua": {
        "base": {"backbone": "mobilevit_s.cvnets_in1k"},
        "tiny": {"backbone": "mobilevit_xxs", "image_size": 64},
    },
    "flip_v": {"tiny": {"clip_options": _TINY_CLIP, "embedding_dim": 128, **_TINY_CUE}},
    "flip_it": {"tiny": {"clip_options": _TINY_CLIP, **_TINY_CUE}},
    "flip_mcl": {"tiny": {"clip_options": _TINY_CLIP}},
    "gd_fas": {"tiny": {"clip_options": _TINY_CLIP}},
}
"""Presets by detector; a missing `base` or `tiny` is the constructor's defaults."""


def detector_preset(name: str, preset: str) -> Options:
    """Constructor options of the detector `name` at the size `preset`.

    A detector that is not built in states its presets as a literal class attribute `presets`; `base` defaults to its
    constructor's defaults.

    Raises:
        ValueError: unknown detector or preset; lists the allowed names.
    """
    if name not in DETECTORS.builtin:
        presets = {"base": {}, **(DETECTORS.attribute(name, "presets") or {})}
    elif name in _PRESETS:
        presets = {**{size: {} for size in PRESETS}, **_PRESETS[name]}
    else:
        known = DETECTORS.options(name)
        presets = {size: {key: _VITS[size][key] for key in _VITS[size] if key in known} for size in _VITS}
    check_name("preset", preset, presets)
    return copy.deepcopy(presets[preset])

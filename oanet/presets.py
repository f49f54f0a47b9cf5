"""Named sizes of every detector, as constructor options; plain Python.

* `base`: the paper's, for aligned 256x256 faces. The tags name the paper's pretrained weights, which are only
  fetched with `pretrained=True`: the ImageNet-21k ViT-B/16 and torchvision's ResNet-18.
* `tiny`: for 64x64 faces on two CPU cores, trained from scratch. So small and young a ViT learns far faster
  behind a convolutional stem (Xiao et al. 2021, "Early Convolutions Help Transformers See Better"), and the
  cue encoder stops at stride 8 so that the cue still gives the paper's 64 tokens. Convolutional networks keep
  their paper's graph at an eighth to a half of its widths.
* `released`: of those detectors whose public code differs from its paper, that code's behaviour.
"""

from __future__ import annotations

import copy
from typing import Any

from oanet.names import DETECTOR_OPTIONS, DETECTORS, PRESETS, check_name

_SHARED: dict[str, dict[str, Any]] = {
    "base": {
        "backbone": "vit_base_patch16_224.orig_in21k",
        "image_size": 224,
        "embedding_dim": 512,
        "cue_backbone": "resnet18.tv_in1k",
        "cue_stages": 4,
    },
    "tiny": {
        "backbone": "vit_tiny_patch16_224",
        "image_size": 64,
        "stem": "conv",
        "layer_norm_eps": 1e-6,
        "backbone_options": {
            "patch_size": 8,
            "embed_dim": 96,
            "depth": 4,
            "num_heads": 3,
            "mlp_ratio": 3.0,
        },
        "embedding_dim": 128,
        "cue_backbone": "resnet18",
        "cue_stages": 2,
        "cue_options": {
            "layers": [1, 1],
            "channels": [24, 48],
            "stem_type": "deep",
            "stem_width": 12,
        },
    },
}
"""Of the family of `oanet`: each detector takes those options that it knows."""

_TINY_RESNET: dict[str, Any] = {"layers": [1, 1], "channels": [24, 48], "stem_type": "deep", "stem_width": 12}

_TINY_PYRAMID: dict[str, Any] = {"layers": [1, 1, 1, 1], "channels": [16, 24, 32, 48], "zero_init_last": False}

# Keras' momentum of 0.99 averages over a hundred steps; a minute of training is hardly more.
_TINY_ATTACKNET: dict[str, Any] = {
    "image_size": 64,
    "width": 8,
    "hidden": 32,
    "conv_dropout": 0.05,
    "dropout": 0.1,
    "momentum": 0.1,
}

_TINY_CUE: dict[str, Any] = {key: value for key, value in _SHARED["tiny"].items() if key.startswith("cue_")}

_VIT: dict[str, Any] = {"image_size": 224, "embedding_dim": 512, "cue_backbone": "resnet18.tv_in1k"}

_TINY_CLIP: dict[str, Any] = {
    "vision": {
        "hidden_size": 96,
        "intermediate_size": 288,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "image_size": 64,
        "patch_size": 8,
    },
    "text": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 32,
        "max_position_embeddings": 16,
    },
    "projection_dim": 64,
}

_OWN: dict[str, dict[str, dict[str, Any]]] = {
    "vit": {
        "base": {"backbone": "vit_base_patch16_224.orig_in21k", **_VIT},
        "small": {"backbone": "vit_small_patch16_224.augreg_in21k", **_VIT},
        "ti": {"backbone": "vit_tiny_patch16_224.augreg_in21k", **_VIT},
        "tiny": {key: _SHARED["tiny"][key] for key in DETECTOR_OPTIONS["vit"] if key in _SHARED["tiny"]},
    },
    "resnet18": {
        "base": {"backbone": "resnet18.tv_in1k", "image_size": 256},
        "tiny": {
            "backbone": "resnet18",
            "image_size": 64,
            "backbone_options": {**_TINY_RESNET, "layers": [1, 1, 1, 1], "channels": [24, 32, 48, 64]},
        },
    },
    "ssdg_r": {
        "base": {"backbone": "resnet18.tv_in1k", "image_size": 256, "embedding_dim": 512},
        "tiny": {
            "backbone": "resnet18",
            "image_size": 64,
            "stages": 2,
            "embedding_dim": 128,
            "backbone_options": _TINY_RESNET,
        },
    },
    "ssdg_m": {
        "base": {},
        "tiny": {"image_size": 64, "width": 16, "embedding_dim": 128},
    },
    "liveness_vit": {
        "base": {},
        "tiny": {"image_size": 64, "patch_size": 8, "width": 64, "hidden": 128, **_TINY_CUE},
    },
    "livenessnet": {
        "base": {},
        "tiny": _TINY_ATTACKNET,
        "released": {"conv_dropout": 0.1, "dropout": 0.2},
    },
    "attacknet_v1": {
        "base": {},
        "tiny": _TINY_ATTACKNET,
        "released": {"relu": False, "conv_dropout": 0.25, "dropout": 0.5},
    },
    "attacknet_v2_1": {
        "base": {},
        "tiny": _TINY_ATTACKNET,
        "released": {"conv_dropout": 0.4, "dropout": 0.4},
    },
    "attacknet_v2_2": {
        "base": {},
        "tiny": _TINY_ATTACKNET,
        "released": {"conv_dropout": 0.1, "dropout": 0.2},
    },
    "cdcn": {"base": {}, "tiny": {"image_size": 64, "width": 16}},
    "cdcn_pp": {"base": {}, "tiny": {"image_size": 64, "width": 16}},
    # Its networks have the size of their published weights, which is tiny already.
    "minifasnet": {"base": {}, "tiny": {}},
    "ssan_r": {
        "base": {"backbone": "resnet18.tv_in1k"},
        "tiny": {"backbone": "resnet18", "image_size": 64, "backbone_options": _TINY_PYRAMID},
        "released": {"backbone": "resnet18.tv_in1k", "released": True},
    },
    "auxiliary": {
        "base": {"backbone": "resnet18.tv_in1k", "maps": ["depth"]},
        "tiny": {
            "backbone": "resnet18",
            "image_size": 64,
            "backbone_options": _TINY_PYRAMID,
            "embedding_dim": 128,
            "maps": ["depth"],
            "map_size": 16,
            "map_width": 16,
        },
    },
    # CLIP has no convolutional stem, and words of a random text tower are as good as labels: its smallness is all.
    "flip_v": {"base": {}, "tiny": {"clip_options": _TINY_CLIP, "embedding_dim": 128, **_TINY_CUE}},
    "flip_it": {"base": {}, "tiny": {"clip_options": _TINY_CLIP, **_TINY_CUE}},
    "flip_mcl": {"base": {}, "tiny": {"clip_options": _TINY_CLIP}},
}
"""Of the rest: each detector's own sizes, whole."""


def detector_preset(name: str, preset: str) -> dict[str, Any]:
    """Constructor options of the detector `name` at the size `preset`.

    Raises:
        ValueError: for an unknown detector or preset, with the allowed names.
    """
    check_name("detector", name, DETECTORS)
    own = _OWN.get(name, {})
    check_name("preset", preset, dict.fromkeys((*PRESETS, *own)))
    if name in _OWN:
        return copy.deepcopy(own[preset])
    options = {key: value for key, value in _SHARED[preset].items() if key in DETECTOR_OPTIONS[name]}
    return copy.deepcopy(options)

"""Named sizes of every detector, as constructor options; plain Python.

* `base`: the paper's, for aligned 256x256 faces. The tags name the paper's pretrained weights, which are only
  fetched with `pretrained=True`: the ImageNet-21k ViT-B/16 and torchvision's ResNet-18.
* `tiny`: for 64x64 faces on two CPU cores, trained from scratch. So small and young a ViT learns far faster
  behind a convolutional stem (Xiao et al. 2021, "Early Convolutions Help Transformers See Better"), and the
  cue encoder stops at stride 8 so that the cue still gives the paper's 64 tokens.
"""

from __future__ import annotations

import copy
from typing import Any

from oanet.names import DETECTOR_OPTIONS, DETECTORS, PRESETS, check_name

_SIZES: dict[str, dict[str, Any]] = {
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


def detector_preset(name: str, preset: str) -> dict[str, Any]:
    """Constructor options of the detector `name` at the size `preset`.

    Raises:
        ValueError: for an unknown detector or preset, with the allowed names.
    """
    check_name("detector", name, DETECTORS)
    check_name("preset", preset, PRESETS)
    options = {key: value for key, value in _SIZES[preset].items() if key in DETECTOR_OPTIONS[name]}
    return copy.deepcopy(options)

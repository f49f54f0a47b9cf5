"""Every name that a config may use, in plain Python, so that a config is checked without importing torch.

A new detector or objective is one new file and its lines in the two tables here; a test keeps the option
tables equal to the constructors' signatures.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

CUE_CHANNELS: dict[str, int] = {"residual": 3, "compensated": 3, "two_part": 6}
"""Forms of the cue (see `oanet.cue`) and how many channels each has."""

CUE_FORMS: tuple[str, ...] = tuple(CUE_CHANNELS)

CUE_FORMS_WITH_AUTOENCODED: tuple[str, ...] = ("compensated", "two_part")
"""Forms that need the autoencoder's own reconstruction beside the restoration."""

CUE_NORMALIZATIONS: tuple[str, ...] = ("per_face", "none")

CUE_MASKS: tuple[str, ...] = ("none", "face")
"""What of the cue is kept: all, or what face parsing calls the face."""

PRESETS: tuple[str, ...] = ("base", "tiny")

DETECTOR_CLASSES: dict[str, str] = {
    "image_only": "oanet.detectors.image_only:ImageOnly",
    "residual_only": "oanet.detectors.residual_only:ResidualOnly",
    "dual_branch": "oanet.detectors.dual_branch:DualBranch",
    "oanet": "oanet.model:OANet",
    "vit": "oanet.detectors.vit:ViT",
    "resnet18": "oanet.detectors.resnet18:ResNet18",
    "ssdg_r": "oanet.detectors.ssdg_backbones:SSDGR",
    "ssdg_m": "oanet.detectors.ssdg_backbones:SSDGM",
    "liveness_vit": "oanet.detectors.liveness_vit:LivenessViT",
    "livenessnet": "oanet.detectors.attacknet:LivenessNet",
    "attacknet_v1": "oanet.detectors.attacknet:AttackNetV1",
    "attacknet_v2_1": "oanet.detectors.attacknet:AttackNetV21",
    "attacknet_v2_2": "oanet.detectors.attacknet:AttackNetV22",
    "cdcn": "oanet.detectors.cdcn:CDCN",
    "cdcn_pp": "oanet.detectors.cdcn:CDCNpp",
    "minifasnet": "oanet.detectors.minifasnet:MiniFASNet",
    "ssan_r": "oanet.detectors.ssan_r:SSANR",
    "auxiliary": "oanet.detectors.auxiliary:Auxiliary",
    "flip_v": "oanet.detectors.flip:FlipV",
    "flip_it": "oanet.detectors.flip:FlipIT",
    "flip_mcl": "oanet.detectors.flip:FlipMCL",
    "ddm_star": "oanet.detectors.ddm_star:DDMStar",
}
"""Where each detector lives: `module:class`."""

DETECTORS: tuple[str, ...] = tuple(DETECTOR_CLASSES)

DETECTORS_WITH_CUE: tuple[str, ...] = ("residual_only", "dual_branch", "oanet", "ddm_star")
"""Detectors that always need a cue; others may be given one by their option `cue`, see `takes_cue`."""

NOT_REBUILT: dict[str, str] = {
    "ddm": "of its two-stream depth network and its pair of diffusion models, sizes, fusion and settings are not known"
    " here, and a guess would bear its name; 'ddm_star' is the AG-FAS paper's version of it",
}
"""Detectors of the papers' tables that are not offered, and why."""

INFERENCE_ONLY: dict[str, str] = {
    "minifasnet": "its training needs two crops of the whole picture and a Fourier head that published weights lack",
}
"""Detectors that are judged with published weights and not trained here, and why."""

TRAINABLE_DETECTORS: tuple[str, ...] = tuple(name for name in DETECTORS if name not in INFERENCE_ONLY)

_VIT_OPTIONS = (
    "backbone",
    "image_size",
    "pretrained",
    "stem",
    "layer_norm_eps",
    "backbone_options",
    "embedding_dim",
)

_CUE_OPTIONS = ("cue", "cue_channels", "cue_backbone", "cue_stages", "cue_options")

_ATTACKNET_OPTIONS = ("image_size", "width", "hidden", "conv_dropout", "dropout", "momentum")

DETECTOR_OPTIONS: dict[str, tuple[str, ...]] = {
    "image_only": _VIT_OPTIONS,
    "residual_only": (*_VIT_OPTIONS, "cue_channels"),
    "dual_branch": (*_VIT_OPTIONS, "cue_channels"),
    "oanet": (*_VIT_OPTIONS, "cue_channels", "cue_backbone", "cue_stages", "cue_options"),
    "vit": (*_VIT_OPTIONS, "head", *_CUE_OPTIONS),
    "resnet18": ("backbone", "image_size", "pretrained", "backbone_options"),
    "ssdg_r": ("backbone", "image_size", "pretrained", "stages", "backbone_options", "embedding_dim"),
    "ssdg_m": ("image_size", "width", "embedding_dim"),
    "liveness_vit": (
        "image_size",
        "patch_size",
        "width",
        "depth",
        "num_heads",
        "hidden",
        "dropout",
        "weights",
        *_CUE_OPTIONS,
    ),
    "livenessnet": _ATTACKNET_OPTIONS,
    "attacknet_v1": (*_ATTACKNET_OPTIONS, "relu"),
    "attacknet_v2_1": _ATTACKNET_OPTIONS,
    "attacknet_v2_2": _ATTACKNET_OPTIONS,
    "cdcn": ("image_size", "width", "theta"),
    "cdcn_pp": ("image_size", "width", "theta"),
    "minifasnet": ("weights", "networks"),
    "ssan_r": ("backbone", "image_size", "pretrained", "backbone_options", "released"),
    "auxiliary": (
        "backbone",
        "image_size",
        "pretrained",
        "backbone_options",
        "embedding_dim",
        "maps",
        "map_size",
        "map_width",
    ),
    "flip_v": ("clip", "clip_options", "embedding_dim", *_CUE_OPTIONS),
    "flip_it": ("clip", "clip_options", *_CUE_OPTIONS),
    "flip_mcl": ("clip", "clip_options"),
    "ddm_star": (*_VIT_OPTIONS, "cue_channels"),
}

OBJECTIVE_CLASSES: dict[str, str] = {
    "erm": "oanet.objectives.erm:ERM",
    "ssdg": "oanet.objectives.ssdg:SSDG",
    "ssan": "oanet.objectives.ssan:SSAN",
    "sa_fas": "oanet.objectives.sa_fas:SAFAS",
    "label_smoothing": "oanet.objectives.label_smoothing:LabelSmoothing",
    "depth": "oanet.objectives.depth:DepthSupervision",
    "auxiliary": "oanet.objectives.auxiliary:Auxiliary",
    "flip_mcl": "oanet.objectives.flip_mcl:FlipMCL",
}

OBJECTIVES: tuple[str, ...] = tuple(OBJECTIVE_CLASSES)

OBJECTIVE_OPTIONS: dict[str, tuple[str, ...]] = {
    "erm": ("class_weights",),
    "ssdg": ("lambda_triplet", "lambda_adversarial", "margin"),
    "ssan": ("lambda_contrastive", "lambda_adversarial", "released"),
    "sa_fas": (
        "lambda_contrastive",
        "temperature",
        "base_temperature",
        "alignment",
        "alignment_start",
        "min_area",
        "max_degrees",
    ),
    "label_smoothing": ("smoothing",),
    "depth": ("lambda_contrastive", "lambda_cross_entropy"),
    "auxiliary": (
        "lambda_cross_entropy",
        "lambda_depth",
        "lambda_reflection",
        "lambda_mask",
        "lambda_domain",
        "reflection_target",
    ),
    "flip_mcl": (
        "lambda_contrastive",
        "lambda_consistency",
        "temperature",
        "hidden",
        "projection_dim",
        "min_area",
        "jitter",
    ),
}


def takes_cue(name: str, options: Mapping[str, Any]) -> bool:
    """Whether the detector `name` with these options looks at a cue.

    Raises:
        ValueError: options of the cue for one that is given none.
    """
    if name in DETECTORS_WITH_CUE or options.get("cue"):
        return True
    unread = [option for option in options if option.startswith("cue_")]
    if unread:
        raise ValueError(f"{unread[0]} of the detector {name!r} is read with its option cue: true alone; give both.")
    return False


def nearest(given: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that looks most like `given`, or None where nothing does."""
    matches = difflib.get_close_matches(str(given), list(allowed), n=1, cutoff=0.5)
    return matches[0] if matches else None


def check_name(what: str, given: str, allowed: Iterable[str]) -> None:
    """Raise ValueError that lists what is allowed, and the nearest, unless `given` is among `allowed`."""
    allowed = tuple(allowed)
    if given in allowed:
        return
    guess = nearest(given, allowed)
    hint = f" Did you mean {guess!r}?" if guess else ""
    raise ValueError(f"Unknown {what} {given!r}.{hint} Allowed: {', '.join(allowed) or 'none'}.")


def check_detector(name: str, options: Iterable[str] = ()) -> None:
    """Raise ValueError for an unknown detector name or option name."""
    if name in NOT_REBUILT:
        raise ValueError(f"The detector {name!r} is not offered: {NOT_REBUILT[name]}.")
    check_name("detector", name, DETECTORS)
    for option in options:
        check_name(f"option of the detector {name!r}:", option, DETECTOR_OPTIONS[name])


def check_objective(name: str, options: Iterable[str] = ()) -> None:
    """Raise ValueError for an unknown objective name or option name."""
    check_name("objective", name, OBJECTIVES)
    for option in options:
        check_name(f"option of the objective {name!r}:", option, OBJECTIVE_OPTIONS[name])

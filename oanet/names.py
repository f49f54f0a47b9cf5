"""Names that a config may use, checked without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oanet.registry import Registry

CUE_CHANNELS: dict[str, int] = {"residual": 3, "compensated": 3, "two_part": 6}
"""Channels of each form of the cue; see `oanet.cue`."""

CUE_FORMS: tuple[str, ...] = tuple(CUE_CHANNELS)

CUE_FORMS_WITH_AUTOENCODED: tuple[str, ...] = ("compensated", "two_part")
"""Forms that also need the autoencoder's reconstruction (t = 0)."""

CUE_NORMALIZATIONS: tuple[str, ...] = ("per_face", "none")

PRESETS: tuple[str, ...] = ("base", "tiny")
"""Sizes that every built-in detector has; see `oanet.presets`."""

DETECTORS = Registry(
    kind="detector",
    group="agfas.detectors",
    builtin={
        "image_only": "oanet.detectors.vit:ImageOnly",
        "residual_only": "oanet.detectors.vit:ResidualOnly",
        "dual_branch": "oanet.detectors.vit:DualBranch",
        "oanet": "oanet.model:OANet",
        "vit": "oanet.detectors.vit:ViT",
        "resnet18": "oanet.detectors.cnn:ResNet18",
        "ssdg_r": "oanet.detectors.cnn:SSDGR",
        "ssdg_m": "oanet.detectors.cnn:SSDGM",
        "liveness_vit": "oanet.detectors.liveness_vit:LivenessViT",
        "livenessnet": "oanet.detectors.attacknet:LivenessNet",
        "attacknet_v1": "oanet.detectors.attacknet:AttackNetV1",
        "attacknet_v2_1": "oanet.detectors.attacknet:AttackNetV21",
        "attacknet_v2_2": "oanet.detectors.attacknet:AttackNetV22",
        "cdcn": "oanet.detectors.cdcn:CDCN",
        "cdcn_pp": "oanet.detectors.cdcn:CDCNpp",
        "minifasnet": "oanet.detectors.minifasnet:MiniFASNet",
        "insightface_liveness": "oanet.detectors.insightface_liveness:InsightfaceLiveness",
        "ssan_r": "oanet.detectors.ssan:SSANR",
        "ssan_m": "oanet.detectors.ssan:SSANM",
        "auxiliary": "oanet.detectors.auxiliary:Auxiliary",
        "dgua": "oanet.detectors.dgua:DGUA",
        "flip_v": "oanet.detectors.flip:FlipV",
        "flip_it": "oanet.detectors.flip:FlipIT",
        "flip_mcl": "oanet.detectors.flip:FlipMCL",
        "gd_fas": "oanet.detectors.flip:GDFAS",
        "ddm_star": "oanet.detectors.vit:DDMStar",
    },
    absent={
        "ddm": "the sizes, fusion and training settings of its two-stream depth network and its two diffusion models"
        " are not published; 'ddm_star' is the AG-FAS paper's variant of it",
    },
)

OBJECTIVES = Registry(
    kind="objective",
    group="agfas.objectives",
    builtin={
        "erm": "oanet.objectives.cross_entropy:ERM",
        "ssdg": "oanet.objectives.ssdg:SSDG",
        "ssan": "oanet.objectives.ssan:SSAN",
        "sa_fas": "oanet.objectives.sa_fas:SAFAS",
        "label_smoothing": "oanet.objectives.cross_entropy:LabelSmoothing",
        "depth": "oanet.objectives.depth:DepthSupervision",
        "auxiliary": "oanet.objectives.auxiliary:AuxiliarySupervision",
        "flip_mcl": "oanet.objectives.flip_mcl:MultimodalContrast",
        "dgua": "oanet.objectives.dgua:UnknownAttacks",
        "gd_fas": "oanet.objectives.gd_fas:GroupScaling",
        "apl": "oanet.objectives.apl:AttentionPatchLoss",
    },
    supplied=("detector", "num_domains"),
)


def check_objective(name: str, options: Mapping[str, Any]) -> None:
    """Check an objective's name and options, and those of its `base`, if it has one that is an objective itself.

    Raises:
        ValueError: says what is allowed.
    """
    OBJECTIVES.check(name, options)
    base = options.get("base")
    if isinstance(base, Mapping):
        check_objective(base.get("name", "erm"), {option: base[option] for option in base if option != "name"})
    elif base is not None:
        raise ValueError(f"base = {base!r} of the objective {name!r}; give a block such as {{name: ssdg}}.")


def takes_cue(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a detector with these options is conditioned on a cue: always (`needs_cue`), or by its option `cue`.

    Raises:
        ValueError: options of the cue are given, but not `cue: true`.
    """
    if DETECTORS.attribute(name, "needs_cue") or options.get("cue"):
        return True
    ignored = [option for option in options if option.startswith("cue_")]
    if ignored:
        raise ValueError(f"{ignored[0]} of the detector {name!r} needs its option cue: true; set both or neither.")
    return False


def inference_only(name: str) -> str | None:
    """Why a detector is not trained here but evaluated with its published weights; None: it is trained."""
    return DETECTORS.attribute(name, "inference_only")

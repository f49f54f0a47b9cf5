"""A timm ViT with the head of one's choice: the transformer baselines that others compare with."""

from __future__ import annotations

from typing import Any, ClassVar

from oanet.detectors.base import captures_config
from oanet.detectors.image_only import ImageOnly
from oanet.head import build_head


class ViT(ImageOnly):
    """`ImageOnly` whose head is an option.

    `embedding` makes it `image_only`, AG-FAS's baseline; `bottleneck` adds SSDG's ReLU and dropout, as the ViT
    baseline of few_shot_fas and FLIP (Huang et al., ECCV 2022; Srivatsan et al., ICCV 2023) has; `linear` is a
    plain classifier on the pooled vector.

    Args:
        backbone, image_size, pretrained, stem, layer_norm_eps, backbone_options: see `oanet.vit.build_vit`; the
            presets `base`, `small` and `ti` are ViT-B, ViT-S and ViT-Ti with 16x16 patches.
        embedding_dim: width of the feature; not read by `linear`.
        head: one of `oanet.head.HEADS`.
    """

    name: ClassVar[str] = "vit"

    @captures_config
    def __init__(
        self,
        backbone: str = "vit_base_patch16_224",
        image_size: int = 224,
        pretrained: bool = False,
        stem: str = "patch",
        layer_norm_eps: float | None = 1e-12,
        backbone_options: dict[str, Any] | None = None,
        embedding_dim: int = 512,
        head: str = "linear",
    ) -> None:
        super().__init__(backbone, image_size, pretrained, stem, layer_norm_eps, backbone_options, embedding_dim)
        self.head, self.feature_dim = build_head(head, self.vit.num_features, embedding_dim)

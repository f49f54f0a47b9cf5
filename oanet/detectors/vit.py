"""A timm ViT with the head of one's choice: the transformer baselines that others compare with."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from oanet.cue_encoder import CueEncoder
from oanet.detectors.base import captures_config
from oanet.detectors.image_only import ImageOnly
from oanet.head import build_head
from oanet.output import DetectorOutput
from oanet.plug import Pluggable, embed, vit_blocks
from oanet.vit import fit_image, pool


class ViT(ImageOnly, Pluggable):
    """`ImageOnly` whose head is an option, and which may be given the cue.

    `embedding` makes it `image_only`, AG-FAS's baseline, and with `cue` it is `oanet`; `bottleneck` adds SSDG's ReLU
    and dropout, as the ViT baseline of few_shot_fas and FLIP (Huang et al., ECCV 2022; Srivatsan et al., ICCV 2023)
    has; `linear` is a plain classifier on the pooled vector.

    Args:
        backbone, image_size, pretrained, stem, layer_norm_eps, backbone_options: see `oanet.vit.build_vit`; the
            presets `base`, `small` and `ti` are ViT-B, ViT-S and ViT-Ti with 16x16 patches.
        embedding_dim: width of the feature; not read by `linear`.
        head: one of `oanet.head.HEADS`.
        cue: attend to the cue in every block, see `oanet.plug`; `pretrained` then holds for the cue encoder, too.
        cue_channels, cue_backbone, cue_stages, cue_options: see `oanet.cue_encoder.CueEncoder`; read with `cue` alone.
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
        cue: bool = False,
        cue_channels: int = 3,
        cue_backbone: str = "resnet18",
        cue_stages: int = 4,
        cue_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, image_size, pretrained, stem, layer_norm_eps, backbone_options, embedding_dim)
        self.head, self.feature_dim = build_head(head, self.vit.num_features, embedding_dim)
        if cue:
            encoder = CueEncoder(cue_backbone, cue_channels, cue_stages, pretrained, cue_options)
            self.plug_into(self.vit, backbone, layer_norm_eps, encoder)

    def forward(
        self, image: torch.Tensor, cue: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> DetectorOutput:
        """See `Detector.forward`; with `need_weights` and a cue, `attention` holds one map per block."""
        if not self.needs_cue:
            return super().forward(image)
        tokens = embed(self.vit, fit_image(self.vit, image, self.image_size))  # (B, T, width)
        tokens, maps = self.attend(tokens, cue, vit_blocks(self.vit), need_weights)
        logits, features = self.head(pool(self.vit, self.vit.norm(tokens)))
        return DetectorOutput(logits, features, maps)

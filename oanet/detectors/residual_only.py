"""The plain ViT on the cue alone (AG-FAS, Table V, "only residual")."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from oanet.detectors.base import Detector, captures_config, check_cue
from oanet.head import LivenessHead
from oanet.output import DetectorOutput
from oanet.vit import build_vit, pool, resize


class ResidualOnly(Detector):
    """ViT on the normalised cue, then the shared head; the image is not looked at.

    Args:
        backbone, image_size, pretrained, stem, layer_norm_eps, backbone_options: see `oanet.vit.build_vit`.
        embedding_dim: width of the feature.
        cue_channels: 3, or 6 for a two-part cue.
    """

    name: ClassVar[str] = "residual_only"
    needs_cue: ClassVar[bool] = True

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
        cue_channels: int = 3,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.cue_channels = cue_channels
        self.feature_dim = embedding_dim
        self.vit = build_vit(backbone, image_size, cue_channels, pretrained, stem, layer_norm_eps, backbone_options)
        self.head = LivenessHead(self.vit.num_features, embedding_dim)

    def forward(
        self, image: torch.Tensor, cue: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> DetectorOutput:
        """See `Detector.forward`."""
        cue = check_cue(cue, self.name, self.cue_channels)
        tokens = self.vit.forward_features(resize(cue, self.image_size))
        return DetectorOutput(*self.head(pool(self.vit, tokens)))

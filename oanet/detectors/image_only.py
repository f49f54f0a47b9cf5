"""The plain ViT on the face: what the cue must beat (AG-FAS, Table IV, baseline)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from oanet.detectors.base import Detector, captures_config
from oanet.head import LinearHead, LivenessHead
from oanet.output import DetectorOutput
from oanet.vit import build_vit, fit_image, pool


class ImageOnly(Detector):
    """ViT on the image, then the shared head; the cue is not looked at.

    Full size: 85,798,656 (ViT-B/16) + 393,728 (embedder) + 1,026 (classifier) parameters. With equal weights
    its logits are those of a fresh `OANet`.

    Args:
        backbone, image_size, pretrained, stem, layer_norm_eps, backbone_options: see `oanet.vit.build_vit`.
        embedding_dim: width of the feature.
    """

    name: ClassVar[str] = "image_only"
    needs_cue: ClassVar[bool] = False
    head: LivenessHead | LinearHead

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
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.feature_dim = embedding_dim
        self.vit = build_vit(backbone, image_size, 3, pretrained, stem, layer_norm_eps, backbone_options)
        self.head = LivenessHead(self.vit.num_features, embedding_dim)

    def forward(
        self, image: torch.Tensor, cue: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> DetectorOutput:
        """See `Detector.forward`."""
        tokens = self.vit.forward_features(fit_image(self.vit, image, self.image_size))
        return DetectorOutput(*self.head(pool(self.vit, tokens)))

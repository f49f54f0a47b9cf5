"""Two ViTs side by side, one for the face and one for the cue (AG-FAS, Table V, "dual branch")."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from oanet.detectors.base import Detector, captures_config, check_cue
from oanet.head import LivenessHead
from oanet.output import DetectorOutput
from oanet.vit import build_vit, fit_image, pool, resize


class DualBranch(Detector):
    """ViT on the image and ViT on the cue; their pooled vectors, concatenated, go to the shared head.

    The paper says only that the features are concatenated before the softmax layer; here they meet before the
    embedder (768 + 768 -> 512 at full size), so that the losses see one feature of the usual width.

    Args:
        backbone, image_size, pretrained, stem, layer_norm_eps, backbone_options: of both, see
            `oanet.vit.build_vit`.
        embedding_dim: width of the feature.
        cue_channels: 3, or 6 for a two-part cue.
    """

    name: ClassVar[str] = "dual_branch"
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
        self.vit, self.cue_vit = (
            build_vit(backbone, image_size, channels, pretrained, stem, layer_norm_eps, backbone_options)
            for channels in (3, cue_channels)
        )
        self.head = LivenessHead(self.vit.num_features + self.cue_vit.num_features, embedding_dim)

    def forward(
        self, image: torch.Tensor, cue: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> DetectorOutput:
        """See `Detector.forward`."""
        cue = check_cue(cue, self.name, self.cue_channels)
        tokens = self.vit.forward_features(fit_image(self.vit, image, self.image_size))
        cue_tokens = self.cue_vit.forward_features(resize(cue, self.image_size))
        pooled = torch.cat([pool(self.vit, tokens), pool(self.cue_vit, cue_tokens)], dim=1)
        return DetectorOutput(*self.head(pooled))

"""OA-Net: the off-real attention network (AG-FAS, Sec. III-C)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from oanet.cue_encoder import CueEncoder
from oanet.detectors.base import captures_config
from oanet.head import LivenessHead
from oanet.output import DetectorOutput
from oanet.plug import Pluggable, embed, vit_blocks
from oanet.vit import build_vit, fit_image, pool


class OANet(Pluggable):
    """A ViT on the face whose every block also attends to the cue's tokens.

    In each block h = h + SA(LN1(h)); h = h + CA(LNx(h), cue); h = h + MLP(LN2(h)). CA's output starts at
    zero, so a fresh OA-Net answers exactly as the plain ViT, whatever the cue.

    Parameters at full size: 85,798,656 (ViT-B/16) + 23,648,256 (12 cross-attentions) + 11,176,512 (ResNet-18
    without classifier) + 393,728 (embedder) + 1,026 (classifier) = 121,018,178. The public code also builds a
    ViT pooler of 590,592 that it never uses, and so counts 121,608,770. The domain discriminator belongs to
    the SSDG objective.

    The image is resized to `image_size` (256 -> 224 in the paper); the cue enters at its own size, and at 256
    gives 8x8 = 64 tokens of 512.

    Args:
        backbone: timm name of a VisionTransformer whose blocks are plain pre-norm blocks.
        image_size, pretrained, stem, layer_norm_eps, backbone_options: see `oanet.vit.build_vit`;
            `pretrained` holds for the cue encoder, too.
        embedding_dim: width of the feature.
        cue_channels: 3, or 6 for a two-part cue.
        cue_backbone, cue_stages, cue_options: see `oanet.cue_encoder.CueEncoder`.
    """

    name: ClassVar[str] = "oanet"
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
        cue_backbone: str = "resnet18",
        cue_stages: int = 4,
        cue_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.feature_dim = embedding_dim
        self.vit = build_vit(backbone, image_size, 3, pretrained, stem, layer_norm_eps, backbone_options)
        self.head = LivenessHead(self.vit.num_features, embedding_dim)
        encoder = CueEncoder(cue_backbone, cue_channels, cue_stages, pretrained, cue_options)
        self.plug_into(self.vit, backbone, layer_norm_eps, encoder)

    def forward(
        self, image: torch.Tensor, cue: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> DetectorOutput:
        """See `Detector.forward`; with `need_weights`, `attention` holds one map per block."""
        tokens = embed(self.vit, fit_image(self.vit, image, self.image_size))  # (B, T, width)
        tokens, maps = self.attend(tokens, cue, vit_blocks(self.vit), need_weights)
        logits, features = self.head(pool(self.vit, self.vit.norm(tokens)))
        return DetectorOutput(logits, features, maps)

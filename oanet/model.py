"""OA-Net: the off-real attention network (AG-FAS, Sec. III-C)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from oanet.batch import DetectorOutput
from oanet.cue_encoder import CueEncoder
from oanet.head import LivenessHead
from oanet.patches import ViTDetector
from oanet.towers import build_vit, embed, fit_image, pool
from oanet.trunks import antialiases


class OANet(ViTDetector):
    """A ViT on the image, each block of which also attends to the cue's tokens.

    Each block computes h = h + SA(LN1(h)); h = h + CA(LNx(h), cue); h = h + MLP(LN2(h)). CA's output starts at zero,
    so an untrained OA-Net equals the plain ViT, whatever the cue.

    Full size: 85,798,656 (ViT-B/16) + 23,648,256 (12 cross-attentions) + 11,176,512 (ResNet-18 without classifier) +
    393,728 (embedder) + 1,026 (classifier) = 121,018,178 parameters. The public code counts 121,608,770: it also builds
    a ViT pooler of 590,592 that it never uses. The domain discriminator is part of the objective `ssdg`.

    The image is resized to `image_size` (256 -> 224 in the paper). The cue is not resized; at 256 it gives 8x8 = 64
    tokens of width 512.

    Args:
        backbone: a ViT with plain pre-norm blocks; with DINOv2's four registers, T is 5 + N for N patches.
        image_size, pretrained, stem, layer_norm_eps, backbone_options: see `oanet.towers.build_vit`; `pretrained` also
            applies to the cue encoder.
        embedding_dim: width of the feature.
        resize: how the image is made smaller, one of `oanet.trunks.RESIZES`.
        cue_channels: 3, or 6 for a two-part cue.
        cue_backbone, cue_stages, cue_options: see `oanet.cue_encoder.CueEncoder`.
    """

    name = "oanet"
    needs_cue = True

    def __init__(
        self,
        backbone: str = "vit_base_patch16_224",
        image_size: int = 224,
        pretrained: bool = False,
        stem: str = "patch",
        layer_norm_eps: float | None = 1e-12,
        backbone_options: dict[str, Any] | None = None,
        embedding_dim: int = 512,
        resize: str = "plain",
        cue_channels: int = 3,
        cue_backbone: str = "resnet18",
        cue_stages: int = 4,
        cue_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.antialias = antialiases(resize)
        self.feature_dim = embedding_dim
        self.vit = build_vit(backbone, image_size, 3, pretrained, stem, layer_norm_eps, backbone_options)
        self.head = LivenessHead(self.vit.num_features, embedding_dim)
        encoder = CueEncoder(cue_backbone, cue_channels, cue_stages, pretrained, cue_options)
        self.plug_into(self.vit, backbone, encoder)

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`; with `need_weights`, `attention` holds one map per block."""
        image = fit_image(self.vit, image, self.image_size, self.antialias)
        tokens, halves = embed(self.vit, image)  # (B, T, width)
        tokens, maps = self.attend(tokens, cue, self.vit.blocks, halves, need_weights)
        logits, features = self.head(pool(self.vit, self.vit.norm(tokens)))
        return DetectorOutput(logits, features, maps)

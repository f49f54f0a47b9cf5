"""OA-Net: the off-real attention network (AG-FAS, Sec. III-C)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from oanet.attention import OffRealCrossAttention
from oanet.cue_encoder import CueEncoder
from oanet.detectors.base import Detector, captures_config, check_cue
from oanet.head import LivenessHead
from oanet.output import DetectorOutput
from oanet.vit import build_vit, fit_image, pool


class OANet(Detector):
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
        self.cue_channels = cue_channels
        self.feature_dim = embedding_dim
        self.vit = build_vit(backbone, image_size, 3, pretrained, stem, layer_norm_eps, backbone_options)
        self.head = LivenessHead(self.vit.num_features, embedding_dim)
        self.cue_encoder = CueEncoder(cue_backbone, cue_channels, cue_stages, pretrained, cue_options)
        eps = 1e-6 if layer_norm_eps is None else layer_norm_eps
        self.cross_attention = nn.ModuleList(
            OffRealCrossAttention(self.vit.embed_dim, self.cue_encoder.dim, block.attn.num_heads, eps)
            for block in plain_blocks(self.vit, backbone)
        )

    def forward(
        self, image: torch.Tensor, cue: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> DetectorOutput:
        """See `Detector.forward`; with `need_weights`, `attention` holds one map per block."""
        cue_tokens = self.cue_encoder(check_cue(cue, self.name, self.cue_channels))  # (B, N, cue_dim)
        tokens = self._embed(fit_image(self.vit, image, self.image_size))  # (B, T, width)
        maps: list[torch.Tensor] = []
        for block, cross_attention in zip(plain_blocks(self.vit), self.cross_attention, strict=True):
            tokens = tokens + block.drop_path1(block.ls1(block.attn(block.norm1(tokens))))
            update, weights = cross_attention(tokens, cue_tokens, need_weights)
            tokens = tokens + update
            tokens = tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))
            if weights is not None:
                maps.append(weights)
        logits, features = self.head(pool(self.vit, self.vit.norm(tokens)))
        return DetectorOutput(logits, features, tuple(maps) if need_weights else None)

    def _embed(self, image: torch.Tensor) -> torch.Tensor:
        """Patches, class token and position codes: the head of timm's own `forward_features`."""
        tokens = self.vit.patch_drop(self.vit._pos_embed(self.vit.patch_embed(image)))
        return self.vit.norm_pre(tokens)


def plain_blocks(vit: VisionTransformer, backbone: str = "the ViT") -> list[Any]:
    """The ViT's blocks; the forward pass opens them up, so they must be of the one kind that it knows."""
    blocks = list(vit.blocks)
    kinds = {type(block) for block in blocks}
    if kinds != {Block}:
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(
            f"{backbone!r} has blocks of the kind {found}; cross-attention goes between the self-attention "
            "and the MLP of plain pre-norm blocks, such as those of 'vit_base_patch16_224' or "
            "'vit_small_patch14_dinov2'."
        )
    return blocks

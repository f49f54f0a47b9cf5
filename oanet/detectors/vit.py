"""Detectors made of plain ViTs: they differ in their input (image, cue or both) and in how both are fused.

| detector        | input          | fusion                                    |
| --------------- | -------------- | ----------------------------------------- |
| `image_only`    | image          |                                           |
| `residual_only` | cue            |                                           |
| `dual_branch`   | image and cue  | two ViTs, pooled vectors concatenated     |
| `ddm_star`      | image and cue  | as `dual_branch`                          |
| `vit`           | image (or cue) | with `cue`, cross-attention as in `oanet` |
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from oanet.batch import DetectorOutput
from oanet.cue_encoder import CueEncoder
from oanet.detectors.base import check_cue
from oanet.head import LivenessHead, build_head
from oanet.patches import ViTDetector
from oanet.towers import build_vit, embed, fit_image, pool
from oanet.trunks import antialiases, resize


class ImageOnly(ViTDetector):
    """ViT on the image, then the shared head: the baseline that a cue must beat (AG-FAS, Table IV).

    Full size: 85,798,656 (ViT-B/16) + 393,728 (embedder) + 1,026 (classifier) parameters. With equal weights its
    logits are those of a fresh `OANet`.

    Args:
        backbone, image_size, pretrained, stem, layer_norm_eps, backbone_options: see `oanet.towers.build_vit`.
        embedding_dim: width of the feature.
        resize: how the image is made smaller, one of `oanet.trunks.RESIZES`.
    """

    name = "image_only"

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
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.antialias = antialiases(resize)
        self.feature_dim = embedding_dim
        self.vit = build_vit(backbone, image_size, 3, pretrained, stem, layer_norm_eps, backbone_options)
        self.head = LivenessHead(self.vit.num_features, embedding_dim)

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`."""
        tokens = self.vit.forward_features(fit_image(self.vit, image, self.image_size, self.antialias))  # (B, T, width)
        return DetectorOutput(*self.head(pool(self.vit, tokens)))


class ResidualOnly(ViTDetector):
    """ViT on the cue, then the shared head; the image is ignored (AG-FAS, Table V, "only residual").

    Attributes:
        sees_image: whether a second ViT reads the image.

    Args:
        cue_channels: 3, or 6 for a two-part cue.
        backbone, image_size, pretrained, stem, layer_norm_eps, backbone_options: of each ViT, see
            `oanet.towers.build_vit`.
        embedding_dim: width of the feature.
        resize: how image and cue are made smaller, one of `oanet.trunks.RESIZES`.
    """

    name = "residual_only"
    needs_cue = True
    sees_image: ClassVar[bool] = False

    def __init__(
        self,
        cue_channels: int = 3,
        backbone: str = "vit_base_patch16_224",
        image_size: int = 224,
        pretrained: bool = False,
        stem: str = "patch",
        layer_norm_eps: float | None = 1e-12,
        backbone_options: dict[str, Any] | None = None,
        embedding_dim: int = 512,
        resize: str = "plain",
    ) -> None:
        super().__init__()
        self.cue_channels = cue_channels
        self.image_size = image_size
        self.antialias = antialiases(resize)
        self.feature_dim = embedding_dim
        shape = (pretrained, stem, layer_norm_eps, backbone_options)
        self.vit = build_vit(backbone, image_size, 3, *shape) if self.sees_image else None
        self.cue_vit = build_vit(backbone, image_size, cue_channels, *shape)
        branches = 2 if self.sees_image else 1
        self.head = LivenessHead(branches * self.cue_vit.num_features, embedding_dim)

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`."""
        cue = resize(check_cue(cue, self.name, self.cue_channels), self.image_size, self.antialias)
        pooled = [pool(self.cue_vit, self.cue_vit.forward_features(cue))]  # (B, width) each
        if self.vit is not None:
            tokens = self.vit.forward_features(fit_image(self.vit, image, self.image_size, self.antialias))
            pooled.insert(0, pool(self.vit, tokens))
        return DetectorOutput(*self.head(torch.cat(pooled, dim=1)))


class DualBranch(ResidualOnly):
    """ViT on the image and ViT on the cue (AG-FAS, Table V, "dual branch").

    The paper says only that the features are concatenated before the softmax layer. Here they are concatenated before
    the embedder (768 + 768 -> 512 at full size), so that the losses see one feature of the usual width.

    Full size: 2 x 85,798,656 (ViT-B/16) + 786,944 (embedder) + 1,026 (classifier) = 172,385,282 parameters.
    """

    name = "dual_branch"
    sees_image = True


class DDMStar(DualBranch):
    """DDM* of AG-FAS, Table I: `DualBranch` under SSDG's losses, with the cue of another generator.

    DDM (Zhang et al. 2024, "Modeling Spoof Noise by De-spoofing Diffusion and its Application in Face Anti-spoofing",
    arXiv 2401.08275) encodes a face to noise with a diffusion model of attacks, decodes it with one of live faces, and
    gives the difference and the image to a two-stream depth network. Neither code nor sizes were published, so there is
    no detector `ddm`. Of DDM*, AG-FAS says only "two separate branches for the input image and the residual".

    The nearest cue source is `anoddpm`: a pixel diffusion model of live faces that noises a face where DDM encodes it.
    """

    name = "ddm_star"


class ViT(ViTDetector):
    """ViT on the image with a choice of heads, optionally conditioned on the cue.

    The head `embedding` makes it `image_only`, and with `cue` it is `oanet`. `bottleneck` is the head of the ViT
    baselines of few_shot_fas and FLIP (Huang et al., ECCV 2022; Srivatsan et al., ICCV 2023). `linear` classifies the
    pooled vector.

    Args:
        head: one of `oanet.head.HEADS`.
        backbone, image_size, pretrained, stem, layer_norm_eps, backbone_options: see `oanet.towers.build_vit`; the
            presets `base`, `small` and `ti` are ViT-B, ViT-S and ViT-Ti with 16x16 patches.
        embedding_dim: width of the feature; ignored by the head `linear`.
        resize: how the image is made smaller, one of `oanet.trunks.RESIZES`.
        cue: attend to the cue in every block, see `oanet.attention`; `pretrained` then applies to the cue encoder too.
        cue_channels, cue_backbone, cue_stages, cue_options: see `oanet.cue_encoder.CueEncoder`; they need `cue`.
    """

    name = "vit"

    def __init__(
        self,
        head: str = "linear",
        backbone: str = "vit_base_patch16_224",
        image_size: int = 224,
        pretrained: bool = False,
        stem: str = "patch",
        layer_norm_eps: float | None = 1e-12,
        backbone_options: dict[str, Any] | None = None,
        embedding_dim: int = 512,
        resize: str = "plain",
        cue: bool = False,
        cue_channels: int = 3,
        cue_backbone: str = "resnet18",
        cue_stages: int = 4,
        cue_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.antialias = antialiases(resize)
        self.vit = build_vit(backbone, image_size, 3, pretrained, stem, layer_norm_eps, backbone_options)
        self.head = build_head(head, self.vit.num_features, embedding_dim)
        self.feature_dim = self.head.feature_dim
        if cue:
            encoder = CueEncoder(cue_backbone, cue_channels, cue_stages, pretrained, cue_options)
            self.plug_into(self.vit, backbone, encoder)

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`; with `need_weights` and a cue, `attention` holds one map per block."""
        image = fit_image(self.vit, image, self.image_size, self.antialias)
        if not self.needs_cue:  # timm's own path, which takes blocks of any kind
            return DetectorOutput(*self.head(pool(self.vit, self.vit.forward_features(image))))
        tokens, halves = embed(self.vit, image)
        tokens, maps = self.attend(tokens, cue, self.vit.blocks, halves, need_weights)
        logits, features = self.head(pool(self.vit, self.vit.norm(tokens)))
        return DetectorOutput(logits, features, maps)

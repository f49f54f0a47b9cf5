"""timm's ViTs, built, fed and taken apart: plain ones, DINOv2 with and without registers, and DINOv3."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from oanet.checks import check_name
from oanet.networks import Block, Eva, EvaBlock, VisionTransformer
from oanet.sources import find_source, is_source
from oanet.trunks import create_timm, resize, standardize

STEMS = ("patch", "conv")

ViTTower: TypeAlias = VisionTransformer | Eva
"""DINOv3 is of the class Eva: rotary position codes, and layer scale inside its blocks."""

Half = Callable[[Any, Tensor], Tensor]
"""Half of a block with its residual: block and tokens (B, T, width) -> (B, T, width)."""


class ConvStem(nn.Module):
    """A convolutional patch embedding (Xiao et al. 2021, "Early Convolutions Help Transformers See Better").

    log2(patch_size) 3x3 convolutions of stride 2 with BatchNorm and ReLU, doubling in width, then a 1x1 convolution.
    Its arguments are those of timm's PatchEmbed, which calls it as `embed_layer`.
    """

    def __init__(self, img_size: int, patch_size: int, in_chans: int, embed_dim: int, **unused: Any) -> None:
        super().__init__()
        halvings = int(math.log2(patch_size))
        if 2**halvings != patch_size or img_size % patch_size:
            raise ValueError(
                f"patch_size = {patch_size}; the convolutional stem needs a power of two that divides the image size"
                f" {img_size}."
            )
        side = img_size // patch_size
        self.grid_size = (side, side)
        self.num_patches = side * side
        # The last halving reaches embed_dim, each one before it half of the next.
        widths = [in_chans, *(embed_dim // 2 ** (halvings - 1 - i) for i in range(halvings))]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], embed_dim, 1))

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_patches, embed_dim)."""
        image = image.contiguous(memory_format=torch.channels_last)
        return self.layers(image).flatten(2).transpose(1, 2)


def build_vit(
    backbone: str,
    image_size: int,
    in_channels: int = 3,
    pretrained: bool = False,
    stem: str = "patch",
    layer_norm_eps: float | None = 1e-12,
    options: dict[str, Any] | None = None,
) -> ViTTower:
    """A timm ViT without its classifier.

    Args:
        backbone: any timm name of the VisionTransformer family or of DINOv3, with or without a weight tag; or a folder
            or `hf-hub:OWNER/NAME`, see `oanet.sources`.
        image_size: side of the square input, a multiple of the patch size; pretrained position codes are interpolated
            to it.
        in_channels: 3, or 6 for a two-part cue.
        pretrained: fetch timm's weights for the name, or read those of the folder or repository.
        stem: `patch`, the ViT's own, or `conv`, see `ConvStem`; `conv` has no pretrained weights.
        layer_norm_eps: 1e-12 is Hugging Face's ViT, which the paper uses; None keeps timm's own, with which DINOv2 was
            trained.
        options: more of timm's arguments, such as `embed_dim`, `depth`, `num_heads`, `patch_size`.

    Raises:
        ValueError: unknown name or option, a network of another family, or an image size that patches do not fill.
        OSError: the pretrained weights cannot be loaded.
    """
    check_name("stem", stem, STEMS)
    if stem == "conv" and pretrained:
        raise ValueError("stem 'conv' has no pretrained weights; use stem 'patch' or pretrained = False.")
    arguments: dict[str, Any] = {"img_size": image_size, "in_chans": in_channels, "num_classes": 0}
    if stem == "conv":
        arguments["embed_layer"] = ConvStem
    if _is_dinov3(backbone):  # its class token is what was pretrained; codes of one size are computed once
        arguments |= {"global_pool": "token", "dynamic_img_size": False}
    vit = create_timm(backbone, pretrained, **{**arguments, **(options or {})})
    if not isinstance(vit, VisionTransformer) and not (isinstance(vit, Eva) and _is_dinov3(backbone)):
        raise ValueError(f"{backbone!r} is a {type(vit).__name__}; a timm VisionTransformer or a DINOv3 is needed.")
    _check_side(backbone, image_size, vit)
    if layer_norm_eps is not None:  # timm gives ViTs 1e-6 and has no argument for it
        for module in vit.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = layer_norm_eps
    return vit


def _is_dinov3(backbone: str) -> bool:
    name = find_source(backbone).name if is_source(backbone) else backbone
    return "dinov3" in name and name.startswith("vit_")


def _check_side(backbone: str, image_size: int, vit: ViTTower) -> None:
    """timm would leave out the pixels behind the last whole patch, or fail at the first image."""
    sides = getattr(vit.patch_embed, "patch_size", (1, 1))
    side = math.lcm(*sides)
    if image_size % side:
        below = image_size // side * side
        allowed = f"{below} or {below + side}" if below > 0 else str(side)
        raise ValueError(
            f"image_size = {image_size} is no multiple of {side}, the patch size of {backbone!r}; the nearest that is:"
            f" {allowed}."
        )


def fit_image(vit: ViTTower, image: Tensor, image_size: int, antialias: bool) -> Tensor:
    """Resize an image to the ViT's side (256 -> 224 in the paper), and standardise it as in the ViT's pretraining.

    Args:
        vit: that will read it.
        image: (B, 3, H, W) in [-1, 1].
        image_size: the ViT's side.
        antialias: see `oanet.trunks.RESIZES`.

    Returns:
        (B, 3, image_size, image_size). The ImageNet-21k ViTs have mean and deviation 0.5, which is [-1, 1] as it is.
    """
    image = resize(image, image_size, antialias)
    statistics: Any = vit.pretrained_cfg
    mean, deviation = statistics["mean"], statistics["std"]
    return image if set(mean) == set(deviation) == {0.5} else standardize(image, mean, deviation)


def pool(vit: ViTTower, tokens: Tensor) -> Tensor:
    """Normalised tokens (B, T, width) -> pooled vector (B, width), as the ViT pools: the class token in most."""
    return vit.forward_head(tokens, pre_logits=True)


def embed(vit: ViTTower, image: Tensor) -> tuple[Tensor, tuple[Half, Half]]:
    """What the blocks of a ViT read, as in timm's `forward_features`, and the halves of each block.

    Args:
        vit: with plain pre-norm blocks, see `check_blocks`.
        image: (B, 3, H, W), of its side.

    Returns:
        Tokens (B, T, width): class token, registers, patches; and the self-attention half and the MLP half.
    """
    patches = vit.patch_embed(image)
    if isinstance(vit, Eva):
        tokens, rope = vit._pos_embed(patches)
        return vit.norm_pre(tokens), (partial(_rotary_attention, rope=rope), _scaled_mlp)
    return vit.norm_pre(vit.patch_drop(vit._pos_embed(patches))), (_self_attention, _mlp)


def check_blocks(vit: ViTTower, backbone: str) -> None:
    """Raise ValueError unless the ViT's blocks are plain pre-norm ones, whose halves `embed` knows."""
    kinds = {type(block) for block in vit.blocks}
    if kinds not in ({Block}, {EvaBlock}):
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(
            f"{backbone!r} has blocks of the kind {found}; cross-attention needs plain pre-norm blocks, such as"
            " those of 'vit_base_patch16_224' or 'vit_base_patch14_reg4_dinov2'."
        )


def _self_attention(block: Any, tokens: Tensor) -> Tensor:
    return tokens + block.drop_path1(block.ls1(block.attn(block.norm1(tokens))))


def _mlp(block: Any, tokens: Tensor) -> Tensor:
    return tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))


def _rotary_attention(block: Any, tokens: Tensor, rope: Tensor | None) -> Tensor:
    return tokens + block.drop_path1(_scaled(block.gamma_1, block.attn(block.norm1(tokens), rope=rope)))


def _scaled_mlp(block: Any, tokens: Tensor) -> Tensor:
    return tokens + block.drop_path2(_scaled(block.gamma_2, block.mlp(block.norm2(tokens))))


def _scaled(gamma: Tensor | None, update: Tensor) -> Tensor:
    """The layer scale of a block of DINOv3, if it has one."""
    return update if gamma is None else gamma * update

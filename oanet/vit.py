"""timm's vision transformers as trunks: built by name and size, fed with faces in [-1, 1]."""

from __future__ import annotations

import difflib
import itertools
import math
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from oanet.names import check_name

STEMS = ("patch", "conv")


class ConvStem(nn.Module):
    """A convolutional patch embedding (Xiao et al. 2021, "Early Convolutions Help Transformers See Better").

    log2(patch_size) 3x3 convolutions of stride 2 with BatchNorm and ReLU, doubling in width, then a 1x1
    convolution. Takes timm's PatchEmbed arguments, so that a timm ViT can be built with it.
    """

    def __init__(self, img_size: int, patch_size: int, in_chans: int, embed_dim: int, **unused: Any) -> None:
        super().__init__()
        halvings = int(math.log2(patch_size))
        if 2**halvings != patch_size or img_size % patch_size:
            raise ValueError(
                f"The convolutional stem halves the picture: patch_size = {patch_size} must be a power of "
                f"two that divides the image size {img_size}."
            )
        side = img_size // patch_size
        self.grid_size = (side, side)
        self.num_patches = side * side
        widths = [in_chans, *(embed_dim // 2 ** (halvings - 1 - i) for i in range(halvings))]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], embed_dim, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
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
) -> VisionTransformer:
    """A timm ViT without its classifier.

    Args:
        backbone: any timm name of the VisionTransformer family, with or without a weight tag.
        image_size: side of the square input; position codes are learned for (or interpolated to) it.
        in_channels: 3, or 6 for a two-part cue.
        pretrained: fetch timm's weights for the name.
        stem: `patch`, the ViT's own, or `conv`, see `ConvStem`; `conv` has no pretrained weights.
        layer_norm_eps: 1e-12 is Hugging Face's ViT, which the paper uses; None keeps timm's own.
        options: more of timm's arguments, such as `embed_dim`, `depth`, `num_heads`, `patch_size`.

    Raises:
        ValueError: for an unknown name or option, or one that is no VisionTransformer.
        OSError: where the pretrained weights cannot be had.
    """
    check_name("stem", stem, STEMS)
    if stem == "conv" and pretrained:
        raise ValueError("stem 'conv' has no pretrained weights; use stem 'patch' or pretrained = False.")
    extra: dict[str, Any] = {"embed_layer": ConvStem} if stem == "conv" else {}
    vit = create_timm(
        backbone,
        pretrained,
        img_size=image_size,
        in_chans=in_channels,
        num_classes=0,
        **extra,
        **(options or {}),
    )
    if not isinstance(vit, VisionTransformer):
        raise ValueError(f"{backbone!r} is a {type(vit).__name__}; a timm VisionTransformer is needed.")
    if layer_norm_eps is not None:
        for module in vit.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = layer_norm_eps
    return vit


def create_timm(name: str, pretrained: bool, **arguments: Any) -> nn.Module:
    """`timm.create_model` whose errors say what to do."""
    if not timm.is_model(name):
        close = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
        hint = f" Nearest: {', '.join(close)}." if close else ""
        raise ValueError(f"timm has no model {name!r}.{hint} `timm.list_models()` names them all.")
    try:
        return timm.create_model(name, pretrained=pretrained, **arguments)
    except (TypeError, AssertionError) as error:
        raise ValueError(f"timm's {name!r} refuses an option: {error}. Given: {sorted(arguments)}.") from error
    except Exception as error:
        if not pretrained:
            raise
        raise OSError(
            f"The pretrained weights of {name!r} could not be loaded ({error}). Connect to the network once, "
            "so that they are cached, or set pretrained = False."
        ) from error


def fit_image(vit: VisionTransformer, image: torch.Tensor, image_size: int) -> torch.Tensor:
    """The picture as the ViT expects it: resized to its side (the paper's 256 -> 224) and in its value range.

    Args:
        image: (B, 3, H, W) in [-1, 1].

    Returns:
        (B, 3, image_size, image_size), normalised by the mean and deviation of the ViT's own pretraining; for
        those of the ImageNet-21k ViTs, 0.5 and 0.5, that is [-1, 1] as it came.
    """
    image = resize(image, image_size)
    statistics: Any = vit.pretrained_cfg
    mean, deviation = statistics["mean"], statistics["std"]
    if set(mean) == set(deviation) == {0.5}:
        return image
    shift = image.new_tensor(mean).view(1, 3, 1, 1)
    scale = image.new_tensor(deviation).view(1, 3, 1, 1)
    return ((image + 1) / 2 - shift) / scale


def resize(picture: torch.Tensor, side: int) -> torch.Tensor:
    """(B, C, H, W) -> (B, C, side, side), bilinear, antialiased; the same tensor where it fits already."""
    if picture.shape[-2:] == (side, side):
        return picture
    return F.interpolate(picture, size=(side, side), mode="bilinear", align_corners=False, antialias=True)


def pool(vit: VisionTransformer, tokens: torch.Tensor) -> torch.Tensor:
    """The face's vector (B, width) from normalised tokens (B, T, width), the ViT's own way: CLS for most."""
    return vit.forward_head(tokens, pre_logits=True)

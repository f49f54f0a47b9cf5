"""Networks of timm as trunks, built by name and size, and the resizing and standardisation of their input."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from oanet.checks import check_name

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

STEMS = ("patch", "conv")


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
) -> VisionTransformer:
    """A timm ViT without its classifier.

    Args:
        backbone: any timm name of the VisionTransformer family, with or without a weight tag.
        image_size: side of the square input; pretrained position codes are interpolated to it.
        in_channels: 3, or 6 for a two-part cue.
        pretrained: fetch timm's weights for the name.
        stem: `patch`, the ViT's own, or `conv`, see `ConvStem`; `conv` has no pretrained weights.
        layer_norm_eps: 1e-12 is Hugging Face's ViT, which the paper uses; None keeps timm's own.
        options: more of timm's arguments, such as `embed_dim`, `depth`, `num_heads`, `patch_size`.

    Raises:
        ValueError: unknown name or option, or a network of another family.
        OSError: the pretrained weights cannot be loaded.
    """
    check_name("stem", stem, STEMS)
    if stem == "conv" and pretrained:
        raise ValueError("stem 'conv' has no pretrained weights; use stem 'patch' or pretrained = False.")
    extra = {"embed_layer": ConvStem} if stem == "conv" else {}
    sizes = {"img_size": image_size, "in_chans": in_channels, "num_classes": 0}
    vit = create_timm(backbone, pretrained, **sizes, **extra, **(options or {}))
    if not isinstance(vit, VisionTransformer):
        raise ValueError(f"{backbone!r} is a {type(vit).__name__}; a timm VisionTransformer is needed.")
    if layer_norm_eps is not None:  # timm gives ViTs 1e-6 and has no argument for it
        for module in vit.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = layer_norm_eps
    return vit


def create_timm(name: str, pretrained: bool, **arguments: Any) -> nn.Module:
    """`timm.create_model` with errors that say what to do."""
    if not timm.is_model(name):
        close = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
        hint = f" Nearest: {', '.join(close)}." if close else ""
        raise ValueError(f"timm has no model {name!r}.{hint} `timm.list_models()` lists them.")
    try:
        return timm.create_model(name, pretrained=pretrained, **arguments)
    except (TypeError, AssertionError) as error:
        raise ValueError(f"timm's {name!r} refuses an option: {error}. Given: {sorted(arguments)}.") from error
    except Exception as error:  # downloads fail in many ways
        if not pretrained:
            raise
        raise OSError(
            f"The pretrained weights of {name!r} could not be loaded ({error}). Connect to the network once "
            "to cache them, or set pretrained = False."
        ) from error


RESIZES = ("plain", "antialias")
"""Ways to make an image smaller. `plain` is that of AG-FAS's public code, which keeps 256 -> 224 as sharp as it was but
aliases; `antialias` takes 44 % of the energy of a screen of 3 pixels."""


def antialiases(resize: str) -> bool:
    """Whether an option of `RESIZES` antialiases. Raises ValueError for another one."""
    check_name("resize", resize, RESIZES)
    return resize == "antialias"


def fit_image(vit: VisionTransformer, image: Tensor, image_size: int, antialias: bool) -> Tensor:
    """Resize an image to the ViT's side (256 -> 224 in the paper), and standardise it as in the ViT's pretraining.

    Args:
        vit: that will read it.
        image: (B, 3, H, W) in [-1, 1].
        image_size: the ViT's side.
        antialias: see `RESIZES`.

    Returns:
        (B, 3, image_size, image_size). The ImageNet-21k ViTs have mean and deviation 0.5, which is [-1, 1] as it is.
    """
    image = resize(image, image_size, antialias)
    statistics: Any = vit.pretrained_cfg
    mean, deviation = statistics["mean"], statistics["std"]
    return image if set(mean) == set(deviation) == {0.5} else standardize(image, mean, deviation)


def resize(image: Tensor, side: int, antialias: bool = True) -> Tensor:
    """(B, C, H, W) -> (B, C, side, side), bilinear; returns the same tensor if it fits already."""
    if image.shape[-2:] == (side, side):
        return image
    return F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False, antialias=antialias)


def resize_as_pillow(image: Tensor, side: int) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, 3, side, side), by Pillow's default: antialiased bicubic in 8 bits.

    Pillow resizes rows, then columns, and rounds to [0, 255] after each.
    """
    if image.shape[-2:] == (side, side):
        return image
    for size in ((image.shape[-2], side), (side, side)):
        image = F.interpolate(image, size=size, mode="bicubic", align_corners=False, antialias=True)
        image = ((image.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    return image


def resize_map(values: Tensor, side: int) -> Tensor:
    """Target maps (B, 1, H, W) in [0, 1] -> (B, 1, side, side) float32 in [0, 1]; see `resize`."""
    # The weights of antialiasing sum to one up to rounding, and cross-entropy refuses a target of 1 + 1e-7.
    return resize(values.float(), side).clamp(0, 1)


def standardize(image: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (value in [0, 1] - mean) / std per channel."""
    shift, scale = (_per_channel(tuple(values), image.device, image.dtype) for values in (mean, std))
    return ((image + 1) / 2 - shift) / scale


@lru_cache(maxsize=16)
def _per_channel(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """(1, 3, 1, 1); kept, since a copy in every forward pass would wait for the GPU each time."""
    return torch.tensor(values, device=device, dtype=dtype).view(1, 3, 1, 1)


def pool(vit: VisionTransformer, tokens: Tensor) -> Tensor:
    """Normalised tokens (B, T, width) -> pooled vector (B, width), as the ViT pools: the class token in most."""
    return vit.forward_head(tokens, pre_logits=True)


def build_resnet(
    backbone: str, in_channels: int = 3, pretrained: bool = False, options: dict[str, Any] | None = None
) -> ResNet:
    """A timm ResNet without its classifier, in channels-last memory.

    Args:
        backbone: any timm name of the ResNet family.
        in_channels: 3, or 6 for a two-part cue.
        pretrained: fetch timm's weights for the name.
        options: more of timm's arguments, such as `layers`, `channels`, `stem_type`, `stem_width`.

    Raises:
        ValueError: unknown name or option, or a network of another family.
        OSError: the pretrained weights cannot be loaded.
    """
    # The papers' ResNet is torchvision's, whose residual blocks do not start as identities.
    arguments = {"zero_init_last": False, **(options or {})}
    resnet = create_timm(backbone, pretrained, in_chans=in_channels, num_classes=0, **arguments)
    if not isinstance(resnet, ResNet):
        raise ValueError(f"{backbone!r} is a {type(resnet).__name__}; a timm ResNet is needed.")
    return resnet.to(memory_format=torch.channels_last)


class Pyramid(nn.Module):
    """Feature maps of a CNN's stages at strides of 4 and more, from fine and narrow to coarse and wide.

    Args:
        backbone: any timm name with `features_only`, such as a ResNet, EfficientNet or ConvNeXt.
        image_size: side that images are resized to; values are standardised by ImageNet's mean and deviation.
        pretrained: fetch timm's weights for the name.
        options: more of timm's arguments, such as a ResNet's `layers`, `channels`.
        levels: number of maps, at strides 4, 8 and so on; later stages are not built. Default: all.

    Attributes:
        widths: channels of each map.
    """

    def __init__(
        self,
        backbone: str,
        image_size: int,
        pretrained: bool = False,
        options: dict[str, Any] | None = None,
        levels: int | None = None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        indices = {} if levels is None else {"out_indices": tuple(range(1, levels + 1))}
        # features_only counts the stem, at stride 2, as its first map.
        net: Any = create_timm(backbone, pretrained, features_only=True, **indices, **(options or {}))
        strides, widths = net.feature_info.reduction(), net.feature_info.channels()
        self._kept = [index for index, stride in enumerate(strides) if stride >= 4]
        wanted = [4 * 2**level for level in range(levels or 0)]
        if levels is not None and list(strides) != wanted:
            raise ValueError(
                f"{levels} maps at the strides {wanted} are needed, but after its stem {backbone!r} has maps at"
                f" {list(strides)}. Use a backbone with a stem of stride 2, such as 'resnet18'."
            )
        self.widths = [widths[index] for index in self._kept]
        self.net = net.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1] -> one (B, C, h, w) per level."""
        pixels = standardize(resize(image, self.image_size)).contiguous(memory_format=torch.channels_last)
        maps = self.net(pixels)
        return [maps[index] for index in self._kept]

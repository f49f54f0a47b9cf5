"""Networks of timm as trunks, built by name, place and size, and the resizing and standardisation of their input."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oanet.checkpoints import load_weights
from oanet.checks import check_name
from oanet.networks import ResNet, adapt_input_conv, timm
from oanet.sources import Source, find_source, is_source

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def create_timm(name: str, pretrained: bool, **arguments: Any) -> nn.Module:
    """`timm.create_model` with errors that say what to do; a name may also be a place, see `oanet.sources`."""
    if is_source(name):
        return _from_source(find_source(name), pretrained, arguments)
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
            "to cache them, name a folder that holds them instead, or set pretrained = False."
        ) from error


def _from_source(source: Source, pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    """The network of a folder and, if `pretrained`, its weights; positions and first layer are fitted to the sizes."""
    if arguments.get("features_only"):
        raise ValueError(f"{source.folder}: this detector needs a backbone by its timm name, such as 'resnet18'.")
    overlay = {"pretrained_cfg_overlay": source.statistics} if source.statistics else {}
    network: Any = create_timm(source.name, False, **{**source.options, **overlay, **arguments})
    if not pretrained or torch.empty(0).is_meta:
        return network
    state = source.read()
    module = sys.modules[type(network).__module__]
    if hasattr(module, "checkpoint_filter_fn"):
        state = module.checkpoint_filter_fn(state, network)
    head, first = (network.pretrained_cfg[part] for part in ("classifier", "first_conv"))
    state = {name: value for name, value in state.items() if not name.startswith(f"{head}.")}
    weight, wanted = f"{first}.weight", network.state_dict()
    if weight in state and weight in wanted and state[weight].shape[1] != wanted[weight].shape[1]:
        state[weight] = adapt_input_conv(wanted[weight].shape[1], state[weight])
    load_weights(network, state, source.folder)
    return network


RESIZES = ("plain", "antialias")
"""Ways to make an image smaller. `plain` is that of AG-FAS's public code, which keeps 256 -> 224 as sharp as it was but
aliases; `antialias` takes 44 % of the energy of a screen of 3 pixels."""


def antialiases(resize: str) -> bool:
    """Whether an option of `RESIZES` antialiases. Raises ValueError for another one."""
    check_name("resize", resize, RESIZES)
    return resize == "antialias"


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
    for size in ((int(image.shape[-2]), side), (side, side)):  # of a traced image it is a tensor
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


def detail(image: Tensor, side: int) -> Tensor:
    """(B, C, H, W) less the mean of each pixel's square of `side` (odd), of which what lies outside does not count."""
    return image - F.avg_pool2d(image, side, stride=1, padding=side // 2, count_include_pad=False)


@lru_cache(maxsize=16)
def _per_channel(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """(1, 3, 1, 1); kept, since a copy in every forward pass would wait for the GPU each time."""
    return torch.tensor(values, device=device, dtype=dtype).view(1, 3, 1, 1)


def forget_constants() -> None:
    """Drop the constants that are kept between forward passes, for who computed with tensors without values."""
    _per_channel.cache_clear()


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

"""Silent-Face's two networks with their published weights (Minivision, 2020), for comparison; not trained here.

Each sees 80x80 pixels, BGR, in 0..255, of a crop around the face box: MiniFASNetV2 one of 2.7 times the box, V1SE
one of 4.0 times. Of the three classes the middle one is a real face. The score is the mean of the two networks'
P(real), as the public program sums and halves them. Wrong crops, RGB, or values in 0..1 are the usual reasons why
these networks seem not to work.

Face datasets hold aligned crops, not whole pictures. There both networks get the whole crop, which is neither 2.7
nor 4.0 boxes wide: read such numbers with that in mind. With whole pictures, use `crop_around` and `judge_crops`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from oanet.checkpoints import load_weights, read_checkpoint, without_prefix
from oanet.detectors.base import Detector, captures_config
from oanet.head import normalize_feature
from oanet.names import INFERENCE_ONLY, check_name
from oanet.output import DetectorOutput
from oanet.pixels import to_bgr_bytes

SIDE = 80
REAL = 1
SCALES: dict[str, float] = {"v2": 2.7, "v1se": 4.0}
"""The published networks and how many face boxes wide the crop of each is."""

# Per residual block how many channels lie between its two 1x1 convolutions, after pruning; stage by stage, the
# block before the semicolon halves the map.
_WIDTHS: dict[str, tuple[tuple[int, ...], ...]] = {
    "v2": ((103, 13, 13, 13, 13), (231, 231, 52, 26, 77, 26, 26), (308, 26, 26)),
    "v1se": ((103, 13, 26, 13, 52), (231, 154, 52, 26, 52, 26, 26), (308, 26, 26)),
}
_STAGE_CHANNELS = (64, 128, 128)


class MiniFASNet(Detector):
    """MiniFASNetV2 (434,560 parameters) and V1SE (433,586), averaged.

    `train` refuses and no parameter wants a gradient. The feature is both 128-wide embeddings side by side, scaled by
    `normalize_feature`.

    Args:
        weights: the published files, one or both, in any order: each is recognised by what is in it.
        networks: which of `v2` and `v1se` to build; those of `weights` where given, so that it need not be said.

    Raises:
        FileNotFoundError, ValueError: a file is missing, damaged, or of another network.
    """

    name: ClassVar[str] = "minifasnet"
    needs_cue: ClassVar[bool] = False

    @captures_config
    def __init__(self, weights: Sequence[str] | None = None, networks: Sequence[str] | None = None) -> None:
        super().__init__()
        if isinstance(weights, str):
            weights = [weights]
        found = {} if weights is None else _read_published(weights)
        chosen = list(networks or found or SCALES)
        for network in chosen:
            check_name("network", network, SCALES)
        if found and set(found) != set(chosen):
            raise ValueError(f"The weights are of {', '.join(found)}, but networks = {', '.join(chosen)}.")
        self.networks = nn.ModuleDict({network: MiniFASNetwork(network) for network in chosen})
        self.feature_dim = 128 * len(chosen)
        for network, (path, state) in found.items():
            load_weights(self.networks[network], state, path)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> MiniFASNet:
        """Stay in eval mode; ValueError where training is asked for."""
        if mode:
            raise ValueError(
                f"{self.name!r} is here for inference only: {INFERENCE_ONLY[self.name]}. Give its published `weights`"
                " and train.steps: 0, or train another detector."
            )
        return super().train(False)

    def save_pretrained(self, folder: str | Path) -> None:
        """See `Detector.save_pretrained`; which networks there are is written, since the files that said it are not."""
        self.config = {**self.config, "networks": list(self.networks)}
        super().save_pretrained(folder)

    def forward(
        self, image: torch.Tensor, cue: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> DetectorOutput:
        """See `Detector.forward`: every network sees the whole of each aligned crop."""
        return self.judge_crops([image] * len(self.networks))

    def judge_crops(self, crops: Sequence[torch.Tensor]) -> DetectorOutput:
        """Judge B faces by a crop for each network, in the order of `networks`.

        Args:
            crops: (B, 3, H, W) in [-1, 1], RGB, any size, see `crop_around`.
        """
        logs, embeddings = [], []
        for network, crop in zip(self.networks.values(), crops, strict=True):
            # Without antialiasing, as OpenCV's resize, which the public program crops with.
            small = F.interpolate(crop, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
            logits, embedding = network(to_bgr_bytes(small))
            logs.append(logits.float().log_softmax(dim=1))
            embeddings.append(embedding.float())
        every = torch.stack(logs) - math.log(len(logs))  # (networks, B, 3)
        attack = every[..., [index for index in range(3) if index != REAL]]
        attack = attack.permute(1, 0, 2).flatten(1).logsumexp(dim=1)
        bonafide = every[..., REAL].logsumexp(dim=0)
        features = normalize_feature(torch.cat(embeddings, dim=1))
        return DetectorOutput(torch.stack([attack, bonafide], dim=1), features)


class MiniFASNetwork(nn.Module):
    """One of the networks, under the names of the published files.

    Args:
        kind: `v2`, or `v1se`, whose stages each end with a squeeze-and-excitation.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        excited = kind == "v1se"
        self.conv1 = _ConvBlock(3, 32, 3, stride=2)
        self.conv2_dw = _ConvBlock(32, 32, 3, groups=32)
        first, second, third = _WIDTHS[kind]
        self.conv_23, self.conv_3 = _stage(32, first, _STAGE_CHANNELS[0], excited)
        self.conv_34, self.conv_4 = _stage(64, second, _STAGE_CHANNELS[1], excited)
        self.conv_45, self.conv_5 = _stage(128, third, _STAGE_CHANNELS[2], excited)
        self.conv_6_sep = _ConvBlock(128, 512, 1)
        self.conv_6_dw = _ConvBlock(512, 512, SIDE // 16, padding=0, groups=512, activated=False)
        self.linear = nn.Linear(512, 128, bias=False)
        self.bn = nn.BatchNorm1d(128)
        self.prob = nn.Linear(128, 3, bias=False)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, 80, 80) BGR in 0..255 -> logits (B, 3) and embeddings (B, 128)."""
        places = self.conv2_dw(self.conv1(pixels))
        places = self.conv_3(self.conv_23(places))
        places = self.conv_4(self.conv_34(places))
        places = self.conv_5(self.conv_45(places))
        places = self.conv_6_dw(self.conv_6_sep(places))
        embedding = self.bn(self.linear(places.flatten(1)))
        return self.prob(embedding), embedding


class _ConvBlock(nn.Module):
    """Convolution, BatchNorm and, where activated, PReLU."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        activated: bool = True,
    ) -> None:
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(after)
        self.prelu = nn.PReLU(after) if activated else nn.Identity()

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        return self.prelu(self.bn(self.conv(places)))


class _DepthWise(nn.Module):
    """1x1, depthwise 3x3 and 1x1 convolutions; added to its input unless it halves the map."""

    def __init__(self, before: int, between: int, after: int, halve: bool = False, excited: bool = False) -> None:
        super().__init__()
        self.residual = not halve
        self.conv = _ConvBlock(before, between, 1)
        self.conv_dw = _ConvBlock(between, between, 3, stride=2 if halve else 1, groups=between)
        self.project = _ConvBlock(between, after, 1, activated=False)
        self.se_module = _Excitation(after) if excited else nn.Identity()

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        update = self.se_module(self.project(self.conv_dw(self.conv(places))))
        return places + update if self.residual else update


class _Excitation(nn.Module):
    """Squeeze-and-excitation with a quarter of the channels between (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 4, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels // 4)
        self.fc2 = nn.Conv2d(channels // 4, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        squeezed = places.mean(dim=(2, 3), keepdim=True)
        return places * self.bn2(self.fc2(F.relu(self.bn1(self.fc1(squeezed))))).sigmoid()


class _Residuals(nn.Module):
    """Several blocks under the name `model`, as the published files have them."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.model = nn.Sequential(*blocks)

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        return self.model(places)


def _stage(before: int, widths: Sequence[int], channels: int, excited: bool) -> tuple[nn.Module, nn.Module]:
    """The block that halves the map, and the residual ones after it, the last of them excited."""
    halving = _DepthWise(before, widths[0], channels, halve=True)
    rest: list[nn.Module] = [
        _DepthWise(channels, between, channels, excited=excited and place == len(widths) - 2)
        for place, between in enumerate(widths[1:])
    ]
    return halving, _Residuals(rest)


def crop_box(
    width: int, height: int, box: tuple[float, float, float, float], scale: float
) -> tuple[int, int, int, int]:
    """What to cut out of a picture for a face box, by the public program's rule.

    The box grows about its centre by `scale`, or by less where the picture is not that large, and is moved inside
    where it would reach over an edge.

    Args:
        width, height: of the picture in pixels.
        box: left, top, width and height of the face.
        scale: 2.7 for `v2`, 4.0 for `v1se`.

    Returns:
        left, top, right, bottom; pixels left <= x < right and top <= y < bottom are inside.

    Raises:
        ValueError: a box without extent, or one that lies wholly outside.
    """
    left, top, box_width, box_height = box
    if box_width <= 0 or box_height <= 0:
        raise ValueError(f"The face box {box} has no extent; left, top, width and height are expected.")
    if left >= width or top >= height or left + box_width <= 0 or top + box_height <= 0:
        raise ValueError(f"The face box {box} lies outside the picture of {width}x{height} pixels.")
    scale = min(scale, (width - 1) / box_width, (height - 1) / box_height)
    horizontal = _span(left + box_width / 2, box_width * scale, width - 1)
    vertical = _span(top + box_height / 2, box_height * scale, height - 1)
    return horizontal[0], vertical[0], horizontal[1], vertical[1]


def crop_around(picture: np.ndarray, box: tuple[float, float, float, float], scale: float) -> torch.Tensor:
    """The crop of a face in a whole picture, for `MiniFASNet.judge_crops`.

    Args:
        picture: (H, W, 3) uint8, RGB.
        box, scale: see `crop_box`.

    Returns:
        (1, 3, h, w) in [-1, 1], RGB.
    """
    left, top, right, bottom = crop_box(picture.shape[1], picture.shape[0], box, scale)
    crop = np.ascontiguousarray(picture[top:bottom, left:right])
    return torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 127.5 - 1


def _span(middle: float, length: float, last: int) -> tuple[int, int]:
    """First pixel and the one past the end of `length` about `middle`, moved into [0, last]."""
    start, end = middle - length / 2, middle + length / 2
    if start < 0:
        start, end = 0.0, end - start
    if end > last:
        start, end = start - (end - last), float(last)
    # Rounding may leave a start a hair below zero.
    return max(0, int(start)), int(end) + 1


def _read_published(paths: Sequence[str]) -> dict[str, tuple[Path, dict[str, torch.Tensor]]]:
    """Path and tensors of each file by the network that it is of, in the order of `SCALES`."""
    found: dict[str, tuple[Path, dict[str, torch.Tensor]]] = {}
    for path in map(Path, paths):
        state = read_checkpoint(path)
        if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ValueError(f"{path} holds no names and tensors, so it is none of the published MiniFASNet files.")
        state = without_prefix(state, ["module."])
        kind = "v1se" if any(".se_module." in name for name in state) else "v2"
        if kind in found:
            raise ValueError(f"{found[kind][0]} and {path} are both of the network {kind!r}; give one file of each.")
        found[kind] = (path, state)
    return {kind: found[kind] for kind in SCALES if kind in found}

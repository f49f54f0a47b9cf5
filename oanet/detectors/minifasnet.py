"""Silent-Face's two networks with their published weights (Minivision, 2020), for comparison; not trained here.

Each takes 80x80 pixels, BGR in 0..255, which it cuts out of the whole picture around the face box: MiniFASNetV2 2.7
times the box, V1SE 4.0 times. Class 1 of 3 is a real face; the score is the mean of the two networks' P(real), and the
published decision is the most probable class. Aligned crops, RGB, or values in 0..1 give another network's scores.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oanet.batch import DetectorOutput
from oanet.checkpoints import load_weights, read_checkpoint
from oanet.checks import check_name
from oanet.detectors.base import Detector
from oanet.head import normalize_feature, unnormalize_feature
from oanet.published import Decision

SIDE = 80
REAL = 1
SCALES: dict[str, float] = {"v2": 2.7, "v1se": 4.0}
"""The published networks, and the width of their crops in face boxes."""

# Channels between the two 1x1 convolutions of each block, after pruning. The first block of a stage halves the map,
# the others are residual.
_WIDTHS: dict[str, tuple[tuple[int, ...], ...]] = {
    "v2": ((103, 13, 13, 13, 13), (231, 231, 52, 26, 77, 26, 26), (308, 26, 26)),
    "v1se": ((103, 13, 26, 13, 52), (231, 154, 52, 26, 52, 26, 26), (308, 26, 26)),
}
_STAGE_CHANNELS = (64, 128, 128)


class MiniFASNet(Detector):
    """MiniFASNetV2 (434,560 parameters) and V1SE (433,586), averaged.

    `train` raises an error, and no parameter requires a gradient. The feature is both 128-wide embeddings, concatenated
    and scaled by `normalize_feature`.

    Args:
        weights: one or both of the published files, in any order; each is recognised by its content.
        networks: which of `v2` and `v1se` to build; default: those in `weights`, or both.

    Raises:
        FileNotFoundError, ValueError: a file is missing, damaged, or of another network.
    """

    name = "minifasnet"
    sees = "box"
    inference_only: ClassVar[str | None] = (
        "its training needs two crops of the whole image and a Fourier head that the published weights lack"
    )
    published: ClassVar[dict[str, Any] | None] = {
        "title": "MiniFASNetV2 and V1SE of Silent-Face-Anti-Spoofing (Minivision, 2020)",
        "files": "2.7_80x80_MiniFASNetV2.pth and 4_0_0_80x80_MiniFASNetV1SE.pth from resources/anti_spoof_models of"
        " github.com/minivision-ai/Silent-Face-Anti-Spoofing",
        "licence": "Apache-2.0",
        "trained_on": "pictures of its publisher, some five million of each class, which are not public",
        "count": 2,
    }
    decision = Decision(
        0.5,
        "publisher's rule, the most probable of three classes, which a score of 0.5 always is; on what pictures it was"
        " tuned is not published",
        by_class=True,
    )

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
        """Stay in eval mode. Raises ValueError for `mode=True`."""
        if mode:
            raise ValueError(
                f"{self.name!r} is for inference only: {self.inference_only}. Set its published `weights` and"
                " train.steps: 0, or train another detector."
            )
        return super().train(False)

    def save_pretrained(self, folder: str | Path) -> None:
        """See `Detector.save_pretrained`; also writes `networks`, since `weights` is dropped."""
        self.config = {**self.config, "networks": list(self.networks)}
        super().save_pretrained(folder)

    def look(self, picture: np.ndarray, box: np.ndarray | None = None, points: np.ndarray | None = None) -> np.ndarray:
        """The crop of each network as the public program cuts it: (80, 80, 3 x networks), in the order of `networks`.

        See `Detector.look`.
        """
        if box is None:
            raise ValueError(f"{self.name!r} cuts its crops around the face's box, which is missing.")
        height, width = picture.shape[:2]
        crops = []
        for network in self.networks:
            left, top, right, bottom = crop_box(width, height, box, SCALES[network])
            # OpenCV's resize of bytes rounds to bytes; one of floats moves P(real) by up to 0.04.
            crops.append(cv2.resize(np.ascontiguousarray(picture[top:bottom, left:right]), (SIDE, SIDE)))
        return np.concatenate(crops, axis=2)

    def embedding(self, output: DetectorOutput) -> Tensor:
        """See `Detector.embedding`."""
        return unnormalize_feature(output.features)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """See `Detector.recognises`."""
        if path.suffix not in (".pth", ".pt"):
            return False
        try:
            state = read_checkpoint(path)
        except ValueError:
            return False
        return isinstance(state, dict) and any(str(name).endswith("conv_6_dw.conv.weight") for name in state)

    def forward(self, image: Tensor, cue: Tensor | None = None, *, need_weights: bool = False) -> DetectorOutput:
        """See `Detector.forward`; `image` is (B, 3 x networks, 80, 80) of `look`."""
        wanted = (3 * len(self.networks), SIDE, SIDE)
        if image.shape[1:] != wanted:
            raise ValueError(
                f"{self.name!r} takes its own crops, {wanted}, and not {tuple(image.shape[1:])}: make them from the"
                " whole picture and the face's box with `look`."
            )
        logs, embeddings = [], []
        for network, crop in zip(self.networks.values(), image.split(3, dim=1), strict=True):
            # BGR in 0..255, as OpenCV reads a file; rounded, because the way through [-1, 1] costs the last bits.
            logits, embedding = network(((crop.flip(1) + 1) * 127.5).round())
            logs.append(logits.float().log_softmax(dim=1))
            embeddings.append(embedding.float())
        # The mean of the networks' probabilities, in logarithms.
        classes = (torch.stack(logs) - math.log(len(logs))).logsumexp(dim=0)  # (B, 3)
        attacks = torch.cat([classes[:, :REAL], classes[:, REAL + 1 :]], dim=1)
        logits = torch.stack([attacks.logsumexp(dim=1), classes[:, REAL]], dim=1)
        features = normalize_feature(torch.cat(embeddings, dim=1))
        return DetectorOutput(logits, features, attack_classes=attacks.exp())


class MiniFASNetwork(nn.Module):
    """One of the networks, with the parameter names of the published files.

    Args:
        kind: `v2`, or `v1se`, whose stages end with a squeeze-and-excitation.
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

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, 80, 80) BGR in 0..255 -> logits (B, 3) and embeddings (B, 128)."""
        x = self.conv2_dw(self.conv1(pixels))  # (B, 32, 40, 40)
        x = self.conv_3(self.conv_23(x))  # (B, 64, 20, 20)
        x = self.conv_4(self.conv_34(x))  # (B, 128, 10, 10)
        x = self.conv_5(self.conv_45(x))  # (B, 128, 5, 5)
        x = self.conv_6_dw(self.conv_6_sep(x))  # (B, 512, 1, 1)
        embedding = self.bn(self.linear(x.flatten(1)))
        return self.prob(embedding), embedding


class _ConvBlock(nn.Module):
    """Convolution, BatchNorm and, if activated, PReLU."""

    def __init__(self, before: int, after: int, kernel: int, activated: bool = True, **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, bias=False, **{"padding": kernel // 2, **options})
        self.bn = nn.BatchNorm2d(after)
        self.prelu = nn.PReLU(after) if activated else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.bn(self.conv(x)))


class _DepthWise(nn.Module):
    """1x1, depthwise 3x3 and 1x1 convolutions; residual unless it halves the map."""

    def __init__(self, before: int, between: int, after: int, halve: bool = False, excited: bool = False) -> None:
        super().__init__()
        self.residual = not halve
        self.conv = _ConvBlock(before, between, 1)
        self.conv_dw = _ConvBlock(between, between, 3, stride=2 if halve else 1, groups=between)
        self.project = _ConvBlock(between, after, 1, activated=False)
        self.se_module = _Excitation(after) if excited else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        update = self.se_module(self.project(self.conv_dw(self.conv(x))))
        return x + update if self.residual else update


class _Excitation(nn.Module):
    """Squeeze-and-excitation with a quarter of the channels between (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 4, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels // 4)
        self.fc2 = nn.Conv2d(channels // 4, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = x.mean(dim=(2, 3), keepdim=True)
        return x * self.bn2(self.fc2(F.relu(self.bn1(self.fc1(squeezed))))).sigmoid()


def _stage(before: int, widths: Sequence[int], channels: int, excited: bool) -> tuple[nn.Module, nn.Module]:
    """The block that halves the map, and the residual blocks after it; `excited` concerns the last."""
    halving = _DepthWise(before, widths[0], channels, halve=True)
    rest: list[nn.Module] = [
        _DepthWise(channels, between, channels, excited=excited and index == len(widths) - 2)
        for index, between in enumerate(widths[1:])
    ]
    return halving, nn.Sequential(OrderedDict(model=nn.Sequential(*rest)))  # named as in the published files


def crop_box(width: int, height: int, box: Sequence[float] | np.ndarray, scale: float) -> tuple[int, int, int, int]:
    """The crop for a face box, by the public program's rule.

    The box is scaled about its centre by `scale`, or by less if the image is too small, and shifted inside the image.

    Args:
        width, height: of the image in pixels.
        box: left, top, width and height of the face.
        scale: 2.7 for `v2`, 4.0 for `v1se`.

    Returns:
        left, top, right, bottom; right and bottom are exclusive.

    Raises:
        ValueError: the box is not finite, is empty, or is wholly outside the image.
    """
    left, top, box_width, box_height = place = tuple(float(value) for value in box)
    if not all(map(math.isfinite, place)):
        raise ValueError(f"The face box {place} is not finite.")
    if box_width <= 0 or box_height <= 0:
        raise ValueError(f"The face box {place} has no extent; left, top, width and height are expected.")
    if left >= width or top >= height or left + box_width <= 0 or top + box_height <= 0:
        raise ValueError(f"The face box {place} is outside the image of {width}x{height} pixels.")
    scale = min(scale, (width - 1) / box_width, (height - 1) / box_height)
    horizontal = _span(left + box_width / 2, box_width * scale, width - 1)
    vertical = _span(top + box_height / 2, box_height * scale, height - 1)
    return horizontal[0], vertical[0], horizontal[1], vertical[1]


def _span(middle: float, length: float, last: int) -> tuple[int, int]:
    """First pixel and end of an interval of `length` about `middle`, shifted into [0, last]."""
    start, end = middle - length / 2, middle + length / 2
    if start < 0:
        start, end = 0.0, end - start
    if end > last:
        start, end = start - (end - last), float(last)
    # Rounding may leave a start slightly below zero.
    return max(0, int(start)), int(end) + 1


def _read_published(paths: Sequence[str]) -> dict[str, tuple[Path, dict[str, Tensor]]]:
    """Path and tensors of each file by its network, in the order of `SCALES`."""
    found: dict[str, tuple[Path, dict[str, Tensor]]] = {}
    for path in map(Path, paths):
        state = read_checkpoint(path)
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError(f"{path} holds no tensors by name, so it is none of the published MiniFASNet files.")
        state = {name.removeprefix("module."): value for name, value in state.items()}  # left by parallel training
        kind = "v1se" if any(".se_module." in name for name in state) else "v2"
        if kind in found:
            raise ValueError(
                f"{found[kind][0]} and {path} are both of the network {kind!r}; give one file per network."
            )
        found[kind] = (path, state)
    return {kind: found[kind] for kind in SCALES if kind in found}

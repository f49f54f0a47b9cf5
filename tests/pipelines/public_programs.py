"""The public programs of published networks, written anew and slowly: what ours is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import transforms


class Published(nn.Module):
    """face-liveness-vit in plain torch, under the names of its checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, 128, 16, 16)})
        self.pos_embed = nn.Parameter(torch.randn(1, 197, 128) * 0.02)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 128) * 0.02)
        layer = nn.TransformerEncoderLayer(128, 4, 512, 0.0, batch_first=True)
        self.encoder = nn.ModuleDict({"transformer_encoder": nn.TransformerEncoder(layer, 2)})
        self.head = nn.Linear(128, 2)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1) + self.pos_embed
        return self.head(self.encoder["transformer_encoder"](tokens)[:, 0])


TRANSFORM = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


def slow_fasnet(state: dict[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """The network straight from the names of a published file."""

    def norm(name: str, places: torch.Tensor) -> torch.Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        shape = (1, -1, *[1] * (places.ndim - 2))
        return (places - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt() * weight.view(shape) + bias.view(shape)

    def conv(name: str, places: torch.Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> torch.Tensor:
        places = norm(f"{name}.bn", F.conv2d(places, state[f"{name}.conv.weight"], None, stride, padding, 1, groups))
        slope = state.get(f"{name}.prelu.weight")
        return places if slope is None else torch.where(places > 0, places, places * slope.view(1, -1, 1, 1))

    def block(name: str, places: torch.Tensor, stride: int) -> torch.Tensor:
        inner = conv(f"{name}.conv", places)
        inner = conv(f"{name}.project", conv(f"{name}.conv_dw", inner, stride, 1, inner.shape[1]))
        if f"{name}.se_module.fc1.weight" in state:
            gate = inner.mean(dim=(2, 3), keepdim=True)
            gate = norm(f"{name}.se_module.bn1", F.conv2d(gate, state[f"{name}.se_module.fc1.weight"])).relu()
            gate = norm(f"{name}.se_module.bn2", F.conv2d(gate, state[f"{name}.se_module.fc2.weight"])).sigmoid()
            inner = inner * gate
        return inner if stride == 2 else places + inner

    places = conv("conv2_dw", conv("conv1", pixels, 2, 1), 1, 1, 32)
    for halving, stage, count in (("conv_23", "conv_3", 4), ("conv_34", "conv_4", 6), ("conv_45", "conv_5", 2)):
        places = block(halving, places, 2)
        for number in range(count):
            places = block(f"{stage}.model.{number}", places, 1)
    places = conv("conv_6_dw", conv("conv_6_sep", places), groups=512)
    return norm("bn", places.flatten(1) @ state["linear.weight"].T) @ state["prob.weight"].T


def public_crop(bgr: np.ndarray, box: Sequence[float], scale: float) -> np.ndarray:
    """The crop of the public program: the scaled box, moved inside, its last pixel included, resized in bytes."""
    height, width = bgr.shape[:2]
    scale = min(scale, (height - 1) / box[3], (width - 1) / box[2])
    ends = []
    for first, length, last in ((box[0], box[2], width - 1), (box[1], box[3], height - 1)):
        low, high = first + length / 2 - length * scale / 2, first + length / 2 + length * scale / 2
        if low < 0:
            low, high = 0, high - low
        if high > last:
            low, high = low - (high - last), last
        ends.append((int(low), int(high)))
    (left, right), (top, bottom) = ends
    return cv2.resize(bgr[top : bottom + 1, left : right + 1], (80, 80))


def public_minifasnet(networks: dict[str, nn.Module], rgb: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """(3,) summed probabilities of the classes, as the public program has them; it takes their largest."""
    total = np.zeros(3)
    for kind, scale in (("v2", 2.7), ("v1se", 4.0)):
        crop = public_crop(rgb[..., ::-1].copy(), [float(value) for value in box], scale)
        pixels = torch.from_numpy(crop.transpose(2, 0, 1)[None]).float()
        total += slow_fasnet(dict(networks[kind].state_dict()), pixels).softmax(dim=1)[0].numpy()
    return total

"""The identity encoder: an iResNet whose feature map before pooling gives the tokens that condition the generator.

A face recogniser is trained to separate people regardless of camera, paper or screen, so its tokens describe the
person and not the medium.

The network is ArcFace's backbone (Deng et al., CVPR 2019) with the residual unit of Han et al. (CVPR 2017):
BN-conv-BN-PReLU-conv-BN without an activation after the sum. The stem keeps the resolution, each stage halves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import nn
from torch.nn import functional as F

from dfg.noise import evaluating, seeded
from dfg.saved import ModelMixin
from dfg.state_dict import read_state_dict
from dfg.tokens import map_to_tokens, resize_face

WIDTHS = (64, 128, 256, 512)

# Residual units per stage of the published networks, by their nominal depth.
DEPTHS: dict[int, tuple[int, ...]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
}

IDENTITY_PRESETS: dict[str, dict[str, Any]] = {
    # 56 pixels and a first stage of stride 1 still give a 7 x 7 map.
    "tiny": {
        "layers": (1, 1, 1, 1),
        "widths": (16, 32, 64, 128),
        "input_size": 56,
        "strides": (1, 2, 2, 2),
        "embedding_dim": 128,
    },
    **{f"iresnet{depth}": {"layers": layers} for depth, layers in DEPTHS.items()},
}


class IResNetUnit(nn.Module):
    """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.prelu = nn.PReLU(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(x)) + shortcut


class IdentityEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Face -> identity tokens.

    `forward` and `embed` run in evaluation mode without gradients: the encoder is frozen while the generator trains.
    `embedding` is differentiable and is what ArcFace trains. Module names are insightface's, so that its state dicts
    load unchanged. With depth 18 the network has 24,025,600 parameters, 11,179,008 without the embedding head.

    Args:
        layers: residual units of the four stages; `DEPTHS` lists the published networks.
        widths: channels of the four stages; the last is the width of a token.
        input_size: side in pixels that faces are resized to; it determines the size of the embedding head.
        strides: of the four stages. (1, 2, 2, 2) suits small inputs: the map has input_size / 8 cells per side.
        embedding_dim: length of the embedding; None for the trunk alone, which gives tokens but no embedding.
    """

    @register_to_config
    def __init__(
        self,
        layers: Sequence[int] = DEPTHS[18],
        widths: Sequence[int] = WIDTHS,
        input_size: int = 112,
        strides: Sequence[int] = (2, 2, 2, 2),
        embedding_dim: int | None = 512,
    ) -> None:
        super().__init__()
        if not len(layers) == len(widths) == len(strides) == 4:
            raise ValueError(f"an iResNet has four stages; got {layers=}, {widths=}, {strides=}.")
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU(widths[0])
        incoming = (widths[0], *widths[:3])
        stages = [_stage(*arguments) for arguments in zip(layers, incoming, widths, strides, strict=True)]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.bn2 = nn.BatchNorm2d(widths[3])
        self.num_tokens = _map_size(input_size, strides) ** 2
        self.token_dim = widths[3]
        if embedding_dim is not None:
            self.fc = nn.Linear(self.token_dim * self.num_tokens, embedding_dim)
            self.features = nn.BatchNorm1d(embedding_dim)
            # ArcFace normalises the embedding afterwards, so insightface fixes this scale at one.
            self.features.weight.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.1)

    @classmethod
    def from_preset(cls, preset: str, seed: int = 0, **overrides: Any) -> IdentityEncoder:
        """A randomly initialised encoder: `tiny`, `iresnet18`, `iresnet34`, `iresnet50` or `iresnet100`.

        Raises:
            ValueError: an unknown preset.
        """
        if preset not in IDENTITY_PRESETS:
            raise ValueError(f"unknown identity preset {preset!r}. Allowed: {', '.join(IDENTITY_PRESETS)}.")
        with seeded(seed):
            return cls(**{**IDENTITY_PRESETS[preset], **overrides}).eval()

    @classmethod
    def from_backbone_pth(cls, path: str | Path, preset: str) -> IdentityEncoder:
        """Load an ArcFace `backbone.pth`, or a whole training checkpoint of arcface_torch.

        A file without `fc.*` and `features.*` gives the trunk alone.

        Raises:
            FileNotFoundError: there is no file.
            ValueError: see `dfg.state_dict.read_state_dict`; or it is of another preset: names what is missing or
                unexpected.
        """
        state = read_state_dict(path)
        head = any(name.startswith(("fc.", "features.")) for name in state)
        encoder = cls.from_preset(preset) if head else cls.from_preset(preset, embedding_dim=None)
        _check_state(state, encoder.state_dict(), f"{path} does not fit the preset {preset!r}")
        # Not strict: old files lack num_batches_tracked, which evaluation does not use.
        encoder.load_state_dict(state, strict=False)
        return encoder

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, input_size, input_size) in [-1, 1] -> the map before the head, (B, token_dim, h, h)."""
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.bn2(x)

    def embedding(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> embedding before normalisation, (B, embedding_dim).

        Differentiable, in the encoder's current mode.

        Raises:
            ValueError: the encoder is a trunk alone.
        """
        if self.config["embedding_dim"] is None:
            raise ValueError("this identity encoder has no embedding head: it was built or loaded as a trunk alone.")
        return self.features(self.fc(self.trunk(self._resize(image)).flatten(1)))

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> embedding of unit length, (B, embedding_dim).

        Raises:
            ValueError: the encoder is a trunk alone.
        """
        with evaluating(self):
            return F.normalize(self.embedding(image).float())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> identity tokens, (B, num_tokens, token_dim), row-major over the map."""
        with evaluating(self):
            return map_to_tokens(self.trunk(self._resize(image)))

    def _resize(self, image: torch.Tensor) -> torch.Tensor:
        return resize_face(image.to(self.dtype), self.config["input_size"])


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    if stride == 1 and in_channels == out_channels:
        return None
    convolution = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


def _stage(units: int, in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    first = IResNetUnit(in_channels, out_channels, stride)
    return nn.Sequential(first, *(IResNetUnit(out_channels, out_channels, 1) for _ in range(units - 1)))


def _map_size(input_size: int, strides: Sequence[int]) -> int:
    for stride in strides:
        input_size = (input_size - 1) // stride + 1
    return input_size


def _check_state(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], complaint: str) -> None:
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in expected]
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    found = [f"{kind}: {_shortened(names)}" for kind, names in problems.items() if names]
    if found:
        raise ValueError(f"{complaint}; {'; '.join(found)}. Presets: {', '.join(IDENTITY_PRESETS)}.")


def _shortened(names: list[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more

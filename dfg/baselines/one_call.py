"""A student that gives the mean of many restorations of a face in one call.

A restoration depends on the face and on the noise that it starts from. Its mean over the noise is a function of the
face alone, so a network can learn it: neither noise nor autoencoder nor identity encoder is left, since the face itself
says who it is. The network regresses single restorations that start from ever new noise. The squared error is smallest
at their mean, so that the student learns the mean of all of them while each costs its teacher few calls.

Distillation of a sampler into one call is from Luhman and Luhman 2021 ("Knowledge Distillation in Iterative Generative
Models"), whose student keeps the noise as its input. Here it is averaged out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional as F

from dfg.baselines.base import Baseline
from dfg.noise import evaluating

_GROUPS = 8

Teacher = Callable[[torch.Tensor, Sequence[str]], torch.Tensor]
"""Faces (B, 3, H, H) in [-1, 1] and B keys that seed their noise -> restored faces of the same shape."""


class OneCall(Baseline):
    """A U-Net on patches of pixels, which adds what the restoration changes to the face.

    It begins as the identity: the last layer is zero. No layer looks across faces, and none needs a certain size.

    Args:
        image_size: H in pixels, a multiple of `patch` 2^(len(channels) - 1).
        channels: of the levels, each of half the side of the one before; multiples of 8.
        blocks: residual blocks of each level, on the way down and on the way up.
        patch: side of the patches in pixels. With that of the teacher's autoencoder, a patch is one of its cells.
    """

    name: ClassVar[str] = "one_call"

    @register_to_config
    def __init__(
        self, image_size: int = 256, channels: Sequence[int] = (64, 128, 256), blocks: int = 1, patch: int = 4
    ) -> None:
        super().__init__()
        _check_sizes(image_size, channels, blocks, patch)
        values = 3 * patch**2
        self.stem = nn.Conv2d(values, channels[0], 3, padding=1)
        self.down = nn.ModuleList(_level(width, blocks) for width in channels)
        self.halve = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels))
        self.widen = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(channels))
        self.up = nn.ModuleList(_level(width, blocks) for width in channels[:-1])
        self.head = nn.Sequential(_norm(channels[0]), nn.SiLU(), nn.Conv2d(channels[0], values, 3, padding=1))
        for parameter in self.head[2].parameters():
            nn.init.zeros_(parameter)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> the restored face (B, 3, H, W), not clamped."""
        patch = self.config["patch"]
        maps = self.down[0](self.stem(F.pixel_unshuffle(image, patch)))
        skipped = []
        for halve, level in zip(self.halve, self.down[1:], strict=True):
            skipped.append(maps)
            maps = level(halve(maps))
        for widen, level in zip(reversed(self.widen), reversed(self.up), strict=True):
            maps = level(skipped.pop() + F.interpolate(widen(maps), scale_factor=2.0))
        return image + F.pixel_shuffle(self.head(maps), patch)

    def reconstruct(self, image: torch.Tensor, keys: Sequence[str]) -> torch.Tensor:
        """See `Baseline.reconstruct`."""
        with evaluating(self):
            return self(self.check_faces(image)).float().clamp(-1, 1)


class _Residual(nn.Module):
    """(B, C, h, w) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            _norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            _norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps + self.change(maps)


def _level(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(_Residual(channels) for _ in range(blocks)))


def _norm(channels: int) -> nn.GroupNorm:
    # Statistics of one face: those of a batch would let faces change each other.
    return nn.GroupNorm(_GROUPS, channels)


def _check_sizes(image_size: int, channels: Sequence[int], blocks: int, patch: int) -> None:
    if not channels or blocks < 1 or patch < 1 or any(width < 1 or width % _GROUPS for width in channels):
        raise ValueError(
            f"channels={list(channels)} must be multiples of {_GROUPS}, and blocks={blocks} and patch={patch} at least"
            " 1."
        )
    factor = patch * 2 ** (len(channels) - 1)
    if image_size < factor or image_size % factor:
        raise ValueError(
            f"image_size={image_size} must be a multiple of {factor}: patches of {patch}, halved {len(channels) - 1}"
            " times."
        )


class OneCallObjective(nn.Module):
    """Mean squared difference from the teacher's restoration.

    Args:
        model: trained in place.
        teacher: restores faces; None until it is trained. It is no part of the module: no checkpoint holds it.
    """

    def __init__(self, model: OneCall, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.model = model
        self.teacher = teacher

    def forward(self, batch: dict[str, Any], progress: float = 0.0) -> dict[str, torch.Tensor]:
        """Compute the loss of a batch with `image` (B, 3, H, H) in [-1, 1] and B `keys`; `progress` is ignored.

        Returns:
            `loss`: the error of the student, and the variance of the restorations, which no student can lower.

        Raises:
            ValueError: there is no teacher.
        """
        if self.teacher is None:
            raise ValueError("a student learns from restorations: give the objective a teacher.")
        image = batch["image"]
        # Restorations are made as in the cue job, whatever precision the student is trained in.
        with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
            target = self.teacher(image, batch["keys"])
        return {"loss": F.mse_loss(self.model(image).float(), target)}

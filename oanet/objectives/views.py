"""A second view of a batch: every face mirrored, turned and cropped at random, its cue with it."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F

from oanet.batch import FaceBatch


def second_view(batch: FaceBatch, min_area: float, max_degrees: float) -> FaceBatch:
    """The batch seen through a random square window of each face; maps of places are left out.

    Drawn from torch's global stream: whether it is mirrored (probability 1/2), the window's area (uniform in
    [min_area, 1] of the face's), its turn (uniform within max_degrees either way) and its place. Image and cue are
    moved by the same window (a window of the face, wherever the window ends, shows the value 0: middle grey, no cue).

    Args:
        batch: B faces.
        min_area: in (0, 1].
        max_degrees: 0 to 180.
    """
    window = random_windows(len(batch.label), min_area, max_degrees).to(batch.image.device)
    cue = None if batch.cue is None else look_through(batch.cue, window)
    return replace(batch, image=look_through(batch.image, window), cue=cue, depth=None, reflection=None, mask=None)


def random_windows(count: int, min_area: float, max_degrees: float) -> torch.Tensor:
    """(count, 2, 3): maps a place of the view to a place of the face, both in [-1, 1]."""
    mirror, area, turn, column, row = torch.rand(5, count)
    scale = (min_area + (1 - min_area) * area).sqrt()
    angle = (2 * turn - 1) * math.radians(max_degrees)
    sign = torch.where(mirror < 0.5, -1.0, 1.0)
    across = torch.stack([sign * angle.cos(), -angle.sin(), (2 * column - 1) * (1 / scale - 1)], dim=1)
    down = torch.stack([sign * angle.sin(), angle.cos(), (2 * row - 1) * (1 / scale - 1)], dim=1)
    return torch.stack([across, down], dim=1) * scale.view(-1, 1, 1)


def look_through(picture: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) seen through windows (B, 2, 3), at the same size; bilinear, 0 outside."""
    grid = F.affine_grid(window, list(picture.shape), align_corners=False)
    return F.grid_sample(picture, grid.to(picture.dtype), mode="bilinear", align_corners=False)

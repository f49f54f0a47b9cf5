"""Pixels: uint8 in [0, 255] on disk, float32 in [-1, 1] in networks.

The one mapping of the project is `x / 127.5 - 1`, whose inverse rounds to the nearest level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch


def to_unit_range(pixels: np.ndarray) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [-1, 1], contiguous."""
    count, height, width, channels = pixels.shape
    values = torch.empty(count, channels, height, width)
    return values.copy_(torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)).div_(127.5).sub_(1)


def to_unit_face(pixels: np.ndarray, mirrored: bool = False) -> torch.Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float32 in [-1, 1], optionally mirrored left to right.

    The memory keeps the order of the pixels (channels last), which avoids the slow transposition.
    """
    picture = torch.from_numpy(np.ascontiguousarray(pixels))
    if mirrored:
        picture = picture.flip(1)
    return picture.to(torch.float32).div_(127.5).sub_(1).permute(2, 0, 1)


def to_unit_batch(
    pixels: np.ndarray, mirrored: np.ndarray | None = None, offsets: np.ndarray | None = None
) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [-1, 1], channels last in memory.

    Args:
        pixels: the pictures.
        mirrored: (B,) bool, which of them to mirror left to right.
        offsets: (B, 2) int, rows and columns by which to shift each afterwards; see `place_moved`.
    """
    batch = empty(pixels.shape)
    # One picture at a time fits the processor's cache; a batch does not.
    for place, picture in enumerate(map(torch.from_numpy, np.ascontiguousarray(pixels))):
        if mirrored is not None and mirrored[place]:
            picture = picture.flip(1)
        if offsets is not None:
            picture = place_moved(torch.empty_like(picture), picture, offsets[place])
        batch[place].copy_(picture).div_(127.5).sub_(1)
    return batch.permute(0, 3, 1, 2)


_allocate: Callable[[Sequence[int]], torch.Tensor] = torch.empty


def empty(shape: Sequence[int]) -> torch.Tensor:
    """Memory for a float32 batch, where `allocating` says."""
    return _allocate(shape)


@contextmanager
def allocating(allocate: Callable[[Sequence[int]], torch.Tensor]) -> Iterator[None]:
    """In this block, batches lie in the memory that a function returns for a shape: they are made in place."""
    global _allocate
    before, _allocate = _allocate, allocate
    try:
        yield
    finally:
        _allocate = before


Picture = TypeVar("Picture", np.ndarray, torch.Tensor)


def place_moved(target: Picture, source: Picture, offset: np.ndarray) -> Picture:
    """Write `source` (H, W, ...), shifted by `offset` (rows, columns), into `target`: target[r, c] = source[r + rows, c
    + columns], with the edge repeated. As slices: gathering by index takes several times as long.

    Returns:
        `target`.
    """
    (rows, from_rows), (columns, from_columns) = map(_overlap, source.shape[:2], map(int, offset))
    target[rows, columns] = source[from_rows, from_columns]
    target[rows, : columns.start] = target[rows, columns.start : columns.start + 1]
    target[rows, columns.stop :] = target[rows, columns.stop - 1 : columns.stop]
    target[: rows.start] = target[rows.start]
    target[rows.stop :] = target[rows.stop - 1]
    return target


def _overlap(length: int, offset: int) -> tuple[slice, slice]:
    """Where a shifted axis lies in the target, and where that part comes from; at least one row of it remains."""
    offset = max(1 - length, min(length - 1, offset))
    start, stop = max(0, -offset), length - max(0, offset)
    return slice(start, stop), slice(start + offset, stop + offset)


def to_uint8(image: torch.Tensor) -> np.ndarray:
    """(B, 3, H, W), clamped to [-1, 1] -> (B, H, W, 3) uint8."""
    pixels = ((image.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()

"""Small batches for the detector tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from oanet.batch import FaceBatch


@pytest.fixture
def make_batch() -> Callable[..., FaceBatch]:
    """`make_batch(size, side, cue_channels, labels)`: seeded faces, labels alternating, three domains."""

    def make(size: int = 12, side: int = 64, cue_channels: int = 3, labels: list[int] | None = None) -> FaceBatch:
        generator = torch.Generator().manual_seed(7)
        label = torch.tensor(labels) if labels is not None else torch.arange(size) % 2
        return FaceBatch(
            image=torch.rand(size, 3, side, side, generator=generator) * 2 - 1,
            cue=torch.randn(size, cue_channels, side, side, generator=generator),
            label=label,
            domain=torch.arange(size) // 2 % 3,
            key=[f"d/s/v/{index}" for index in range(size)],
            kind=torch.where(label == 1, 1, torch.arange(size) // 2 % 2 * 2),
        )

    return make

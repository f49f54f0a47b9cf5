"""Small models, batches and views for the tests of the training loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipelines.data.faces import Faces

SMALL_UNET = {"block_out_channels": (8, 8, 8), "norm_num_groups": 4, "attention_head_dim": 4}


class Killed(Exception):
    """Raised where a test kills a training."""


class Regression(nn.Module):
    """A net with dropout and batch normalisation, so that buffers and random draws matter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))

    def forward(self, batch, progress=0.0):
        loss = (self.net(batch["x"]) - batch["y"]).square().mean()
        return {"loss": loss, "progress": torch.tensor(progress)}


class Views:
    """Latents (n, 2, 4, 4) and tokens (n, 4, 5) of 40 faces and their mirror images, by arithmetic."""

    views = 2

    def __len__(self):
        return 40

    def read(self, rows, views):
        latents = np.sin(rows[:, None, None, None] + np.arange(32).reshape(2, 4, 4) + views[:, None, None, None])
        return latents.astype(np.float32), np.ones((len(rows), 4, 5), np.float32)


def make_faces(count: int = 48) -> Faces:
    """Noise of two domains; every other pair of faces is live."""
    rng = np.random.default_rng(0)
    number = np.arange(count)
    domains = np.array([["a", "b"][i % 2] for i in number], dtype=object)
    labels = (number // 2) % 2
    return Faces(
        keys=np.array([f"{domains[i]}/s{i}/v{i}/000" for i in number], dtype=object),
        labels=labels.astype(np.int64),
        domains=domains,
        subjects=np.array([f"s{i // 8}" for i in number], dtype=object),
        videos=np.array([f"v{i}" for i in number], dtype=object),
        attack_types=np.array(["none" if label else "print" for label in labels], dtype=object),
        splits=np.array(["train"] * count, dtype=object),
        images=rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8),
        fingerprint="test",
        folder=Path("unused"),
    )


def draw(step: int, size: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(size, 4, generator=generator)
    return {"x": x, "y": x.sum(1, keepdim=True)}


class Drawn:
    """The batches of `draw`."""

    size = 8

    def __call__(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        return {name: value[rows] for name, value in draw(step, self.size).items()}


batches = Drawn()

WHOLE = slice(None)
"""The rows of a batch that one process holds."""


class Line(nn.Module):
    """A linear model in `net`, by the mean squared error."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(4, 1)

    def forward(self, batch, progress=0.0):
        error = self.net(batch["x"]) - batch["y"]
        return {"loss": error.square().mean(), "size": error.abs().mean().detach()}

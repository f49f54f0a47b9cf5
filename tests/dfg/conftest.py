"""Tiny, seeded components: a generator that restores four 32-pixel faces in a fraction of a second."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from dfg.autoencoder import PatchAutoencoder
from dfg.identity import IdentityEncoder
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler
from dfg.unet import build_unet

SMALL_UNET: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def faces() -> torch.Tensor:
    """(4, 3, 32, 32) in [-1, 1]: smooth blobs with some texture, so that all components have power."""
    generator = torch.Generator().manual_seed(7)
    smooth = F.interpolate(torch.rand(4, 3, 6, 6, generator=generator), (32, 32), mode="bicubic")
    texture = torch.randn(4, 3, 32, 32, generator=generator) * 0.05
    return (smooth * 1.6 - 0.8 + texture).clamp(-1, 1)


@pytest.fixture
def autoencoder(faces: torch.Tensor) -> PatchAutoencoder:
    """Lossless: all 48 components of 4x4 patches; latents are 48x8x8."""
    transform = PatchAutoencoder(patch_size=4, latent_channels=48)
    transform.fit(faces)
    return transform


@pytest.fixture
def unet():
    return build_unet("tiny", in_channels=48, sample_size=8, cross_attention_dim=40, **SMALL_UNET)


@pytest.fixture
def encoder() -> IdentityEncoder:
    """49 tokens of 32 values, 8 fewer than the U-Net attends to."""
    return IdentityEncoder.from_preset("tiny", widths=(8, 8, 16, 32), embedding_dim=16)


@pytest.fixture
def pipeline(autoencoder, unet, encoder) -> DeFakePipeline:
    return DeFakePipeline(autoencoder, unet, sd_scheduler(), encoder)


@pytest.fixture
def keys() -> list[str]:
    return [f"cam/s{i}/v0/000" for i in range(4)]


@pytest.fixture
def realdata() -> Path:
    """The folder with `data` and `weights`, named by AGFAS_REALDATA; the test is skipped without it."""
    folder = os.environ.get("AGFAS_REALDATA")
    if not folder:
        pytest.skip("needs real pictures and weights: set AGFAS_REALDATA to the folder that holds data/ and weights/")
    return Path(folder)

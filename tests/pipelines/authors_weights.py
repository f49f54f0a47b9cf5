"""Weights in the layouts that the paper's authors and Stable Diffusion 1.5 have, random and of small width."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL

from dfg.identity import IdentityEncoder
from dfg.unet import build_unet
from scripts.bench.paper_layout import UNET_EMA as UNET_EMA


def write_authors_weights(folder: Path) -> None:
    """`UNET_EMA` and `backbone.pth` in `folder`.

    The U-Net's average as diffusers 0.16 wrote it (a pickled state dict beside a configuration that holds the average's
    own numbers) and insightface's backbone.
    """
    unet = build_unet(
        "sd15", in_channels=4, sample_size=4, block_out_channels=(8, 8, 8, 8), norm_num_groups=4, attention_head_dim=2
    )
    average = {"decay": 0.9999, "inv_gamma": 1.0, "min_decay": 0.0, "optimization_step": 150000, "power": 2 / 3}
    unet.register_to_config(**average, update_after_step=0, use_ema_warmup=False)
    unet.save_pretrained(folder / UNET_EMA, safe_serialization=False)
    assert (folder / UNET_EMA / "diffusion_pytorch_model.bin").is_file()
    backbone = IdentityEncoder.from_preset("iresnet18", embedding_dim=None)
    torch.save(backbone.state_dict(), folder / "backbone.pth")


def write_autoencoder(folder: Path) -> None:
    """`vae/` in `folder`: Stable Diffusion's autoencoder."""
    autoencoder = AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        norm_num_groups=2,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    autoencoder.save_pretrained(folder / "vae")

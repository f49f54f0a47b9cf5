"""Random weights at full size in the layouts that `configs/dfg_paper.yaml` reads, to try it where no hub is in reach:

    python -m scripts.bench.paper_layout FOLDER

writes Stable Diffusion 1.5's `unet` and `vae` (diffusers' layout), the same U-Net as the authors' `unet_ema`, and an
iResNet-18 as `backbone.pth`. 7 GB. Nothing that they restore means anything: they show time, memory and loading.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from dfg.identity import IdentityEncoder

UNET_EMA = Path("sd-models-for-AG-FAS/checkpoint-150000/unet_ema")


def write_paper_layout(folder: Path) -> None:
    """Write `sd/unet` (859,520,964 parameters), `sd/vae` (83,653,863), `UNET_EMA` and `backbone.pth` in `folder`."""
    torch.manual_seed(0)
    unet: Any = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        cross_attention_dim=768,
        attention_head_dim=8,
        down_block_types=(*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
    )
    unet.save_pretrained(folder / "sd" / "unet")
    unet.save_pretrained(folder / UNET_EMA)
    vae: Any = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.18215,
        sample_size=512,
    )
    vae.save_pretrained(folder / "sd" / "vae")
    torch.save(IdentityEncoder().state_dict(), folder / "backbone.pth")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python -m scripts.bench.paper_layout FOLDER")
    write_paper_layout(Path(sys.argv[1]))

"""Untrained generators of any size: speed does not depend on the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL

from dfg.identity import IdentityEncoder
from dfg.noise import seeded
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler
from dfg.unet import build_unet
from pipelines.cues.settings import RestorationSettings

# Stable Diffusion's: 83.7 M parameters.
KL_F8 = (128, 256, 512, 512)


@dataclass(frozen=True)
class Size:
    """The size of a generator.

    Attributes:
        preset: of the U-Net.
        image_size: side of the faces in pixels.
        autoencoder: widths of an AutoencoderKL whose factor is 2 ** (len - 1).
        identity: preset of the identity encoder.
        unet: overrides of the preset.
    """

    preset: str
    image_size: int = 256
    autoencoder: tuple[int, ...] = KL_F8
    identity: str = "iresnet18"
    unet: tuple[tuple[str, Any], ...] = ()


# Settings for a processor with bfloat16.
HALF = RestorationSettings(dtype="bfloat16", channels_last=True)
ALL_HALF = HALF.model_copy(update={"autoencoder_dtype": "bfloat16"})
COMPILED = ALL_HALF.model_copy(update={"compile": True})

COMPACT, SD15 = Size("compact"), Size("sd15")


def build_generator(size: Size) -> DeFakePipeline:
    """A generator with random, seeded weights."""
    with seeded(0):
        autoencoder: Any = AutoencoderKL(
            block_out_channels=size.autoencoder,
            layers_per_block=2,
            latent_channels=4,
            norm_num_groups=min(32, size.autoencoder[0]),
            down_block_types=("DownEncoderBlock2D",) * len(size.autoencoder),
            up_block_types=("UpDecoderBlock2D",) * len(size.autoencoder),
            scaling_factor=0.18215,
        )
    latent_size = size.image_size // 2 ** (len(size.autoencoder) - 1)
    unet: Any = build_unet(size.preset, in_channels=4, sample_size=latent_size, **dict(size.unet))
    encoder = IdentityEncoder.from_preset(size.identity, embedding_dim=None)
    _take_statistics(encoder)
    return DeFakePipeline(autoencoder.eval(), unet.eval(), sd_scheduler(), encoder)


@torch.no_grad()
def _take_statistics(encoder: IdentityEncoder) -> None:
    """Set the batch norms' statistics from noise: otherwise random convolutions give tokens around 1e8."""
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the average over all batches, of which there is one
    side = encoder.config["input_size"]
    encoder.train()
    encoder.trunk(torch.rand(8, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    encoder.eval()


def psnr(picture: torch.Tensor, reference: torch.Tensor) -> float:
    """PSNR of pictures in [-1, 1] in decibels; infinite for equal ones."""
    error = float((picture.double() - reference.double()).square().mean())
    return float("inf") if error == 0 else float(10 * torch.log10(torch.tensor(4 / error)))

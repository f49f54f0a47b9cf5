"""Small autoencoders with a generator's latents, which take the place of its own when cues are made.

A U-Net knows latents and not what made them: an AutoencoderTiny (diffusers' class, of madebyollin/taesd) that was
distilled from the generator's autoencoder encodes and decodes for a tenth of an AutoencoderKL's operations.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import nn
from torch.nn import functional as F

from dfg.autoencoder import Autoencoder, PatchAutoencoder, decode_unclamped, encode_latents, latent_channels
from dfg.noise import seeded
from dfg.taesd import HALVINGS, TaesdAutoencoder

# AutoencoderTiny's decoder begins with 3 tanh(z / 3): values beyond 3 nearly coincide.
_LARGEST_INPUT = 3.0


def latent_factor(autoencoder: Any) -> int:
    """Pixels of a face's side for one cell of its latents.

    Raises:
        ValueError: a class that is not known.
    """
    config = autoencoder.config
    if isinstance(autoencoder, PatchAutoencoder):
        return int(config["patch_size"])
    if isinstance(autoencoder, TaesdAutoencoder):
        return int(2**HALVINGS)
    if isinstance(autoencoder, AutoencoderTiny):
        return int(2 ** (len(config["encoder_block_out_channels"]) - 1))
    if isinstance(autoencoder, AutoencoderKL):
        return int(2 ** (len(config["block_out_channels"]) - 1))
    raise ValueError(f"{type(autoencoder).__name__} is no autoencoder whose factor is known.")


def build_tiny(factor: int, channels: int, width: int = 64, blocks: int = 3, scaling_factor: float = 1.0) -> Any:
    """An AutoencoderTiny with random, seeded weights, in evaluation mode.

    Args:
        factor: see `latent_factor`.
        channels: of the latents.
        width: channels of every layer; TAESD has 64.
        blocks: residual blocks of every resolution but the faces' own, which has one; TAESD has 3.
        scaling_factor: by which `encode_latents` multiplies what the encoder gives.

    Raises:
        ValueError: the factor is no power of two.
    """
    levels = factor.bit_length()
    if factor != 2 ** (levels - 1):
        raise ValueError(f"an AutoencoderTiny halves the sides again and again, so it has no factor {factor}.")
    each = (1, *(blocks,) * (levels - 1))
    with seeded(0):
        made: Any = AutoencoderTiny(
            encoder_block_out_channels=(width,) * levels,
            decoder_block_out_channels=(width,) * levels,
            num_encoder_blocks=each,
            num_decoder_blocks=each[::-1],
            latent_channels=channels,
            scaling_factor=scaling_factor,
        )
    return made.eval()


@torch.no_grad()
def scaling_for(own: Autoencoder, images: torch.Tensor) -> float:
    """The `scaling_factor` with which the latents of faces (N, 3, H, W) lie where the decoder separates them."""
    return max(1.0, float(encode_latents(own, images).abs().max()) / _LARGEST_INPUT)


def take_place(pipeline: Any, small: Any) -> None:
    """Let `small` encode and decode for a `DeFakePipeline`, which is changed.

    Raises:
        ValueError: its latents are not those of the generator's autoencoder; names the numbers that differ.
    """
    own = pipeline.autoencoder
    found, wanted = ((latent_factor(one), latent_channels(one)) for one in (small, own))
    if found != wanted:
        raise ValueError(
            f"its latents have the factor {found[0]} and {found[1]} channels, and the generator's have the factor"
            f" {wanted[0]} and {wanted[1]} channels."
        )
    pipeline.register_modules(autoencoder=small)


class TinyAutoencoderObjective(nn.Module):
    """Distils an autoencoder: latents to latents, and latents to pixels.

    Encoder and decoder share no weight and have a loss each, so neither needs a weight against the other. The decoder
    learns from the latents of `own`, and from these made smoother: a U-Net's restorations are smoother than faces.

    Args:
        student: an AutoencoderTiny, trained in place.
        own: the generator's autoencoder; frozen.
    """

    def __init__(self, student: nn.Module, own: nn.Module) -> None:
        super().__init__()
        self.student: Any = student
        self.own: Any = own.requires_grad_(False)

    def forward(self, batch: dict[str, torch.Tensor], progress: float = 0.0) -> dict[str, torch.Tensor]:
        """The loss of a batch.

        Args:
            batch: `image` (B, 3, H, W) in [-1, 1]; `smooth` (B,) in [0, 1], how much of a face's latents is replaced by
                their mean over 3 x 3 cells before they are decoded.
            progress: of training, in [0, 1]; ignored.

        Returns:
            `loss`, the sum of `latent_loss` and `pixel_loss`, both mean squared errors, of scaled latents and of pixels
            in [-1, 1].
        """
        image = batch["image"]
        with torch.no_grad():
            latents = encode_latents(self.own, image)
            around = F.avg_pool2d(latents, 3, 1, 1, count_include_pad=False)
            decoded = torch.lerp(latents, around, batch["smooth"][:, None, None, None].to(latents))
            wanted = decode_unclamped(self.own, decoded)
        latent_loss = F.mse_loss(encode_latents(self.student, image), latents)
        pixel_loss = F.mse_loss(decode_unclamped(self.student, decoded), wanted)
        return {"loss": latent_loss + pixel_loss, "latent_loss": latent_loss, "pixel_loss": pixel_loss}

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """What training changes: the student alone."""
        found = super().state_dict(*args, **kwargs)
        return {name: value for name, value in found.items() if not name.startswith("own.")}

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """As torch's, of a state without `own`."""
        kept = {f"own.{name}": value for name, value in self.own.state_dict().items()}
        return super().load_state_dict({**kept, **state_dict}, strict, assign)

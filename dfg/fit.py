"""Whether the parts of a generator fit each other, and whether faces are faces."""

from __future__ import annotations

from typing import Any

import torch

from dfg.latents import latent_channels
from dfg.preconditioned import check_prediction
from dfg.prediction import prediction_of


def check_components(autoencoder: Any, unet: Any, scheduler: Any) -> None:
    """Channels of the latents, and a prediction that the U-Net can make.

    Raises:
        ValueError: they do not fit; says which numbers differ.
    """
    channels = latent_channels(autoencoder)
    if not unet.config["in_channels"] == unet.config["out_channels"] == channels:
        raise ValueError(
            f"the autoencoder makes latents of {channels} channels, but the U-Net takes "
            f"{unet.config['in_channels']} and gives {unet.config['out_channels']}: "
            f"build it with build_unet(..., in_channels={channels})."
        )
    check_prediction(unet, prediction_of(scheduler))


def check_tokens(unet: Any, identity_encoder: Any, projection: Any) -> None:
    """Width of the identity tokens, padded or projected.

    Raises:
        ValueError: they do not fit the U-Net.
    """
    if identity_encoder is None:
        return
    width, dim = unet.config["cross_attention_dim"], identity_encoder.token_dim
    if projection is None and dim > width:
        raise ValueError(
            f"identity tokens of {dim} values do not fit the U-Net's cross_attention_dim={width}: build it with "
            f"{dim} or more, or project the tokens."
        )
    if projection is not None and (projection.config["token_dim"], projection.config["width"]) != (dim, width):
        raise ValueError(
            f"the token projection maps {projection.config['token_dim']} values to {projection.config['width']}, but "
            f"the identity tokens have {dim} and the U-Net attends to {width}."
        )


def check_image(image: torch.Tensor) -> None:
    """A batch of RGB faces (B, 3, H, W) in [-1, 1].

    Raises:
        ValueError: it is something else.
    """
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise ValueError(f"faces must be float tensors (B, 3, H, W); got {tuple(image.shape)} of {image.dtype}.")
    if image.numel() and not image.abs().max() <= 1 + 1e-3:
        raise ValueError(
            f"faces must lie in [-1, 1], but reach from {image.min():.3g} to {image.max():.3g}: "
            "bytes become x / 127.5 - 1."
        )

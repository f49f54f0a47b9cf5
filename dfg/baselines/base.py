"""What baselines share: the interface, and the convolutional halves of the two autoencoders.

The layers are MemAE's: Gong et al. 2019 ("Memorizing Normality to Detect Anomaly"), section 4.2, encode videos by four
strided 3 x 3 x 3 convolutions with batch normalisation and LeakyReLU of 0.2, and decode by mirrored transposed ones.
Here the time axis is dropped. There are no skip connections: all information passes through the code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from diffusers.configuration_utils import ConfigMixin
from torch import nn

from dfg.autoencoder import check_image
from dfg.noise import evaluating, to_device
from dfg.saved import ModelMixin

LEAK = 0.2


class Baseline(ModelMixin, ConfigMixin, ABC):  # type: ignore[misc]
    """A model that restores faces.

    The constructor's arguments are the configuration (`config.json`); `save_pretrained` and `from_pretrained` are
    diffusers', with the weights in safetensors.

    Attributes:
        name: in `dfg.baselines.BASELINE_CLASSES`.
    """

    name: ClassVar[str]

    @abstractmethod
    def reconstruct(self, image: torch.Tensor, keys: Sequence[str]) -> torch.Tensor:
        """Restore faces, in evaluation mode; each result depends on its own face and key only.

        Args:
            image: RGB faces (B, 3, H, W), float in [-1, 1], with H = W = the configured `image_size`.
            keys: B strings that seed each face's noise; ignored by models without noise.

        Returns:
            (B, 3, H, W) float32 in [-1, 1].

        Raises:
            ValueError: faces of another shape, size or range.
        """

    def check_faces(self, image: torch.Tensor) -> torch.Tensor:
        """Check the faces and return them on the model's device, in its dtype.

        Raises:
            ValueError: not a batch of RGB faces in [-1, 1] of the configured size.
        """
        check_image(image)
        size = self.config["image_size"]
        if tuple(image.shape[-2:]) != (size, size):
            raise ValueError(f"this model restores faces of {size}x{size} pixels, not {tuple(image.shape[-2:])}.")
        return to_device(image, self.device).to(self.dtype)


class AutoencoderBaseline(Baseline):
    """A baseline whose `forward` returns the restored face, not clamped, and something else that its loss needs."""

    def reconstruct(self, image: torch.Tensor, keys: Sequence[str]) -> torch.Tensor:
        """See `Baseline.reconstruct`."""
        with evaluating(self):
            return self(self.check_faces(image))[0].float().clamp(-1, 1)


def check_size(image_size: int, channels: Sequence[int]) -> int:
    """Side of the encoder's output in cells: each layer of `channels` halves `image_size`.

    Raises:
        ValueError: `image_size` is not a multiple of 2^len(channels).
    """
    factor = 2 ** len(channels)
    if image_size < factor or image_size % factor:
        raise ValueError(f"image_size={image_size} must be a multiple of {factor}: {len(channels)} layers halve it.")
    return image_size // factor


def strided_encoder(channels: Sequence[int], biased: bool = True, eps: float = 1e-5) -> nn.Sequential:
    """(B, 3, H, W) -> (B, channels[-1], H / 2^n, W / 2^n), with n = len(channels).

    Args:
        channels: of the n layers.
        biased: False leaves out biases and the scale and shift of batch normalisation, so that no layer can output a
            constant.
        eps: of the batch normalisation.
    """
    layers: list[nn.Module] = []
    for inner, outer in zip((3, *channels[:-1]), channels, strict=True):
        layers += [
            nn.Conv2d(inner, outer, 3, stride=2, padding=1, bias=biased),
            nn.BatchNorm2d(outer, eps=eps, affine=biased),
            nn.LeakyReLU(LEAK),
        ]
    return nn.Sequential(*layers)


def strided_decoder(channels: Sequence[int]) -> nn.Sequential:
    """(B, channels[-1], h, w) -> (B, 3, h * 2^n, w * 2^n), with n = len(channels); the last layer is linear."""
    layers: list[nn.Module] = []
    for inner, outer in pairwise(reversed(channels)):
        layers += [_upsampling(inner, outer), nn.BatchNorm2d(outer), nn.LeakyReLU(LEAK)]
    return nn.Sequential(*layers, _upsampling(channels[0], 3))


def _upsampling(inner: int, outer: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inner, outer, 3, stride=2, padding=1, output_padding=1)

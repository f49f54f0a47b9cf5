"""What all baselines share: one way to restore a face, whatever mode the model is in, and one way to be stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from dfg.fit import check_image


class Baseline(ModelMixin, ConfigMixin, ABC):  # type: ignore[misc]
    """A maker of the "real" version of a face.

    The constructor's arguments are the configuration (`config.json`); `save_pretrained` and `from_pretrained` are
    diffusers', with the weights in safetensors.

    Attributes:
        name: in `dfg.baselines.names`.
    """

    name: ClassVar[str]

    @abstractmethod
    def reconstruct(self, image: torch.Tensor, keys: Sequence[str]) -> torch.Tensor:
        """Restore faces; each result depends on its own face and key alone.

        Args:
            image: (B, 3, H, W) float in [-1, 1], RGB, H = W = the configured `image_size`.
            keys: B strings that name each face's noise; models without noise do not look at them.

        Returns:
            (B, 3, H, W) float32 in [-1, 1].

        Raises:
            ValueError: not such faces.
        """

    def check_faces(self, image: torch.Tensor) -> torch.Tensor:
        """The faces on the model's device, in its type.

        Raises:
            ValueError: not a batch of RGB pictures in [-1, 1] of the configured size.
        """
        check_image(image)
        size = self.config["image_size"]
        if tuple(image.shape[-2:]) != (size, size):
            raise ValueError(f"this model is for faces of {size}x{size}, not of {tuple(image.shape[-2:])} pixels.")
        return image.to(self.device, self.dtype)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside, the former mode afterwards: batch statistics would mix faces."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)

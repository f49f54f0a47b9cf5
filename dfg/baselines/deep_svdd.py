"""The autoencoder of Deep SVDD (Ruff et al., ICML 2018): live faces pass through a narrow, compact bottleneck.

Deep SVDD maps normal images into a small sphere and restores none. AG-FAS still takes "the reconstructed image" of a
face (Table IV), which can only come from the autoencoder of its pre-training. This is that autoencoder, trained with
the one-class loss too: pre-training minimises the mean squared error alone, then the center is fixed as in Deep SVDD,
and the rest of training adds the mean squared distance to it.

The layers are MemAE's, so that the two baselines differ in the bottleneck only. As in Deep SVDD the encoder has no
biases: with them it could map every face onto the center (proposition 2 of the paper).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional as F

from dfg.baselines.base import LEAK, AutoencoderBaseline, check_size, strided_decoder, strided_encoder
from dfg.noise import evaluating

# From the authors' code: weights of zero would match a center coordinate near zero trivially.
LEAST_COORDINATE = 0.1

# From the authors' code.
_NORM_EPS = 1e-4


class DeepSvdd(AutoencoderBaseline):
    """Face (B, 3, H, H) -> bottleneck (B, D) -> face.

    Args:
        image_size: H in pixels, a multiple of 2^len(channels).
        channels: of the strided layers.
        bottleneck: D.

    Attributes:
        center: (D,), of the sphere; zeros until `fix_center`.
    """

    center: torch.Tensor

    name: ClassVar[str] = "deep_svdd"

    @register_to_config
    def __init__(
        self,
        image_size: int = 256,
        channels: Sequence[int] = (96, 128, 256, 256),
        bottleneck: int = 128,
    ) -> None:
        super().__init__()
        side = check_size(image_size, channels)
        flat = channels[-1] * side**2
        self.encoder = strided_encoder(channels, biased=False, eps=_NORM_EPS)
        self.narrow = nn.Linear(flat, bottleneck, bias=False)
        self.widen = nn.Linear(bottleneck, flat)
        self.unflatten = nn.Unflatten(1, (channels[-1], side, side))
        self.activation = nn.LeakyReLU(LEAK)
        self.decoder = strided_decoder(channels)
        self.register_buffer("center", torch.zeros(bottleneck))

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, H) in [-1, 1] -> (B, D)."""
        return self.narrow(self.encoder(image).flatten(1))

    def decode(self, embedding: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, 3, H, H), not clamped."""
        return self.decoder(self.activation(self.unflatten(self.widen(embedding))))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, H) in [-1, 1] -> the restored face (B, 3, H, H), not clamped, and the embedding (B, D)."""
        embedding = self.embed(image)
        return self.decode(embedding), embedding

    def fix_center(self, batches: Iterable[torch.Tensor]) -> None:
        """Set the center to the mean embedding of live faces, with coordinates moved away from zero.

        Args:
            batches: (B, 3, H, H) each, in [-1, 1].

        Raises:
            ValueError: there is no face.
        """
        self.center_at([(self.embedding_sum(image), len(image)) for image in batches])

    def embedding_sum(self, image: torch.Tensor) -> torch.Tensor:
        """The sum of the embeddings of faces (B, 3, H, H) in [-1, 1]: (D,) float64, on the CPU."""
        with evaluating(self):
            return self.embed(self.check_faces(image)).double().sum(0).cpu()

    def center_at(self, sums: Sequence[tuple[torch.Tensor, int]]) -> None:
        """As `fix_center`, from the sum of the embeddings of each batch and its number of faces."""
        if not sums:
            raise ValueError("the center is the mean embedding of live faces, but there are none.")
        mean = torch.stack([total for total, _ in sums]).sum(0) / sum(count for _, count in sums)
        self.center.copy_(away_from_zero(mean.float()))


def away_from_zero(center: torch.Tensor) -> torch.Tensor:
    """Move coordinates in (-0.1, 0) to -0.1, and coordinates in [0, 0.1) to 0.1."""
    pushed = torch.where(center < 0, -LEAST_COORDINATE, LEAST_COORDINATE)
    return torch.where(center.abs() < LEAST_COORDINATE, pushed.to(center), center)


class DeepSvddObjective(nn.Module):
    """Mean squared error of the restored face; once the center is fixed, plus the mean squared distance to it.

    Args:
        model: trained in place.
        compactness_weight: of the distance, which is a mean over coordinates, so that D does not matter.
    """

    def __init__(self, model: DeepSvdd, compactness_weight: float = 0.01) -> None:
        super().__init__()
        self.model = model
        self.compactness_weight = compactness_weight

    def forward(self, batch: dict[str, torch.Tensor], progress: float = 0.0) -> dict[str, torch.Tensor]:
        """Compute the loss of a batch with `image` (B, 3, H, H) in [-1, 1]; `progress` is ignored.

        Returns:
            `loss`, and its unweighted parts `reconstruction` and `compactness`; the latter is 0 before `fix_center`.
        """
        image = batch["image"]
        restored, embedding = self.model(image)
        reconstruction = F.mse_loss(restored.float(), image)
        distance = (embedding.float() - self.model.center).square().mean()
        # A fixed center has no coordinate near 0. Chosen on the device, for whose answer every step would wait.
        compactness = torch.where(self.model.center.any(), distance, 0.0)
        return {
            "loss": reconstruction + self.compactness_weight * compactness,
            "reconstruction": reconstruction.detach(),
            "compactness": compactness.detach(),
        }

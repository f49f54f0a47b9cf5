"""The autoencoder of Deep SVDD (Ruff et al., ICML 2018): live faces through a narrow, compact bottleneck.

Deep SVDD maps normal pictures into a small sphere and restores none. AG-FAS nevertheless feeds faces in and takes "the
reconstructed image" (Table IV), which can only be that of its pre-training's autoencoder. So this is that autoencoder,
and the one-class loss stays with it: after a pre-training by mean squared error alone the centre is fixed as in Deep
SVDD, and the rest of the training adds the mean squared distance to it. The layers are MemAE's, so that the two rows
differ in the bottleneck; as in Deep SVDD the encoder has no biases, which would let it map everything onto the centre
(proposition 2 of the paper).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional as F

from dfg.baselines.base import Baseline, evaluating
from dfg.baselines.convolutional import LEAK, check_size, strided_decoder, strided_encoder

# The code's: a coordinate of the centre that is near 0 is matched by weights of 0 all too easily.
LEAST_COORDINATE = 0.1

_NORM_EPS = 1e-4


class DeepSvdd(Baseline):
    """Face (B, 3, H, H) -> bottleneck (B, D) -> face.

    Args:
        image_size: H in pixels, a multiple of 2^len(channels).
        channels: of the strided layers.
        bottleneck: D.

    Attributes:
        center: (D,), the sphere's; zeros until it is fixed.
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

    @property
    def centred(self) -> bool:
        """Whether the centre is fixed: none of its coordinates is near 0 then."""
        return bool(self.center.any())

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, H) in [-1, 1] -> (B, D)."""
        return self.narrow(self.encoder(image).flatten(1))

    def decode(self, embedding: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, 3, H, H), not clamped."""
        return self.decoder(self.activation(self.unflatten(self.widen(embedding))))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, H) in [-1, 1] -> the restoration, the same shape, not clamped, and the embedding (B, D)."""
        embedding = self.embed(image)
        return self.decode(embedding), embedding

    def reconstruct(self, image: torch.Tensor, keys: Sequence[str]) -> torch.Tensor:
        """See `Baseline.reconstruct`."""
        with evaluating(self):
            return self(self.check_faces(image))[0].float().clamp(-1, 1)

    def fix_center(self, batches: Iterable[torch.Tensor]) -> None:
        """Set the centre to the mean embedding of live faces, coordinates within +-0.1 pushed to +-0.1.

        Args:
            batches: (B, 3, H, H) each, in [-1, 1].

        Raises:
            ValueError: there is no face.
        """
        total, count = torch.zeros(self.center.shape, dtype=torch.float64), 0
        with evaluating(self):
            for image in batches:
                total += self.embed(self.check_faces(image)).double().sum(0).cpu()
                count += len(image)
        if count == 0:
            raise ValueError("the centre is the mean over live faces, and there are none.")
        self.center.copy_(away_from_zero((total / count).float()))


def away_from_zero(center: torch.Tensor) -> torch.Tensor:
    """Coordinates in (-0.1, 0) become -0.1, and those in [0, 0.1) 0.1."""
    pushed = torch.where(center < 0, -LEAST_COORDINATE, LEAST_COORDINATE)
    return torch.where(center.abs() < LEAST_COORDINATE, pushed.to(center), center)


class DeepSvddObjective(nn.Module):
    """Mean squared error of the restoration; once the centre is fixed, the mean squared distance to it too.

    Args:
        model: trained in place.
        compactness_weight: of the distance (per coordinate, so that D does not enter), beside an error in [0, 4].
    """

    def __init__(self, model: DeepSvdd, compactness_weight: float = 0.01) -> None:
        super().__init__()
        self.model = model
        self.compactness_weight = compactness_weight

    def forward(self, batch: dict[str, torch.Tensor], progress: float = 0.0) -> dict[str, torch.Tensor]:
        """The loss of a batch with `image` (B, 3, H, H) in [-1, 1].

        Returns:
            `loss`, and its parts `reconstruction` and `compactness`, unweighted; 0 before the centre is fixed.
        """
        image = batch["image"]
        restored, embedding = self.model(image)
        reconstruction = F.mse_loss(restored.float(), image)
        compactness = torch.zeros_like(reconstruction)
        if self.model.centred:
            compactness = (embedding.float() - self.model.center).square().mean()
        return {
            "loss": reconstruction + self.compactness_weight * compactness,
            "reconstruction": reconstruction.detach(),
            "compactness": compactness.detach(),
        }

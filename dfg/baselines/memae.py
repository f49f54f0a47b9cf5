"""MemAE: an autoencoder whose code is rebuilt from a memory of live faces (Gong et al., ICCV 2019).

What is not in the memory cannot be restored, so an attack should become the nearest live face. The paper is about
videos; AG-FAS applies it to faces (Table IV).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional as F

from dfg.baselines.base import AutoencoderBaseline, check_size, strided_decoder, strided_encoder

_EPS = 1e-12

ENTROPY_WEIGHT = 2e-4
"""Weight of the addressing's entropy in the loss (section 4)."""


class Memory(nn.Module):
    """Rebuilds every vector as a sparse convex combination of slots.

    Args:
        slots: N.
        width: C, of the vectors.
        shrink: lambda of the hard shrinkage; weights up to it become 0. The paper uses 1 / N to 3 / N.

    Attributes:
        items: (N, C), initialised uniformly in +-1 / sqrt(C).
    """

    def __init__(self, slots: int, width: int, shrink: float) -> None:
        super().__init__()
        if slots < 1 or not 0 <= shrink < 1:
            raise ValueError(f"slots={slots} must be at least 1, and shrink={shrink} be in [0, 1).")
        self.shrink = shrink
        self.items = nn.Parameter(torch.empty(slots, width).uniform_(-(width**-0.5), width**-0.5))

    def address(self, queries: torch.Tensor) -> torch.Tensor:
        """Queries (P, C) -> weights (P, N) >= 0; a row sums to 1, or is 0 if no weight exceeds lambda.

        w = softmax(q M^T) (the authors' code; equation 4 has cosines), hard shrinkage
        max(w - lambda, 0) w / (|w - lambda| + eps) (equation 7), and division by the sum.
        """
        weights = F.softmax(queries @ self.items.T, dim=1)
        if self.shrink > 0:
            over = weights - self.shrink
            weights = F.normalize(F.relu(over) * weights / (over.abs() + _EPS), p=1, dim=1, eps=_EPS)
        return weights

    def forward(self, code: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, C, h, w) -> the code rebuilt at every position (B, C, h, w), and the weights (B h w, N)."""
        batch, width, height, breadth = code.shape
        weights = self.address(code.permute(0, 2, 3, 1).reshape(-1, width))
        rebuilt = (weights @ self.items).reshape(batch, height, breadth, width)
        return rebuilt.permute(0, 3, 1, 2), weights


def entropy(weights: torch.Tensor) -> torch.Tensor:
    """Mean over rows of -sum w log(w + eps) (equation 9), of weights (P, N)."""
    return -(weights * (weights + _EPS).log()).sum(1).mean()


class MemAE(AutoencoderBaseline):
    """Face (B, 3, H, H) -> code -> memory -> face.

    With the default channels and 256 pixels the code is 256 x 16 x 16, addressed at every position.

    Args:
        image_size: H in pixels, a multiple of 2^len(channels).
        channels: of the strided layers; the last is the memory's width.
        slots: N of the memory.
        shrink: lambda of its hard shrinkage. If it is too large, no slot passes and a grid of noise is left; with many
            slots on a fine map, attacks are restored as well as live faces.
    """

    name: ClassVar[str] = "memae"

    @register_to_config
    def __init__(
        self,
        image_size: int = 256,
        channels: Sequence[int] = (96, 128, 256, 256),
        slots: int = 2000,
        shrink: float = 0.0025,
    ) -> None:
        super().__init__()
        check_size(image_size, channels)
        self.encoder = strided_encoder(channels)
        self.memory = Memory(slots, channels[-1], shrink)
        self.decoder = strided_decoder(channels)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, H) in [-1, 1] -> the restored face (B, 3, H, H), not clamped, and the weights (B h w, N)."""
        rebuilt, weights = self.memory(self.encoder(image))
        return self.decoder(rebuilt), weights


class MemAEObjective(nn.Module):
    """Mean squared error of the restored face, plus the entropy of the addressing (equation 10).

    Args:
        model: trained in place.
        entropy_weight: alpha of the paper.
    """

    def __init__(self, model: MemAE, entropy_weight: float = ENTROPY_WEIGHT) -> None:
        super().__init__()
        self.model = model
        self.entropy_weight = entropy_weight

    def forward(self, batch: dict[str, torch.Tensor], progress: float = 0.0) -> dict[str, torch.Tensor]:
        """Compute the loss of a batch with `image` (B, 3, H, H) in [-1, 1]; `progress` is ignored.

        Returns:
            `loss`, and its unweighted parts `reconstruction` and `entropy`; `unanswered`, the share of positions for
            which no slot passes the shrinkage.
        """
        image = batch["image"]
        restored, weights = self.model(image)
        reconstruction, spread = F.mse_loss(restored.float(), image), entropy(weights.float())
        return {
            "loss": reconstruction + self.entropy_weight * spread,
            "reconstruction": reconstruction.detach(),
            "entropy": spread.detach(),
            "unanswered": (weights.detach().sum(1) == 0).float().mean(),
        }

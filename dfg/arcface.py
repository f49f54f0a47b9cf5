"""ArcFace (Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019)."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from dfg.identity import IdentityEncoder
from dfg.noise import seeded

# d sin / d cos = -cos / sin is infinite at theta = 0: the floor keeps the gradient finite there.
_MIN_SQUARED_SINE = 1e-7


def angular_margin_logits(cosine: torch.Tensor, identity: torch.Tensor, scale: float, margin: float) -> torch.Tensor:
    """Logits of equation 3: s cos(theta + m) for the true identity, s cos(theta) for all others.

    Args:
        cosine: (B, K) in [-1, 1], between embeddings and class centers.
        identity: (B,) int64 in [0, K).
        scale: s, the radius of the hypersphere.
        margin: m in radians, in [0, pi / 2].
    """
    target = cosine.gather(1, identity[:, None])
    sine = (1 - target.square()).clamp_min(_MIN_SQUARED_SINE).sqrt()
    # cos(theta + m) = cos(theta) cos(m) - sin(theta) sin(m)
    with_margin = target * math.cos(margin) - sine * math.sin(margin)
    # Beyond theta = pi - m the cosine rises again, which would reward larger angles. insightface's linear
    # continuation cos(theta) - m sin(m) keeps falling.
    past_minimum = target < -math.cos(margin)
    with_margin = torch.where(past_minimum, target - margin * math.sin(margin), with_margin)
    return scale * cosine.scatter(1, identity[:, None], with_margin)


class ArcFaceObjective(nn.Module):
    """Trains an identity encoder to classify `num_identities` people with an angular margin.

    Args:
        encoder: with an embedding head; trained in place.
        num_identities: K, the number of people in the training set.
        scale: s; the paper uses 64, and 32 suits a few hundred identities.
        margin: m in radians.
        seed: of the initial class centers.

    Raises:
        ValueError: the encoder has no embedding head, or there are fewer than two identities.
    """

    def __init__(
        self,
        encoder: IdentityEncoder,
        num_identities: int,
        scale: float = 32.0,
        margin: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        dim = encoder.config["embedding_dim"]
        if dim is None:
            raise ValueError("ArcFace trains an embedding, but this encoder is a trunk without an embedding head.")
        if num_identities < 2:
            raise ValueError(f"ArcFace separates people and needs two or more identities; got {num_identities}.")
        self.encoder = encoder
        self.scale = scale
        self.margin = margin
        with seeded(seed):
            self.centers = nn.Parameter(torch.randn(num_identities, dim) * 0.01)

    def forward(self, batch: dict[str, torch.Tensor], progress: float = 0.0) -> dict[str, torch.Tensor]:
        """Compute the loss of a batch.

        Args:
            batch: `image` (B, 3, H, W) in [-1, 1]; `identity` (B,) int64 in [0, num_identities).
            progress: of training, in [0, 1]; ignored.

        Returns:
            `loss`, and `accuracy`, the share of faces whose nearest class center is their own, without the margin.
        """
        embedding = self.encoder.embedding(batch["image"]).float()
        cosine = F.normalize(embedding) @ F.normalize(self.centers).T
        identity = batch["identity"]
        logits = angular_margin_logits(cosine, identity, self.scale, self.margin)
        accuracy = (cosine.detach().argmax(1) == identity).float().mean()
        return {"loss": F.cross_entropy(logits, identity), "accuracy": accuracy}

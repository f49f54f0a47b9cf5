"""ArcFace (Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019)."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from dfg.identity import IdentityEncoder
from dfg.noise import seeded

# Keeps the square root's slope finite where a face lies exactly on its identity's direction.
_MIN_SQUARED_SINE = 1e-7


def angular_margin_logits(cosine: torch.Tensor, identity: torch.Tensor, scale: float, margin: float) -> torch.Tensor:
    """s cos(theta + m) for each face's own identity and s cos(theta) for the others: equation 3.

    Beyond theta = pi - m the cosine would rise again with the angle; there cos(theta) - m sin(m), which goes
    on falling, takes its place.

    Args:
        cosine: (B, K) in [-1, 1], between embeddings and identity directions.
        identity: (B,) int64 in [0, K).
        scale: s, the length to which embeddings are stretched.
        margin: m in radians, in [0, pi / 2].
    """
    own = cosine.gather(1, identity[:, None])
    sine = (1 - own.square()).clamp_min(_MIN_SQUARED_SINE).sqrt()
    pushed = own * math.cos(margin) - sine * math.sin(margin)
    past_the_turn = own < -math.cos(margin)
    pushed = torch.where(past_the_turn, own - margin * math.sin(margin), pushed)
    return scale * cosine.scatter(1, identity[:, None], pushed)


class ArcFaceObjective(nn.Module):
    """Trains an identity encoder to tell `num_identities` people apart.

    Args:
        encoder: with an embedding head; trained in place.
        num_identities: K, the number of people in the training set.
        scale: s; the paper uses 64, and 32 suits a few hundred identities.
        margin: m in radians.
        seed: of the identities' first directions.

    Raises:
        ValueError: the encoder is a trunk without a head, or there are fewer than two identities.
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
            raise ValueError("ArcFace trains an embedding, but this encoder is a trunk without one.")
        if num_identities < 2:
            raise ValueError(f"ArcFace tells people apart and needs two or more; got {num_identities}.")
        self.encoder = encoder
        self.scale = scale
        self.margin = margin
        with seeded(seed):
            self.directions = nn.Parameter(torch.randn(num_identities, dim) * 0.01)

    def forward(self, batch: dict[str, torch.Tensor], progress: float = 0.0) -> dict[str, torch.Tensor]:
        """The loss of a batch.

        Args:
            batch: `image` (B, 3, H, W) in [-1, 1]; `identity` (B,) int64 in [0, num_identities).
            progress: of the training in [0, 1]; the margin does not change with it.

        Returns:
            `loss`, and `accuracy`, the share of faces nearest to their own identity without the margin.
        """
        embedding = self.encoder.embedding(batch["image"]).float()
        cosine = F.normalize(embedding) @ F.normalize(self.directions).T
        identity = batch["identity"]
        logits = angular_margin_logits(cosine, identity, self.scale, self.margin)
        accuracy = (cosine.detach().argmax(1) == identity).float().mean()
        return {"loss": F.cross_entropy(logits, identity), "accuracy": accuracy}

"""The head that every detector here shares: SSDG's normalised embedding and classifier."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class LivenessHead(nn.Module):
    """Pooled vector -> embedding -> normalised feature -> two logits.

    As AG-FAS: one Linear (weight N(0, 0.005), bias 0.1) without SSDG's ReLU and dropout; the feature scaled
    by `normalize_feature`; a linear classifier whose weight is normalised at every use.

    The classifier's normalisation is along the class axis: each of the `embedding_dim` columns of length 2
    becomes a unit vector, not each class's row. It is odd, and it is the public code's. That code overwrites
    the weight before every forward; here the forward uses the normalised weight and gradients go through it.
    That is the same function, and while the columns keep their length also the same plain SGD step to first
    order in the learning rate.

    Runs in float32 under autocast, too: bf16 would round the triplet loss's distances by a good part of its
    margin of 0.1.

    Args:
        in_features: width of the pooled vector.
        embedding_dim: width of the feature, 512 in the paper.
    """

    def __init__(self, in_features: int, embedding_dim: int = 512) -> None:
        super().__init__()
        self.embedder = nn.Linear(in_features, embedding_dim)
        self.classifier = nn.Linear(embedding_dim, 2)
        nn.init.normal_(self.embedder.weight, std=0.005)
        nn.init.constant_(self.embedder.bias, 0.1)
        with torch.no_grad():
            self.classifier.weight.copy_(F.normalize(self.classifier.weight, dim=0))

    def forward(self, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, in_features) -> logits (B, 2) and features (B, embedding_dim), both float32."""
        with torch.autocast(pooled.device.type, enabled=False):
            features = normalize_feature(self.embedder(pooled.float()))
            weight = F.normalize(self.classifier.weight, dim=0)
            return F.linear(features, weight, self.classifier.bias), features


def normalize_feature(feature: torch.Tensor) -> torch.Tensor:
    """f / sqrt(2 ||f||), row by row: SSDG's formula. The norm becomes sqrt(||f|| / 2), not one."""
    norm = torch.linalg.vector_norm(feature, dim=1, keepdim=True)
    return feature / (2 * norm).clamp_min(1e-12).sqrt()

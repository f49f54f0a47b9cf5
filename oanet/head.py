"""Heads: SSDG's normalised embedding and classifier, which most detectors here share, and a plain linear one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from oanet.names import check_name


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

    Its classifier can be exchanged for one logistic head per training domain, see `use_domains`.

    Args:
        in_features: width of the pooled vector.
        embedding_dim: width of the feature, 512 in the paper.
        bottleneck: SSDG's own head, ReLU and dropout 0.5 after the embedding's Linear.
    """

    classifier: nn.Linear | DomainHeads

    def __init__(self, in_features: int, embedding_dim: int = 512, bottleneck: bool = False) -> None:
        super().__init__()
        self.embedder = nn.Linear(in_features, embedding_dim)
        self.bottleneck = nn.Sequential(nn.ReLU(), nn.Dropout(0.5)) if bottleneck else nn.Identity()
        self.classifier = nn.Linear(embedding_dim, 2)
        nn.init.normal_(self.embedder.weight, std=0.005)
        nn.init.constant_(self.embedder.bias, 0.1)
        with torch.no_grad():
            self.classifier.weight.copy_(F.normalize(self.classifier.weight, dim=0))

    def use_domains(self, num_domains: int) -> DomainHeads:
        """Exchange the classifier for fresh `DomainHeads` and return them."""
        self.classifier = DomainHeads(self.embedder.out_features, num_domains)
        return self.classifier

    def forward(self, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, in_features) -> logits (B, 2) and features (B, embedding_dim), both float32."""
        with torch.autocast(pooled.device.type, enabled=False):
            features = normalize_feature(self.bottleneck(self.embedder(pooled.float())))
            return self._classify(features), features

    def _classify(self, features: torch.Tensor) -> torch.Tensor:
        if isinstance(self.classifier, DomainHeads):
            return mean_probability_logits(self.classifier(features))
        weight = F.normalize(self.classifier.weight, dim=0)
        return F.linear(features, weight, self.classifier.bias)


class DomainHeads(nn.Module):
    """One logistic classifier per training domain (SA-FAS, Sun et al., CVPR 2023).

    Args:
        feature_dim: D of the features.
        num_domains: how many heads.
    """

    def __init__(self, feature_dim: int, num_domains: int) -> None:
        super().__init__()
        self.linear = nn.Linear(feature_dim, num_domains)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, num_domains): each head's log-odds of bona fide, float32 under autocast too."""
        with torch.autocast(features.device.type, enabled=False):
            return self.linear(features.float())


def mean_probability_logits(log_odds: torch.Tensor) -> torch.Tensor:
    """(B, n) log-odds of n heads -> (B, 2) logits whose softmax is the mean of the heads' probabilities."""
    both = torch.stack([F.logsigmoid(-log_odds), F.logsigmoid(log_odds)], dim=2)  # (B, n, 2)
    return both.logsumexp(dim=1) - math.log(log_odds.shape[1])


class LinearHead(nn.Module):
    """Pooled vector -> two logits by one Linear; the feature is the vector, scaled by `normalize_feature`.

    The classifier reads the vector as it is: only the losses that compare features see the scaled one, so that
    their margins mean the same for every detector. Runs in float32 under autocast, as `LivenessHead`. Heads per
    domain (`use_domains`) read the scaled feature.

    Args:
        in_features: width of the pooled vector.
    """

    classifier: nn.Linear | DomainHeads

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.classifier = nn.Linear(in_features, 2)

    def use_domains(self, num_domains: int) -> DomainHeads:
        """Exchange the classifier for fresh `DomainHeads` and return them."""
        self.classifier = DomainHeads(self.in_features, num_domains)
        return self.classifier

    def forward(self, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, in_features) -> logits (B, 2) and features (B, in_features), both float32."""
        with torch.autocast(pooled.device.type, enabled=False):
            pooled = pooled.float()
            features = normalize_feature(pooled)
            if isinstance(self.classifier, DomainHeads):
                return mean_probability_logits(self.classifier(features)), features
            return self.classifier(pooled), features


HEADS = ("embedding", "bottleneck", "linear")
"""AG-FAS's embedding, SSDG's with ReLU and dropout, and none."""


def build_head(kind: str, in_features: int, embedding_dim: int) -> tuple[LivenessHead | LinearHead, int]:
    """A head of `HEADS` and the width of its feature; `linear` has no embedding, so its width is `in_features`."""
    check_name("head", kind, HEADS)
    if kind == "linear":
        return LinearHead(in_features), in_features
    return LivenessHead(in_features, embedding_dim, bottleneck=kind == "bottleneck"), embedding_dim


def normalize_feature(feature: torch.Tensor) -> torch.Tensor:
    """f / sqrt(2 ||f||), row by row: SSDG's formula. The norm becomes sqrt(||f|| / 2), not one."""
    norm = torch.linalg.vector_norm(feature, dim=1, keepdim=True)
    return feature / (2 * norm).clamp_min(1e-12).sqrt()

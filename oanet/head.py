"""Heads: SSDG's normalised embedding and classifier, shared by most detectors, and a plain linear one."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oanet.checks import check_name


class Head(nn.Module):
    """Base class: pooled vector -> normalised feature -> two logits, always float32.

    bfloat16 would round the triplet loss's distances by a large part of its margin of 0.1.

    Args:
        feature_dim: D of the feature.
    """

    classifier: nn.Linear | DomainHeads

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim

    def embed(self, pooled: Tensor) -> Tensor:
        """(B, in_features) -> the feature before `normalize_feature` (B, D)."""
        return pooled

    def classify(self, embedding: Tensor, features: Tensor) -> Tensor:
        """The feature before and after `normalize_feature` -> logits (B, 2)."""
        return self.classifier(embedding)

    def use_domains(self, num_domains: int) -> DomainHeads:
        """Replace the classifier by new `DomainHeads`, which read the feature before `normalize_feature`."""
        self.classifier = DomainHeads(self.feature_dim, num_domains)
        return self.classifier

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(B, in_features) -> logits (B, 2) and features (B, D)."""
        with torch.autocast(pooled.device.type, enabled=False):
            embedding = self.embed(pooled.float())
            features = normalize_feature(embedding)
            if isinstance(self.classifier, DomainHeads):  # trained by `sa_fas`
                return mean_probability_logits(self.classifier(embedding)), features
            return self.classify(embedding, features), features


class LivenessHead(Head):
    """The embedding and classifier of AG-FAS, shared by most detectors.

    One Linear (weight N(0, 0.005), bias 0.1) without SSDG's ReLU and dropout; the feature scaled by
    `normalize_feature`; a linear classifier whose weight is normalised at every use.

    As in the public code, that normalisation is along the class axis: each of the `embedding_dim` columns of length 2
    becomes a unit vector, not each class's row. The code overwrites the weight before every forward; here gradients go
    through the normalisation. The function is the same, and so is the plain SGD step to first order in the learning
    rate, as long as the columns keep their length.

    Args:
        in_features: width of the pooled vector.
        embedding_dim: width of the feature, 512 in the paper.
        bottleneck: SSDG's own head, with ReLU and dropout 0.5 after the embedding's Linear.
    """

    def __init__(self, in_features: int, embedding_dim: int = 512, bottleneck: bool = False) -> None:
        super().__init__(embedding_dim)
        self.embedder = nn.Linear(in_features, embedding_dim)
        self.bottleneck = nn.Sequential(nn.ReLU(), nn.Dropout(0.5)) if bottleneck else nn.Identity()
        self.classifier = nn.Linear(embedding_dim, 2)
        nn.init.normal_(self.embedder.weight, std=0.005)
        nn.init.constant_(self.embedder.bias, 0.1)
        nn.init.zeros_(self.classifier.bias)
        nn.init.normal_(self.classifier.weight)  # columns of every direction
        with torch.no_grad():
            self.classifier.weight.copy_(F.normalize(self.classifier.weight, dim=0))

    def embed(self, pooled: Tensor) -> Tensor:
        """See `Head.embed`."""
        return self.bottleneck(self.embedder(pooled))

    def classify(self, embedding: Tensor, features: Tensor) -> Tensor:
        """See `Head.classify`; reads the normalised feature."""
        classifier = cast(nn.Linear, self.classifier)
        return F.linear(features, F.normalize(classifier.weight, dim=0), classifier.bias)


class LinearHead(Head):
    """One Linear on the pooled vector.

    It reads the unscaled vector. The scaled feature is for losses that compare features, so that their margins mean
    the same for every detector.

    Args:
        in_features: width of the pooled vector, and of the feature.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__(in_features)
        self.classifier = nn.Linear(in_features, 2)


class DomainHeads(nn.Module):
    """One logistic classifier per training domain (SA-FAS, Sun et al., CVPR 2023).

    Args:
        feature_dim: D of the features.
        num_domains: number of heads.
    """

    def __init__(self, feature_dim: int, num_domains: int) -> None:
        super().__init__()
        self.linear = nn.Linear(feature_dim, num_domains)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, num_domains): each head's log-odds of bona fide, always float32."""
        with torch.autocast(features.device.type, enabled=False):
            return self.linear(features.float())


def mean_probability_logits(log_odds: Tensor) -> Tensor:
    """(B, n) log-odds of n heads -> (B, 2) logits whose softmax is the mean of the heads' probabilities."""
    both = torch.stack([F.logsigmoid(-log_odds), F.logsigmoid(log_odds)], dim=2)  # (B, n, 2)
    return both.logsumexp(dim=1) - math.log(log_odds.shape[1])


HEADS = ("embedding", "bottleneck", "linear")
"""AG-FAS's embedding; SSDG's, with ReLU and dropout; a classifier alone."""


def build_head(kind: str, in_features: int, embedding_dim: int) -> Head:
    """A head of `HEADS`; `linear` ignores `embedding_dim`."""
    check_name("head", kind, HEADS)
    if kind == "linear":
        return LinearHead(in_features)
    return LivenessHead(in_features, embedding_dim, bottleneck=kind == "bottleneck")


def normalize_feature(feature: Tensor) -> Tensor:
    """f / sqrt(2 ||f||) for each row, SSDG's formula. The norm becomes sqrt(||f|| / 2), not one."""
    norm = torch.linalg.vector_norm(feature, dim=1, keepdim=True)
    return feature / (2 * norm).clamp_min(1e-12).sqrt()


def unnormalize_feature(feature: Tensor) -> Tensor:
    """The row f from n = f / sqrt(2 ||f||): n 2 ||n||, since ||n|| = sqrt(||f|| / 2)."""
    return feature * 2 * torch.linalg.vector_norm(feature, dim=1, keepdim=True)

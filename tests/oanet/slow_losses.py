"""Losses of CLIP's detectors once more, in loops of numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

Array = np.ndarray


def values(tensor: torch.Tensor) -> Array:
    """A tensor in float64."""
    return tensor.detach().double().numpy()


def shuffle_norms(mlp: torch.nn.Sequential) -> None:
    """Random weights and biases for batch norms, which start with ones and zeros."""
    for layer in mlp:
        if isinstance(layer, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(layer.weight)
            torch.nn.init.uniform_(layer.bias)


def slow_cross_entropy(logits: Array, labels: list[int]) -> list[float]:
    return [
        math.log(sum(math.exp(v) for v in row)) - float(row[label]) for row, label in zip(logits, labels, strict=True)
    ]


def slow_contrast(similarity: Array, classes: list[int], released: bool = False) -> float:
    """The mean over anchors of the mean over positives; or that over all N (N - 1) entries, each by its positives."""
    n, entries = len(classes), []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        total = sum(math.exp(similarity[i, j] - similarity[i].max()) for j in others)
        positives = [j for j in others if classes[j] == classes[i]]
        for j in positives:
            entries.append((math.log(total) + similarity[i].max() - similarity[i, j]) / len(positives))
    return sum(entries) / (n * (n - 1) if released else n)


def slow_mlp(faces: Array, mlp: Any) -> Array:
    """Linear layers without a bias, each with the statistics of these faces and a ReLU; a last one may stand alone."""
    for place in range(0, len(mlp) - 2, 3):
        linear, norm = mlp[place], mlp[place + 1]
        faces = faces @ values(linear.weight).T
        faces = (faces - faces.mean(axis=0)) / np.sqrt(faces.var(axis=0) + 1e-5)
        faces = np.maximum(faces * values(norm.weight) + values(norm.bias), 0)
    return faces if len(mlp) % 3 == 0 else faces @ values(mlp[-1].weight).T + values(mlp[-1].bias)

"""The one-class head: how far a face lies from live ones in a detector's features, joined to the detector's score.

A Gaussian is fitted to the features of live faces; its covariance is estimated with Ledoit and Wolf's shrinkage (2004,
"A well-conditioned estimator for large-dimensional covariance matrices"), since there may be fewer faces than features.
The distance is the root of the mean square over Gaussians that were each fitted without one person, as those that the
threshold was chosen by: one fitted to everybody would find every new face nearer than the threshold expects.
Of a face with log-odds l (of live) and the logarithm d of its Mahalanobis distance, both measured in the deviations of
live faces whose person the Gaussian does not know,

    z = (l - mean l) / deviation of l - (d - mean d) / deviation of d,        score = 1 / (1 + exp(-z / 4))

so that 0.5 is the score of the average live face, and the order is that of z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipelines.errors import AgfasError
from pipelines.verdict.settings import Sees

if TYPE_CHECKING:
    from oanet.batch import DetectorOutput
    from oanet.detectors.base import Detector

MOST_ODDS = 50.0
"""Log-odds beyond this are taken as this: a score may be exactly 0 or 1."""
NEAREST = 1e-6
"""Squared distances below this are taken as this."""
SOFTNESS = 4.0
"""By this z is divided before it becomes a score, so that thresholds far below the average face are not all 0.0000."""


@dataclass(frozen=True)
class Gaussian:
    """Live faces in feature space: one Gaussian, or the mean of several.

    Attributes:
        mean: (D,) float64.
        root: (D, D) float64; root @ root.T is the inverse of the covariance, or the mean of the inverses.
        offset: squared distance of `mean` itself, above 0 where several Gaussians have different means.
    """

    mean: np.ndarray
    root: np.ndarray
    offset: float = 0.0

    @classmethod
    def fit(cls, features: np.ndarray) -> Gaussian:
        """Fitted to (N, D) features of live faces.

        Raises:
            AgfasError: the features are not finite, or do not differ.
        """
        from sklearn.covariance import ledoit_wolf

        if not np.isfinite(features).all():
            raise AgfasError("The detector's features are not finite: its weights are broken. Train it again.")
        mean = features.mean(axis=0)
        covariance, _ = ledoit_wolf(features - mean, assume_centered=True)
        try:
            root = np.linalg.cholesky(np.linalg.inv(covariance))
        except np.linalg.LinAlgError:
            raise AgfasError(
                "The detector's features are the same for every face, so they carry no head: is the detector trained?"
                " Calibrate its threshold alone with --threshold-only."
            ) from None
        return cls(mean, root)

    @classmethod
    def mean_of(cls, parts: Sequence[Gaussian]) -> Gaussian:
        """Its squared distance is the mean of theirs: a sum of quadratic forms is one."""
        inverses = np.stack([part.root @ part.root.T for part in parts])
        inverse = inverses.mean(axis=0)
        mean = np.linalg.solve(
            inverse, np.mean([i @ part.mean for i, part in zip(inverses, parts, strict=True)], axis=0)
        )
        whole = cls(mean, np.linalg.cholesky(inverse))
        return replace(whole, offset=float(np.mean([part.squared(mean[None])[0] for part in parts])))

    def squared(self, features: np.ndarray) -> np.ndarray:
        """(N,) squared Mahalanobis distances of features (N, D)."""
        return (((features - self.mean) @ self.root) ** 2).sum(axis=1) + self.offset

    def distances(self, features: np.ndarray) -> np.ndarray:
        """(N,) logarithms of the distances of features (N, D)."""
        return np.log(np.maximum(self.squared(features), NEAREST)) / 2


class OneClassHead(nn.Module):
    """Log-odds (B,) and features (B, D) -> z (B,), see the module.

    Args:
        size: D.
        sees: what the features are of.

    Attributes:
        scales: (2, 2), mean and deviation of the log-odds, then of the distance's logarithm.
    """

    mean: Tensor
    root: Tensor
    offset: Tensor
    scales: Tensor

    def __init__(self, size: int, sees: Sees = "both") -> None:
        super().__init__()
        self.sees = sees
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("root", torch.eye(size))
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("scales", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))

    @classmethod
    def of(cls, gaussian: Gaussian, scales: np.ndarray, sees: Sees) -> OneClassHead:
        """The head of a fit, in float32."""
        head = cls(len(gaussian.mean), sees)
        for name, value in {**vars(gaussian), "scales": scales}.items():
            getattr(head, name).copy_(torch.as_tensor(value))
        return head

    def forward(self, odds: Tensor, features: Tensor) -> Tensor:
        """See the class."""
        squared = ((features.float() - self.mean) @ self.root).square().sum(dim=1) + self.offset
        distance = squared.clamp_min(NEAREST).log() / 2
        (odds_mean, odds_scale), (mean, scale) = self.scales
        return (odds - odds_mean) / odds_scale - (distance - mean) / scale

    def save(self, path: Path) -> None:
        """Write the arrays as safetensors."""
        save_file({name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}, path)

    @classmethod
    def load(cls, path: Path, sees: Sees, size: int) -> OneClassHead:
        """The head of a file, for features of `size` values.

        Raises:
            AgfasError: the file is damaged, or is of another detector.
        """
        head = cls(size, sees)
        try:
            head.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError) as error:
            raise AgfasError(
                f"{path} is no head for a detector with {size} features: {str(error).splitlines()[0]} Calibrate again."
            ) from None
        return head


def log_odds(output: DetectorOutput) -> Tensor:
    """(B,) log-odds of live, float32, within `MOST_ODDS`."""
    logits = output.logits.float()
    return (logits[:, 1] - logits[:, 0]).clamp(-MOST_ODDS, MOST_ODDS)


def embed(detector: Detector, output: DetectorOutput, image: Tensor, cue: Tensor | None, sees: Sees) -> Tensor:
    """The features (B, D) that a head reads: of the output itself, or of a pass in which image or cue says nothing."""
    if cue is None or sees == "both":
        return detector.embedding(output).float()
    blind = (image, torch.zeros_like(cue)) if sees == "face" else (torch.zeros_like(image), cue)
    return detector.embedding(detector(*blind)).float()


def judged(head: OneClassHead, detector: Detector, output: DetectorOutput, image: Tensor, cue: Tensor | None) -> Tensor:
    """(B,) in [0, 1]: the joined score of an output."""
    return head(log_odds(output), embed(detector, output, image, cue, head.sees)).div(SOFTNESS).sigmoid()

"""How similar two sets of cues of the same faces are: what fewer calls cost, before a detector is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pipelines.cues.reader import CueReader

_BATCH = 128


@dataclass(frozen=True)
class Agreement:
    """Similarity of two sets of cues of the same faces.

    Attributes:
        correlation: mean over faces of the correlation of the two signed cues over all values, in [-1, 1].
        psnr: median over faces of the peak signal-to-noise ratio of the two 8-bit restorations, in dB; infinite
            if they are equal.
    """

    correlation: float
    psnr: float


def agreement(ours: CueReader, reference: CueReader, rows: np.ndarray) -> Agreement | None:
    """Compare two readers over the faces at `rows`.

    Returns:
        None if the cues differ in channels, or one has no pictures (`zero`, `noise`).
    """
    if ours.channels != reference.channels or ours.reconstructions is None or reference.reconstructions is None:
        return None
    correlations, ratios = [], []
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        correlations.append(_correlation(ours.batch(part), reference.batch(part)))
        ratios.append(_psnr(ours.cues(part)[1], reference.cues(part)[1]))
    return Agreement(float(np.concatenate(correlations).mean()), float(np.median(np.concatenate(ratios))))


def _correlation(ours: torch.Tensor, theirs: torch.Tensor) -> np.ndarray:
    """(B,) correlation over all values of each cue; 0 if one of them is constant."""
    first, second = (cue.flatten(1) - cue.flatten(1).mean(1, keepdim=True) for cue in (ours, theirs))
    norms = first.norm(dim=1) * second.norm(dim=1)
    return torch.where(norms > 0, (first * second).sum(1) / norms.clamp_min(1e-12), 0).double().numpy()


def _psnr(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(B,) in dB against a peak of 255."""
    errors = np.square(ours.astype(np.float64) - theirs).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255**2 / errors))

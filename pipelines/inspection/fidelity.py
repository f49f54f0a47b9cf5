"""How well a small autoencoder stands in for a generator's own: latents, and pictures encoded and decoded again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from dfg.autoencoder import decode_latents, encode_latents
from pipelines.data.faces import Faces
from pipelines.pixels import to_uint8, to_unit_range
from pipelines.processes import device

_BATCH = 32


@dataclass(frozen=True)
class Fidelity:
    """Over some faces; decibels are medians over faces, of pictures in 8 bits.

    Attributes:
        faces: their number.
        latent_correlation: of the two autoencoders' latents, over all values.
        latent_psnr_db: of the small one's latents, against the largest of the other's.
        psnr_db: of faces that the small one encodes and decodes.
        own_psnr_db: of faces that the generator's own encodes and decodes.
        to_own_psnr_db: between these two reconstructions.
    """

    faces: int
    latent_correlation: float
    latent_psnr_db: float
    psnr_db: float
    own_psnr_db: float
    to_own_psnr_db: float

    def row(self) -> dict[str, Any]:
        """Rounded, for tables."""
        return {name: round(value, 4 if "corr" in name else 2) for name, value in asdict(self).items()}


@torch.no_grad()
def fidelity(small: Any, own: Any, faces: Faces, rows: np.ndarray) -> Fidelity:
    """Compare two autoencoders of equal latents over the faces at `rows`, at least one."""
    latents: list[list[torch.Tensor]] = [[], []]
    ratios: list[list[np.ndarray]] = [[], [], []]
    for start in range(0, len(rows), _BATCH):
        pixels = faces.images[rows[start : start + _BATCH]]
        image = to_unit_range(pixels).to(device())
        made = [_round_trip(one, image) for one in (small, own)]
        for kept, (values, _) in zip(latents, made, strict=True):
            kept.append(values.cpu())
        (_, first), (_, second) = made
        pairs = ((first, pixels), (second, pixels), (first, second))
        for found, pair in zip(ratios, pairs, strict=True):
            found.append(_psnr(*pair))
    ours, theirs = (torch.cat(values).double() for values in latents)
    correlation = float(np.corrcoef(ours.flatten(), theirs.flatten())[0, 1])
    error = float((ours - theirs).square().mean())
    psnr = 10 * np.log10(float(theirs.abs().max()) ** 2 / error) if error else np.inf
    medians = [float(np.median(np.concatenate(values))) for values in ratios]
    return Fidelity(len(rows), correlation, float(psnr), *medians)


def _round_trip(autoencoder: Any, image: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
    latents = encode_latents(autoencoder, image)
    return latents, to_uint8(decode_latents(autoencoder, latents))


def _psnr(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(B,) in dB against a peak of 255."""
    errors = np.square(ours.astype(np.float64) - theirs).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255**2 / errors))

"""How far apart the latents of live and attack faces are after noising to t: Theorem 2's divergence.

Each group's latents are taken for a Gaussian with a mean and a variance of its own for every channel, fitted over all
faces and all positions. Pooling positions is right for what is looked for: halftone, moire, a screen's colours and a
second camera's blur lie over the whole crop. It is also what the number of faces allows: two fits to n samples each of
one distribution differ by about 2 / n nats per value (1 / n for the mean, 1 / n for the variance), which with a fit per
position and 128 faces is as much as is to be measured; pooled, n is the number of values.

Noising is linear, so the fit at t follows from the fit at 0: mean a m and variance a^2 v + b^2, with a^2 = abar_t and
b^2 = 1 - abar_t. No noise is drawn, and the divergence falls with t as in the paper's equation 17.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class GaussianFit:
    """A diagonal Gaussian over latents, the same at every position.

    Attributes:
        mean, variance: (C,) float64.
    """

    mean: torch.Tensor
    variance: torch.Tensor

    @classmethod
    def of(cls, latents: torch.Tensor) -> GaussianFit:
        """Fit to (n, C, h, w) by the moments."""
        values = latents.double().movedim(1, 0).flatten(1)
        return cls(values.mean(1), values.var(1, correction=0))

    def noised(self, abar: float) -> GaussianFit:
        """The fit of sqrt(abar) z + sqrt(1 - abar) eps."""
        return GaussianFit(abar**0.5 * self.mean, abar * self.variance + (1 - abar))


def kl_divergence(first: GaussianFit, second: GaussianFit) -> float:
    """KL(first || second) in nats per latent value, the mean over the channels.

    Every position counts the same, so the divergence of whole latents of independent positions is this times C h w.
    """
    ratio = first.variance / second.variance
    distance = (first.mean - second.mean).square() / second.variance
    return float((0.5 * (ratio - 1 - ratio.log() + distance)).mean())

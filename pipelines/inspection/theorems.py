"""Both sides of the paper's trade-off on the timestep t, and the t with the widest gap between them.

Theorem 1 favours a small t, at which a live face is restored well; Theorem 2 a large one, at which noise removes what
distinguishes an attack. Each side becomes a share between 0 and about 1; the proposed t maximises their difference.

Theorem 2's divergence is estimated between Gaussian fits of the latents of live and attack faces, with a mean and a
variance for every channel over all faces and positions. Pooling positions suits the artefacts that matter: halftone,
moire, a screen's colours and the blur of a second camera cover the whole crop. It also suits the number of faces: two
fits to n samples of one distribution differ by about 2 / n nats per value (1 / n for the mean, 1 / n for the
variance), which with a fit per position and 128 faces is as much as there is to measure; pooled, n counts values.

Noising is linear, so the fit at t follows from the fit at 0: mean a m and variance a^2 v + b^2, with a^2 = abar_t and
b^2 = 1 - abar_t. No noise is drawn, and the divergence falls with t as in the paper's equation 17.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from dfg.pipeline import DeFakePipeline
from pipelines.inspection.measure import HELD_OUT, OTHERS, Found, Subjects, conditions_of, strangers_distance

RULE = (
    "t that maximises the share of the live-attack divergence removed by noising minus the share of a live face lost"
    " by restoring"
)


@dataclass(frozen=True)
class Theorems:
    """Both theorems at one t.

    Attributes:
        timestep: t.
        live_error: root mean square difference between the latents of live faces and restorations (Theorem 1).
        lost: live_error over the difference between two people's latents.
        kl: KL(live || attack) of latents noised to t, nats per value, the mean over the cameras (Theorem 2).
        kl_floor: the same between two halves of the live faces, which is the estimate's own error; NaN if no camera
            shows two persons.
        removed: 1 - kl / (kl without noise).
        separation: Cohen's d of the restoration errors of attacks and live faces.
    """

    timestep: int
    live_error: float
    lost: float
    kl: float
    kl_floor: float
    removed: float
    separation: float

    @property
    def gap(self) -> float:
        """What `RULE` maximises."""
        return self.removed - self.lost

    def row(self) -> dict[str, Any]:
        """For a table, rounded to four digits; NaN becomes None."""
        values = {name: _rounded(value) for name, value in asdict(self).items() if name != "timestep"}
        return {"timestep": self.timestep, **values, "gap": _rounded(self.gap)}


def theorem_curves(
    pipeline: DeFakePipeline, subjects: dict[str, Subjects], found: Found, timesteps: Sequence[int]
) -> list[Theorems]:
    """Both sides of the trade-off at each t; empty if no domain has both live faces and attacks.

    Theorem 1 concerns faces like the training faces, so it is measured on held-out faces of the generator's domains, if
    there are any. Theorem 2 compares live and attack faces camera by camera.
    """
    live, attacks = _sides(subjects)
    cameras = fit_cameras(live, list(attacks.values())) if live and attacks else []
    if not cameras:
        return []
    restored = HELD_OUT if HELD_OUT in subjects else OTHERS
    condition = conditions_of(pipeline)[0]
    whole = mean_divergence(cameras, abar=1.0)
    stranger = strangers_distance(subjects[restored])
    curves = []
    for timestep in timesteps:
        abar = float(pipeline.scheduler.alphas_cumprod[timestep])
        error = float(np.sqrt(found[restored][timestep, condition].latent.mean()))
        kl = mean_divergence(cameras, abar)
        curves.append(
            Theorems(
                timestep=timestep,
                live_error=error,
                lost=error / stranger,
                kl=kl,
                kl_floor=mean_floor(cameras, abar),
                removed=1 - kl / whole,
                separation=_separation(found, attacks, timestep, condition),
            )
        )
    return curves


def propose(curves: list[Theorems]) -> int | None:
    """The t of `RULE`, the smallest of equals; None without curves."""
    if not curves:
        return None
    return max(sorted(curves, key=lambda one: one.timestep), key=lambda one: one.gap).timestep


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
        """Fit to (n, C, h, w) by moments."""
        values = latents.double().movedim(1, 0).flatten(1)
        return cls(values.mean(1), values.var(1, correction=0))

    def noised(self, abar: float) -> GaussianFit:
        """The fit of sqrt(abar) z + sqrt(1 - abar) eps."""
        return GaussianFit(abar**0.5 * self.mean, abar * self.variance + (1 - abar))


def kl_divergence(first: GaussianFit, second: GaussianFit) -> float:
    """KL(first || second) = (v1 / v2 - 1 - ln(v1 / v2) + (m1 - m2)^2 / v2) / 2, nats per value, the mean over channels.

    With independent positions, the divergence of whole latents is C h w times this.
    """
    ratio = first.variance / second.variance
    distance = (first.mean - second.mean).square() / second.variance
    return float((0.5 * (ratio - 1 - ratio.log() + distance)).mean())


@dataclass(frozen=True)
class Camera:
    """The fits of one camera (domain), so that no difference between cameras passes for one between live and attack.

    Attributes:
        live, attack: of its faces.
        halves: of two halves of its live faces without a common person; None if it shows one person.
    """

    live: GaussianFit
    attack: GaussianFit
    halves: tuple[GaussianFit, GaussianFit] | None


def fit_cameras(live: Subjects, attacks: Sequence[Subjects]) -> list[Camera]:
    """Fits for every camera with live faces and attacks; attack types are pooled."""
    latents = torch.cat([some.latents for some in attacks])
    cameras = np.concatenate([some.cameras for some in attacks])
    shared = sorted(set(live.cameras.tolist()) & set(cameras.tolist()))
    return [
        Camera(
            GaussianFit.of(live.latents[_rows(live.cameras == camera)]),
            GaussianFit.of(latents[_rows(cameras == camera)]),
            _halves(live, camera),
        )
        for camera in shared
    ]


def mean_divergence(cameras: Sequence[Camera], abar: float) -> float:
    """KL(live || attack) of latents noised to abar, the mean over the cameras, nats per value."""
    return _mean([kl_divergence(camera.live.noised(abar), camera.attack.noised(abar)) for camera in cameras])


def mean_floor(cameras: Sequence[Camera], abar: float) -> float:
    """KL between two halves of the live faces, the error of the estimate; NaN without a pair of halves."""
    pairs = [camera.halves for camera in cameras if camera.halves is not None]
    return _mean([kl_divergence(first.noised(abar), second.noised(abar)) for first, second in pairs])


def _sides(subjects: dict[str, Subjects]) -> tuple[Subjects | None, dict[str, Subjects]]:
    """Live faces and attacks of the same cameras; held-out live faces if other domains have none."""
    attacks = {name: some for name, some in subjects.items() if name not in (HELD_OUT, OTHERS)}
    return subjects.get(OTHERS) or subjects.get(HELD_OUT), attacks


def _separation(found: Found, attacks: dict[str, Subjects], timestep: int, condition: str) -> float:
    live = found[OTHERS if OTHERS in found else HELD_OUT][timestep, condition].restoration
    attack = np.concatenate([found[name][timestep, condition].restoration for name in attacks])
    pooled = np.sqrt((live.var(ddof=1) + attack.var(ddof=1)) / 2)
    return float((attack.mean() - live.mean()) / pooled)


def _halves(live: Subjects, camera: str) -> tuple[GaussianFit, GaussianFit] | None:
    own = live.cameras == camera
    persons = sorted(set(live.persons[own].tolist()))
    if len(persons) < 2:
        return None
    first = own & np.isin(live.persons, persons[::2])
    return GaussianFit.of(live.latents[_rows(first)]), GaussianFit.of(live.latents[_rows(own & ~first)])


def _rows(chosen: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.flatnonzero(chosen))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.4g}")

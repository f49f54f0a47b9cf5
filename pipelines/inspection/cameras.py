"""Live faces and attacks of one camera side by side, so that no difference between cameras passes for an attack's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipelines.inspection.divergence import GaussianFit, kl_divergence
from pipelines.inspection.measure import Subjects


@dataclass(frozen=True)
class Camera:
    """The fits of one camera (domain).

    Attributes:
        live, attack: of its faces.
        halves: of two halves of its live faces with no person in both; None where it shows one person alone.
    """

    live: GaussianFit
    attack: GaussianFit
    halves: tuple[GaussianFit, GaussianFit] | None


def fit_cameras(live: Subjects, attacks: Sequence[Subjects]) -> list[Camera]:
    """A fit for every camera that has live faces and attacks; attack kinds are pooled."""
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
    """KL(live || attack) of latents noised to t, the mean over the cameras, nats per value."""
    return _mean([kl_divergence(camera.live.noised(abar), camera.attack.noised(abar)) for camera in cameras])


def mean_floor(cameras: Sequence[Camera], abar: float) -> float:
    """The same between two halves of the live faces: what the estimate makes of nothing. NaN where there is no pair."""
    pairs = [camera.halves for camera in cameras if camera.halves is not None]
    return _mean([kl_divergence(first.noised(abar), second.noised(abar)) for first, second in pairs])


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

"""Both sides of the paper's trade-off on t, and the t that they leave the most room at.

Theorem 1 asks for a small t, so that a live face is restored; Theorem 2 for a large one, so that noise drowns what
makes an attack. Each side becomes a share between 0 and about 1, and the proposal is where they differ by most.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

RULE = (
    "t at which the share of the live-attack divergence that noising has removed exceeds by most the share of a live "
    "face that restoring has lost"
)


@dataclass(frozen=True)
class Theorems:
    """One t.

    Attributes:
        timestep: t.
        live_error: root mean square difference of live latents before and after restoring (Theorem 1).
        lost: live_error over that of another person's latents.
        kl: divergence between live and attack latents noised to t, nats per value, mean over the cameras (Theorem 2).
        kl_floor: the same between two halves of the live faces, which tells what the estimate itself makes; NaN where
            no camera shows two persons.
        removed: 1 - kl / (kl without noise).
        separation: mean restoration error of attacks minus that of live faces, in their pooled deviations.
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
        """What `RULE` looks at."""
        return self.removed - self.lost

    def row(self) -> dict[str, Any]:
        """For a table, rounded to what can be told; None where there is no value."""
        values = {name: _rounded(value) for name, value in asdict(self).items() if name != "timestep"}
        return {"timestep": self.timestep, **values, "gap": _rounded(self.gap)}


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.4g}")


def propose(curves: list[Theorems]) -> int | None:
    """The t of `RULE`, the smallest of equals; None without curves."""
    if not curves:
        return None
    return max(sorted(curves, key=lambda one: one.timestep), key=lambda one: one.gap).timestep

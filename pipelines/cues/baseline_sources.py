"""The baselines of the paper's Table IV as makers of cues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from dfg.baselines import BASELINES_WITH_TIMESTEP
from dfg.baselines.anoddpm import ancestral_steps
from dfg.baselines.base import Baseline
from pipelines.cues.sources import SEED_RULE
from pipelines.errors import AgfasError

# More than one draw is made of a face's stream, so their order is part of the rule.
_DRAWS = "; first the noise up to t, then that of every step down"


class BaselineSweep:
    """A baseline at several t, or at the one 0 where it adds no noise; a `CueSweep`.

    Args:
        model: of `dfg.baselines`.
        weights_sha256: `pipelines.fingerprint.folder_sha256` of where it was saved.
        timesteps: numbers of noising steps; (0,) for a baseline without.
        seed: of the noise streams.
        calls: of the U-Net from t down; None makes all t.
        samples: restorations per face, from streams of their own (seed, seed + 1, ...), whose mean is the result.

    Raises:
        AgfasError: t or calls that cannot be.
    """

    def __init__(
        self,
        model: Baseline,
        weights_sha256: str,
        timesteps: Sequence[int] = (0,),
        seed: int = 0,
        calls: int | None = None,
        samples: int = 1,
    ) -> None:
        self.model: Any = model
        self.weights_sha256 = weights_sha256
        self.timesteps = tuple(int(t) for t in timesteps)
        self.seed, self.calls, self.samples = seed, calls, samples
        self.noised = model.name in BASELINES_WITH_TIMESTEP
        if not self.timesteps or len(set(self.timesteps)) != len(self.timesteps):
            raise AgfasError(f"timesteps must be given, each once; got {list(self.timesteps)}.")
        if not self.noised and self.timesteps != (0,):
            raise AgfasError(f"{model.name} adds no noise, so it has no t; got {list(self.timesteps)}.")
        if self.noised:
            self._check_steps()

    def _check_steps(self) -> None:
        try:
            for timestep in self.timesteps:
                ancestral_steps(timestep, self.calls)
        except ValueError as error:
            raise AgfasError(f"{self.model.name}: {error}") from None

    def fingerprint(self, timestep: int) -> dict[str, Any]:
        """Everything that decides the restoration at one t."""
        named = {
            "name": self.model.name,
            "weights": self.weights_sha256,
            "dtype": str(self.model.dtype).removeprefix("torch."),
        }
        if not self.noised:
            return named
        return {
            **named,
            "timestep": timestep,
            "calls": self.calls,
            "samples": self.samples,
            "seed": self.seed,
            "seed_rule": SEED_RULE + _DRAWS,
        }

    def restore(self, image: torch.Tensor, keys: Sequence[str], timesteps: Sequence[int]) -> dict[int, torch.Tensor]:
        """The restored faces (B, 3, H, W) in [-1, 1] at each of `timesteps`."""
        return {timestep: self._restored(image, keys, timestep) for timestep in timesteps}

    def _restored(self, image: torch.Tensor, keys: Sequence[str], timestep: int) -> torch.Tensor:
        if not self.noised:
            return self.model.reconstruct(image, keys)
        made = [
            self.model.reconstruct(image, keys, timestep=timestep, calls=self.calls, seed=self.seed + sample)
            for sample in range(self.samples)
        ]
        return torch.stack(made).mean(0)

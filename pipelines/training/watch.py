"""A look at held-out source faces every so many steps, and what follows from it: a lower rate, or the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from pipelines.training.settings import EarlyStoppingSettings, PlateauSettings


class DevWatch:
    """Lowers the rate when the watched loss stands still, and ends the training when it has for long.

    The rules are Keras' `ReduceLROnPlateau` and `EarlyStopping`, which Kuznetsov et al. use; a look here stands where
    an epoch stands there. Everything it decides follows from the looks in their order, so with `state` in the
    checkpoint a resumed training decides as one that was not interrupted.

    Args:
        measure: the watched loss of the bare objective; called on the main process alone.
        every: steps between looks.
        plateau: when to lower the rate; None never does.
        early_stopping: when to end; None never does.

    Attributes:
        scale: what the schedule's rate is multiplied by, at most 1.
        stopped: whether the training is to end.
    """

    def __init__(
        self,
        measure: Callable[[nn.Module], float],
        every: int,
        plateau: PlateauSettings | None,
        early_stopping: EarlyStoppingSettings | None,
    ) -> None:
        self.measure, self.every = measure, every
        self.plateau, self.early_stopping = plateau, early_stopping
        self.scale = 1.0
        self.stopped = False
        self._falling = _Standstill(0.0 if plateau is None else plateau.min_delta)
        self._learning = _Standstill(0.0 if early_stopping is None else early_stopping.min_delta)

    def due(self, finished: int) -> bool:
        """Whether to look after so many finished steps."""
        return finished % self.every == 0

    def observe(self, loss: float, rate: float) -> None:
        """Take in the loss of a look.

        Args:
            loss: what `measure` gave.
            rate: the schedule's learning rate, before `scale`; keeps the scaled rate above the smallest.
        """
        self._falling.observe(loss)
        self._learning.observe(loss)
        if self.plateau is not None and self._falling.waited >= self.plateau.patience:
            lowest = min(1.0, self.plateau.min_learning_rate / rate) if rate > 0 else 0.0
            self.scale = min(self.scale, max(lowest, self.scale * self.plateau.factor))
            self._falling.waited = 0
        if self.early_stopping is not None and self._learning.waited >= self.early_stopping.patience:
            self.stopped = True

    def state(self) -> dict[str, Any]:
        """What has been seen so far, as JSON."""
        return {"scale": self.scale, "falling": self._falling.state(), "learning": self._learning.state()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a saved `state`."""
        self.scale = float(state["scale"])
        self._falling.load(state["falling"])
        self._learning.load(state["learning"])


class _Standstill:
    """How many looks in a row brought nothing better than the best by more than `min_delta`."""

    def __init__(self, min_delta: float) -> None:
        self.min_delta = min_delta
        self.best = math.inf
        self.waited = 0

    def observe(self, loss: float) -> None:
        if loss < self.best - self.min_delta:
            self.best, self.waited = loss, 0
        else:
            self.waited += 1

    def state(self) -> dict[str, Any]:
        return {"best": None if math.isinf(self.best) else self.best, "waited": self.waited}

    def load(self, state: dict[str, Any]) -> None:
        self.best = math.inf if state["best"] is None else float(state["best"])
        self.waited = int(state["waited"])

"""Evaluates the source dev loss at intervals; lowers the learning rate or stops training when it stops falling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from pipelines.training.settings import EarlyStoppingSettings, PlateauSettings


class DevWatch:
    """Keras' `ReduceLROnPlateau` and `EarlyStopping`, which Kuznetsov et al. use, with evaluations for epochs.

    All decisions follow from the sequence of losses. With `state` in the checkpoint, a resumed training takes the same
    ones as an uninterrupted training.

    Args:
        measure: returns the source dev loss of the bare objective; called on every process, all of which must get the
            same, so that all take the same decision.
        every: steps between evaluations.
        plateau: when to lower the rate; None for never.
        early_stopping: when to stop; None for never.

    Attributes:
        scale: factor of the schedule's rate, at most 1.
        stopped: whether training should stop.
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
        self._falling = _Patience((plateau or PlateauSettings()).min_delta)
        self._learning = _Patience((early_stopping or EarlyStoppingSettings()).min_delta)

    def due(self, finished: int) -> bool:
        """Whether to evaluate after `finished` steps."""
        return finished % self.every == 0

    def observe(self, loss: float, rate: float) -> None:
        """Decide on a new loss.

        Args:
            loss: returned by `measure`.
            rate: the schedule's learning rate before `scale`, above 0, for the lower bound of the scaled rate.
        """
        self._falling.observe(loss)
        self._learning.observe(loss)
        if self.plateau is not None and self._falling.waited >= self.plateau.patience:
            lowest = self.plateau.min_learning_rate / rate
            self.scale = min(self.scale, max(lowest, self.scale * self.plateau.factor))
            self._falling.waited = 0
        if self.early_stopping is not None and self._learning.waited >= self.early_stopping.patience:
            self.stopped = True

    def state(self) -> dict[str, Any]:
        """The state after the losses so far, as JSON."""
        return {"scale": self.scale, "falling": self._falling.state(), "learning": self._learning.state()}

    def load(self, state: dict[str, Any]) -> None:
        """Resume from a saved `state`."""
        self.scale = float(state["scale"])
        self._falling.load(state["falling"])
        self._learning.load(state["learning"])


class _Patience:
    """Counts evaluations since the best loss; only a fall by more than `min_delta` is better."""

    def __init__(self, min_delta: float) -> None:
        self.min_delta = min_delta
        self.best = math.inf
        self.waited = 0

    def observe(self, loss: float) -> None:
        # A loss of NaN is never better.
        if loss < self.best - self.min_delta:
            self.best, self.waited = loss, 0
        else:
            self.waited += 1

    def state(self) -> dict[str, Any]:
        # JSON has no infinity.
        return {"best": None if math.isinf(self.best) else self.best, "waited": self.waited}

    def load(self, state: dict[str, Any]) -> None:
        self.best = math.inf if state["best"] is None else float(state["best"])
        self.waited = int(state["waited"])

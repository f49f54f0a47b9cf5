"""An exponential moving average of the trained weights."""

from __future__ import annotations

import torch
from torch import nn


class WeightAverage:
    """The average w <- d w + (1 - d) theta over a model's trainable parameters.

    d is the smaller of `decay` and (1 + n) / (10 + n) at update n, so that the random start is soon forgotten
    (the rule of diffusers' `EMAModel`).

    Attributes:
        shadow: the averages by parameter name.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after optimiser step `step` (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(model.named_parameters())
        shadow = list(self.shadow.values())
        current = [parameters[name].detach() for name in self.shadow]
        torch._foreach_lerp_(shadow, current, 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Put the averages into the model."""
        parameters = dict(model.named_parameters())
        for name, value in self.shadow.items():
            parameters[name].copy_(value)

    def load(self, shadow: dict[str, torch.Tensor]) -> None:
        """Take over saved averages."""
        for name, value in shadow.items():
            self.shadow[name].copy_(value)

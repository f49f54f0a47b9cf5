"""How weights move: the optimiser, its learning rate, and the exponential moving average of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from pipelines.training.settings import LoopSettings


def make_optimizer(objective: nn.Module, settings: LoopSettings) -> torch.optim.Optimizer:
    """SGD with momentum, Adam or AdamW over the trainable parameters."""
    parameters = _groups([p for p in objective.parameters() if p.requires_grad], settings)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(
        parameters,
        settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=settings.optimizer == "adamw_fused" or None,
    )


def _groups(parameters: list[nn.Parameter], settings: LoopSettings) -> list[Any]:
    """All parameters, or two groups of them: those with weight decay, and biases, norms and layer scales without."""
    if settings.decay_vectors:
        return parameters
    vectors = [p for p in parameters if p.ndim < 2]
    return [{"params": [p for p in parameters if p.ndim >= 2]}, {"params": vectors, "weight_decay": 0.0}]


def learning_rate(settings: LoopSettings, step: int) -> float:
    """The rate of a step in [0, steps): linear warm-up, then constant, a cosine that ends at 0, or falling in steps.

    `schedule: plateau` is constant here; `DevWatch.scale` lowers it.
    """
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    if settings.schedule == "step":
        return settings.learning_rate * settings.decay.factor ** (step // settings.decay.every)
    if settings.schedule != "cosine":
        return settings.learning_rate
    done = (step - settings.warmup) / (settings.steps - settings.warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def set_learning_rate(optimizer: Any, rate: float) -> None:
    """Set the rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class WeightAverage:
    """The average w <- d w + (1 - d) theta over a model's trainable parameters theta.

    At update n (from 1), d = min(decay, n / (9 + n)), and 0 at the first: a short memory at first, which forgets the
    initial weights at once. This is diffusers' `EMAModel` with its defaults.

    Attributes:
        shadow: the averages by parameter name, on the parameters' device.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Include the weights after optimiser step `step` (from 1)."""
        decay = min(self.decay, step / (9 + step)) if step > 1 else 0.0
        parameters = dict(model.named_parameters())
        shadow = list(self.shadow.values())
        current = [parameters[name].detach() for name in self.shadow]
        # One call for all tensors: a U-Net has hundreds, and a kernel launch for each costs more than the arithmetic.
        torch._foreach_lerp_(shadow, current, 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Copy the averages into the model."""
        parameters = dict(model.named_parameters())
        for name, value in self.shadow.items():
            parameters[name].copy_(value)

    def load(self, shadow: dict[str, torch.Tensor]) -> None:
        """Load saved averages."""
        for name, value in shadow.items():
            self.shadow[name].copy_(value)

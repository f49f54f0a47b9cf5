"""How a training computes on a GPU: precision, layout, and whether every run gives the same bits."""

from __future__ import annotations

import os

import torch
from torch import nn

from dfg.speed import use_tf32
from pipelines.training.settings import LoopSettings


def use_arithmetic(model: nn.Module, settings: LoopSettings, device: torch.device) -> None:
    """Configure this process and the layout of the model's weights; a CPU has nothing to choose.

    Args:
        model: about to be trained.
        settings: `tf32` and `deterministic`.
        device: of the training.
    """
    if device.type == "cpu":
        return
    use_tf32(settings.tf32)
    if settings.tf32:
        # Convolutions in TF32 read and write channels-last; otherwise each would transpose its input and its output.
        model.to(memory_format=torch.channels_last)
    # A kernel without a deterministic form is named in a warning, not refused: resuming then differs by rounding.
    torch.use_deterministic_algorithms(settings.deterministic, warn_only=True)
    if settings.deterministic:
        # Read at the first product of a process; it gives cuBLAS a fixed workspace.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False

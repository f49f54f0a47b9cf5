"""How float32 numbers are multiplied."""

from __future__ import annotations

import torch

from dfg.speed import use_tf32


def test_tf32_is_of_matrices_convolutions_and_the_choice_of_kernels_together():
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        for enabled in (True, False):
            use_tf32(enabled)
            assert torch.backends.cuda.matmul.allow_tf32 is enabled
            assert torch.backends.cudnn.allow_tf32 is enabled
            assert torch.backends.cudnn.benchmark is enabled
    finally:
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before

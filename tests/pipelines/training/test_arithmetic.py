"""How a GPU computes, tested without one: the switches exist on every machine."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from pipelines.training.arithmetic import use_arithmetic
from pipelines.training.settings import LoopSettings

GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = switches()
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before[:3]
    torch.use_deterministic_algorithms(before[3])
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def switches() -> tuple[bool, bool, bool, bool]:
    return (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (False, False, False, False)),
        ({"tf32": True}, (True, True, True, False)),
        ({"tf32": True, "deterministic": True}, (True, True, False, True)),
    ],
)
def test_switches_on_a_gpu(settings, expected):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    use_arithmetic(model, LoopSettings(**settings), GPU)
    assert switches() == expected
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if expected[3] else None)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last) == settings.get("tf32", False)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_cpu_is_left_alone():
    before, model = switches(), nn.Conv2d(3, 4, 3)
    use_arithmetic(model, LoopSettings(tf32=True, deterministic=True), torch.device("cpu"))
    assert switches() == before
    assert model.weight.is_contiguous()

"""`--device` hides the devices that are not chosen, before torch looks; a GPU that is not there is refused."""

from __future__ import annotations

import os

import pytest
import torch

from pipelines import devices
from pipelines.devices import choose_device, cpu_is_forced
from pipelines.errors import AgfasError
from pipelines.processes import device, on_cpu

VISIBLE = "CUDA_VISIBLE_DEVICES"


@pytest.fixture
def gpus(monkeypatch):
    """A machine of two GPUs, whose driver obeys the variable."""
    monkeypatch.setattr(devices, "gpu_count", lambda: len([n for n in os.environ.get(VISIBLE, "0,1").split(",") if n]))
    for name in (VISIBLE, "ACCELERATE_USE_CPU"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_the_cpu_hides_the_gpus(gpus, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert device() == "cuda"
    choose_device("cpu", launched=True)
    assert os.environ[VISIBLE] == ""
    assert cpu_is_forced()
    assert on_cpu()
    assert device() == "cpu"


@pytest.mark.parametrize(
    ("visible", "name", "then"),
    [(None, "cuda", None), (None, "cuda:1", "1"), ("1,0", "cuda:1", "0"), ("GPU-a, GPU-b", "cuda:1", "GPU-b")],
)
def test_one_gpu_is_what_a_process_sees(gpus, monkeypatch, visible, name, then):
    if visible:
        monkeypatch.setenv(VISIBLE, visible)
    choose_device(name, launched=False)
    assert os.environ.get(VISIBLE) == then
    assert not cpu_is_forced()


@pytest.mark.parametrize(
    ("visible", "name", "launched", "words"),
    [
        (None, "gpu", False, "cpu, cuda, or one GPU"),
        (None, "cuda:one", False, "cpu, cuda, or one GPU"),
        (None, "cuda:1", True, "a launcher gives each"),
        ("0", "cuda:1", False, "no such NVIDIA GPU"),
        ("", "cuda", False, "no such NVIDIA GPU"),
        ("", "cuda:0", False, "no such NVIDIA GPU"),
    ],
)
def test_what_is_not_there_is_refused(gpus, monkeypatch, visible, name, launched, words):
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)
    with pytest.raises(AgfasError, match=words):
        choose_device(name, launched)

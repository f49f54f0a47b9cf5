"""How a generator runs: its precision, layout and compilation, and how float32 numbers are multiplied."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch
from diffusers.models.attention_processor import Attention

from dfg.attention import CachedCrossAttention
from dfg.speed import Speed, use_tf32


def parts() -> SimpleNamespace:
    unet = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), Attention(query_dim=8, cross_attention_dim=6, heads=2))
    return SimpleNamespace(unet=unet, autoencoder=torch.nn.Conv2d(3, 4, 3))


def test_every_part_has_its_precision_and_both_the_layout():
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32), (None, torch.float32)):
        one, other = parts(), parts()
        Speed(dtype=name).apply(one)
        assert (one.unet[0].weight.dtype, one.autoencoder.weight.dtype) == (dtype, torch.float32)
        Speed(autoencoder_dtype=name).apply(other)
        assert (other.unet[0].weight.dtype, other.autoencoder.weight.dtype) == (torch.float32, dtype)
    for asked in (True, False):
        given = parts()
        Speed(channels_last=asked).apply(given)
        for weight in (given.unet[0].weight, given.autoencoder.weight):
            assert weight.is_contiguous(memory_format=torch.channels_last) is asked
    for wrong in ({"dtype": "float16"}, {"autoencoder_dtype": "half"}):
        with pytest.raises(ValueError, match=r"must be one of float32, bfloat16\."):
            Speed(**wrong)


@pytest.mark.parametrize(("device", "options"), [("cpu", {"freezing": True}), ("meta", None)])
def test_a_compiled_unet_is_frozen_on_a_cpu_and_keeps_its_caches(monkeypatch, device, options):
    given, asked = parts(), []
    given.unet.to(device)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **more: asked.append((self, more)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Speed(compile=True).apply(given)
        warnings.warn("Dynamo detected a call to a `functools.lru_cache`-wrapped function", UserWarning, stacklevel=1)
    assert asked == [(given.unet, {"dynamic": False, "options": options})]
    assert isinstance(given.unet[1].processor, CachedCrossAttention)


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

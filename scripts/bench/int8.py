"""Whether eight bits help the U-Net on a CPU: calls a second and the error of the predicted noise, by number type.

The U-Net is untrained, so its errors show what rounding does to these shapes, not what it would do to a picture.
OpenVINO and NNCF are not dependencies of this project: `pip install openvino nncf` before this benchmark.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from pipelines.errors import AgfasError
from scripts.bench.generators import COMPACT, Size, build_generator
from scripts.bench.turns import race

Predict = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

PLAIN, BRAIN = "torch, float32", "torch, bfloat16, channels last"
_CALIBRATION = 16


class Noise(nn.Module):
    """The U-Net as a function of tensors alone, as a converter needs it."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w), () and (B, N, D) -> the predicted noise (B, C, h, w)."""
        return self.unet(sample, timestep, encoder_hidden_states=tokens).sample


def int8_benchmark(size: Size = COMPACT, batch_size: int = 2, repeats: int = 5) -> list[dict[str, Any]]:
    """Time single calls of the U-Net; the contenders take turns.

    Returns:
        A row per contender: calls a second, the ratio to float32 in torch, and the error of the predicted noise in
        decibels below the noise itself.

    Raises:
        AgfasError: OpenVINO or NNCF is not installed.
    """
    unet: Any = build_generator(size).unet
    draw = _inputs(unet, batch_size)
    contenders = _contenders(Noise(unet).eval(), draw)
    given = draw(1)
    with torch.no_grad():
        expected = contenders[PLAIN](*given)
        errors = {name: _decibels(predict(*given), expected) for name, predict in contenders.items()}
        median = race({name: partial(predict, *given) for name, predict in contenders.items()}, repeats).medians
    return [
        {
            "benchmark": "int8",
            "contender": name,
            "calls_per_second": 1 / one,
            "ratio": median[PLAIN] / one,
            "error_db": errors[name],
            "batch_size": batch_size,
            "preset": size.preset,
            "repeats": repeats,
        }
        for name, one in median.items()
    ]


def _inputs(unet: Any, batch_size: int) -> Callable[[int], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Seeded latents, t and tokens."""
    side, channels, width = unet.config.sample_size, unet.config.in_channels, unet.config.cross_attention_dim

    def draw(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        sample = torch.randn(batch_size, channels, side, side, generator=generator)
        return sample, torch.tensor(1 + 20 * (seed % 41)), torch.randn(batch_size, 49, width, generator=generator)

    return draw


def _contenders(noise: Noise, draw: Callable[[int], tuple[torch.Tensor, ...]]) -> dict[str, Predict]:
    half = copy.deepcopy(noise).to(torch.bfloat16).to(memory_format=torch.channels_last)

    def in_half(sample: torch.Tensor, timestep: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return half(sample.bfloat16(), timestep, tokens.bfloat16()).float()

    return {
        PLAIN: noise,
        BRAIN: in_half,
        **_openvino(noise, draw),
    }


def _openvino(noise: Noise, draw: Callable[[int], tuple[torch.Tensor, ...]]) -> dict[str, Predict]:
    try:
        import nncf
        import openvino
    except ModuleNotFoundError as error:
        raise AgfasError(f"This benchmark needs OpenVINO and NNCF ({error}). Run: pip install openvino nncf") from None
    with torch.no_grad():
        model = openvino.convert_model(noise, example_input=draw(0))
    samples = nncf.Dataset([tuple(part.numpy() for part in draw(seed)) for seed in range(_CALIBRATION)])
    transformer = nncf.ModelType.TRANSFORMER
    eight = nncf.quantize(model, samples, subset_size=_CALIBRATION, model_type=transformer)
    core = openvino.Core()
    return {
        f"OpenVINO, {name}": _compiled(core.compile_model(each, "CPU", {"INFERENCE_PRECISION_HINT": hint}))
        for name, each, hint in (
            ("float32", model, "f32"),
            ("bfloat16", model, "bf16"),
            ("int8 weights and activations", eight, "bf16"),
        )
    }


def _compiled(model: Any) -> Predict:
    def predict(sample: torch.Tensor, timestep: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        found = model((sample.numpy(), timestep.numpy(), tokens.numpy()))[0]
        return torch.from_numpy(np.array(found))

    return predict


def _decibels(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Power of the expected values over that of the error, in decibels."""
    error = (found - expected).double().square().mean()
    return float("inf") if error == 0 else float(10 * torch.log10(expected.double().square().mean() / error))

"""How far restorations of the same faces lie apart: by other kernels, by TF32 and bfloat16, and by real mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dfg.pipeline import DeFakePipeline
from dfg.speed import Speed
from pipelines.cues.rounding import BFLOAT16, FLOAT32, TF32
from pipelines.errors import AgfasError
from pipelines.pixels import to_uint8, to_unit_range
from scripts.bench.recipe_contender import bench_faces, pixels_of

_PRODUCTS = (
    "convolution", "mm", "addmm", "bmm", "baddbmm", "linear",
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_attention_math",
)  # fmt: skip


class Tf32(TorchDispatchMode):
    """Rounds the float32 operands of every product to TF32, 10 bits after the leading one, as a GPU's tensor cores."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The operation, on rounded operands if it is a product."""
        if func.name().split("::")[1].split(".")[0] in _PRODUCTS:
            args = [rounded(value) if isinstance(value, torch.Tensor) else value for value in args]
        return func(*args, **(kwargs or {}))


def rounded(values: torch.Tensor) -> torch.Tensor:
    """float32 values rounded to the nearest of TF32; other types as they are."""
    if values.dtype != torch.float32:
        return values
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


def rounding_benchmark(
    generator: Path | None, timesteps: Sequence[int] = (201, 801), count: int = 4, pictures: Path | None = None
) -> list[dict[str, Any]]:
    """Compare restorations of a trained generator face by face: what `agfas cues --verify` must allow and must find.

    Args:
        generator: its folder.
        timesteps: of the restorations, on the grid of 50.
        count: number of faces.
        pictures: an .npy file (N, H, W, 3) uint8 of faces, such as `faces/*/pixels-64.npy` of a run; default: blocks of
            colour.

    Returns:
        A row per comparison and t: levels and share of values of the face that differs most, of the one that differs
        least, and the bound of `pipelines.cues.rounding`.

    Raises:
        AgfasError: no generator.
    """
    if generator is None:
        raise AgfasError("The benchmark `cue-rounding` needs a trained generator: name its folder with --generator.")
    faces = bench_faces(count, pixels_of(DeFakePipeline.from_pretrained(str(generator)))).images[:]
    if pictures is not None:
        faces = np.asarray(np.load(pictures, mmap_mode="r")[:count])
    image, keys = to_unit_range(faces), [f"face {place}" for place in range(count)]

    def restore(
        timestep: int,
        speed: Speed | None = None,
        mode: Callable[[], AbstractContextManager[Any]] = nullcontext,
        noise: float = 0.0,
        names: Sequence[str] = keys,
    ) -> np.ndarray:
        pipeline = DeFakePipeline.from_pretrained(str(generator))
        (speed or Speed()).apply(pipeline)
        if noise:
            _disturb(pipeline.unet, noise)
        with torch.no_grad(), mode():
            restored: Any = pipeline(image, timestep=timestep, num_inference_steps=50, keys=names).image
        return to_uint8(restored).astype(int)

    last = Speed(channels_last=True)
    half = Speed(dtype="bfloat16")
    rows = []
    for t in timesteps:
        exact, tf32, bf16 = restore(t), restore(t, mode=Tf32), restore(t, half)
        pairs = {
            "float32, other kernels (channels-last)": (restore(t, last), exact, FLOAT32),
            "TF32 against float32": (tf32, exact, TF32),
            "TF32, other kernels": (restore(t, last, Tf32), tf32, TF32),
            "bfloat16 U-Net, other kernels (channels-last)": (restore(t, Speed("bfloat16", True)), bf16, BFLOAT16),
            "bfloat16 U-Net, other kernels (eager)": (restore(t, Speed("bfloat16", attention="eager")), bf16, BFLOAT16),
            "bfloat16 U-Net against float32": (bf16, exact, BFLOAT16),
            "mistake: t one step of the grid lower": (restore(t - 20), exact, None),
            "mistake: weights off by 1 %": (restore(t, noise=0.01), exact, None),
            "mistake: weights off by 0.1 %": (restore(t, noise=0.001), exact, None),
            "mistake: noise of another key": (restore(t, names=[f"{key}'" for key in keys]), exact, None),
            "mistake: the cue of the next face": (np.roll(exact, 1, axis=0), exact, None),
        }
        for what, (one, other, bound) in pairs.items():
            differences = np.abs(one - other).reshape(count, -1)
            shares, levels = (differences > 0).mean(1), differences.max(1)
            allowed = {} if bound is None else asdict(bound)
            rows.append(
                {
                    "benchmark": "cue-rounding",
                    "timestep": t,
                    "comparison": what,
                    "levels": int(levels.max()),
                    "share": float(shares.max()),
                    "least_levels": int(levels.min()),
                    "least_share": float(shares.min()),
                    "allowed_levels": allowed.get("levels", ""),
                    "allowed_share": allowed.get("share", ""),
                }
            )
    return rows


@torch.no_grad()
def _disturb(model: torch.nn.Module, share: float) -> None:
    """Add noise of a share of each tensor's spread to its weights."""
    draws = torch.Generator().manual_seed(0)
    for weights in model.parameters():
        if weights.numel() > 1:
            weights.add_(share * weights.std() * torch.randn(weights.shape, generator=draws))

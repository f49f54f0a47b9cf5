"""Where the time of a cue goes: encoding, one call of the U-Net and decoding, in float32 and in bfloat16."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from dfg.pipeline import DeFakePipeline
from dfg.speed import Speed
from pipelines.memory import keep_freed_memory
from scripts.bench.parts import ALL_HALF, COMPACT, COMPILED, Size, build_generator
from scripts.bench.turns import in_turns

TYPES = {
    "float32": Speed(),
    "bfloat16, channels last": ALL_HALF,
    "bfloat16, channels last, U-Net compiled": COMPILED,
}


def cue_parts_benchmark(
    size: Size = COMPACT, batch_size: int = 2, repeats: int = 5, types: Mapping[str, Speed] = TYPES
) -> list[dict[str, Any]]:
    """Time the parts of a restoration of an untrained generator, freed memory kept; types and parts take turns.

    Returns:
        A row per type: seconds a face of each part, and of a cue of 41 calls as their sum.
    """
    keep_freed_memory()
    work = {name: _parts(build_generator(size), speed, size, batch_size) for name, speed in types.items()}
    seconds: dict[tuple[str, str], list[float]] = {(name, part): [] for name in work for part in work[name]}
    for name, part in in_turns(list(seconds), repeats + 1):
        start = time.perf_counter()
        work[name][part]()
        seconds[name, part].append((time.perf_counter() - start) / batch_size)
    rows = []  # without each first, which warms up
    for name, parts in work.items():
        median = {part: statistics.median(seconds[name, part][1:]) for part in parts}
        whole = median["encode"] + 41 * median["call"] + median["decode"]
        rows.append({"benchmark": "cue-parts", "type": name, **median, "encode + 41 calls + decode": whole})
    return rows


def _parts(pipeline: DeFakePipeline, speed: Speed, size: Size, batch_size: int) -> dict[str, Callable[[], Any]]:
    speed.apply(pipeline)
    image = torch.rand(batch_size, 3, size.image_size, size.image_size) * 2 - 1
    latents, tokens = pipeline.encode(image), pipeline.identity_tokens(image)

    def call() -> None:
        with pipeline.conditioned(tokens) as conditioning:
            pipeline.predict_noise(latents, 801, conditioning)

    return {"encode": lambda: pipeline.encode(image), "call": call, "decode": lambda: pipeline.decode(latents)}

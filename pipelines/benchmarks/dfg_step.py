"""A training step of the generator on stored latents and tokens, against encoding inside the step.

Both contenders make the same draws (faces, mirrored or not, t and noise), so from equal weights their losses must be
equal; that is the gate beside the speed. They take turns with one U-Net and one optimiser, of which two would not fit.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfg.objective import DenoisingObjective
from dfg.pipeline import DeFakePipeline
from pipelines.benchmarks.parts import COMPACT, SD15, Size, build_generator
from pipelines.data.faces import Faces, to_unit_batch
from pipelines.training.batches import LatentBatches, LatentViews
from pipelines.training.latents import PaddedTokens, store_latents

STORED, INSIDE = "stored latents and tokens", "encoding inside the step"


def dfg_step_benchmark(
    size: Size = COMPACT, batch_size: int = 4, count: int = 16, steps: int = 2, repeats: int = 5
) -> list[dict[str, Any]]:
    """Time optimiser steps of AdamW in float32, reading or encoding their batch.

    Args:
        size: of the generator.
        batch_size: faces of a step.
        count: faces in all.
        steps: of one timed piece; the contenders take turns (A B B A).
        repeats: pieces of each.

    Returns:
        A row per contender: steps a second, the ratio to encoding inside, and the greatest relative difference between
        the two contenders' losses of a step.
    """
    pipeline = build_generator(size)
    faces = _faces(count, size.image_size)
    training = Training(pipeline)
    with tempfile.TemporaryDirectory() as folder:
        stored = store_latents(
            Path(folder), faces, np.arange(count), pipeline.autoencoder, pipeline.identity_encoder, {}, flip=True
        )
        batches = {
            STORED: training.batches(stored, batch_size),
            INSIDE: training.batches(EncodedViews(faces, pipeline), batch_size),
        }
        difference = training.loss_difference(batches[STORED], batches[INSIDE], steps)
        seconds: dict[str, list[float]] = {name: [] for name in batches}
        for turn in range(repeats):
            for name in list(batches) if turn % 2 == 0 else list(reversed(batches)):
                seconds[name].append(training.time(batches[name], turn * steps, steps))
    facts = {"loss_difference": difference, "batch_size": batch_size, "pixels": size.image_size, "repeats": repeats}
    return _rows(seconds, size.preset, facts)


def compact_benchmark() -> list[dict[str, Any]]:
    """At 112 M parameters and 256 pixels."""
    return dfg_step_benchmark(COMPACT)


def sd15_benchmark() -> list[dict[str, Any]]:
    """At Stable Diffusion 1.5's size: weights, gradients and AdamW's state are 14 GB; few steps, small batch."""
    return dfg_step_benchmark(SD15, batch_size=2, count=4, steps=1, repeats=3)


class EncodedViews:
    """Faces encoded whenever they are read: what a training without stored latents does in every step."""

    views = 2

    def __init__(self, faces: Faces, pipeline: DeFakePipeline) -> None:
        self.faces, self.pipeline = faces, pipeline

    def __len__(self) -> int:
        return len(self.faces)

    @torch.no_grad()
    def read(self, rows: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latents (B, C, h, w) and tokens (B, N, D), float32."""
        image = to_unit_batch(self.faces.images[rows], views == 1).contiguous()
        return self.pipeline.encode(image).numpy(), self.pipeline.identity_encoder(image).numpy()


class Training:
    """The U-Net of a generator with its objective and optimiser."""

    def __init__(self, pipeline: DeFakePipeline) -> None:
        self.unet: Any = pipeline.unet.train()
        self.objective = DenoisingObjective(self.unet, pipeline.scheduler)
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), 1e-4)

    def batches(self, views: LatentViews, batch_size: int) -> LatentBatches:
        """The draws of every step over some views of the faces."""
        padded = PaddedTokens(views, self.unet.config["cross_attention_dim"])
        return LatentBatches(padded, batch_size, len(self.objective.alphas_cumprod), seed=0)

    @torch.no_grad()
    def loss_difference(self, first: LatentBatches, second: LatentBatches, steps: int) -> float:
        """The greatest relative difference between the losses of a step, from the weights as they are."""
        pairs = [[float(self.objective(some(step, 0, 1))["loss"]) for some in (first, second)] for step in range(steps)]
        return max(abs(one / other - 1) for one, other in pairs)

    def time(self, batches: LatentBatches, first: int, steps: int) -> float:
        """Train for some steps from step `first`; seconds per step, the making of its batch included."""
        start = time.perf_counter()
        for step in range(first, first + steps):
            self.objective(batches(step, 0, 1))["loss"].backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        return (time.perf_counter() - start) / steps


def _rows(seconds: dict[str, list[float]], preset: str, facts: dict[str, Any]) -> list[dict[str, Any]]:
    median = {name: statistics.median(pieces) for name, pieces in seconds.items()}
    return [
        {
            "benchmark": "dfg-step",
            "preset": preset,
            "contender": name,
            "steps_per_second": 1 / one,
            "ratio": median[INSIDE] / one,
            **facts,
        }
        for name, one in median.items()
    ]


def _faces(count: int, size: int) -> Faces:
    draws = np.random.default_rng(0)
    coarse = draws.integers(0, 256, (count, size // 8, size // 8, 3), dtype=np.uint8)
    names = np.array([f"bench/s{place:05d}/v/000" for place in range(count)], dtype=object)
    same = np.full(count, "bench", dtype=object)
    return Faces(
        keys=names,
        labels=np.ones(count, dtype=np.int64),
        domains=same,
        subjects=names,
        videos=names,
        attack_types=np.full(count, "none", dtype=object),
        splits=np.full(count, "train", dtype=object),
        images=coarse.repeat(8, axis=1).repeat(8, axis=2),
        fingerprint="bench",
        folder=Path(),
    )

"""A training step of the generator on stored latents and tokens, against encoding inside the step.

The contenders draw the same faces, flips, t and noise, and what is stored was encoded in float32. From equal weights
the losses of the first two must therefore be equal, which is checked. They share one U-Net and one optimiser, since two
would not fit into memory.
"""

from __future__ import annotations

import copy
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfg.attention import use_attention
from dfg.objective import DenoisingObjective
from dfg.pipeline import DeFakePipeline
from pipelines.data.faces import Faces
from pipelines.memory import keep_freed_memory
from pipelines.pixels import to_unit_batch
from pipelines.training.batches import LatentBatches, LatentViews
from pipelines.training.latents import PaddedTokens, store_latents
from pipelines.training.optimizer import make_optimizer
from pipelines.training.settings import LoopSettings
from scripts.bench.generators import COMPACT, SD15, Size, build_generator
from scripts.bench.turns import race

STORED, INSIDE = "stored latents and tokens", "encoding inside the step"
HALF = "encoding inside the step, in bfloat16"

# Precision and attention kernel of each race: see `dfg.attention.use_attention`.
PRECISIONS = {"no": "sdpa", "bf16": "eager"}


def dfg_step_benchmark(
    size: Size = COMPACT, batch_size: int = 8, count: int = 16, steps: int = 2, repeats: int = 5
) -> list[dict[str, Any]]:
    """Time optimiser steps of AdamW, reading or encoding their batch, in float32 and then in mixed precision.

    Args:
        size: of the generator.
        batch_size: faces of a step.
        count: faces in all.
        steps: number of steps in one timed run.
        repeats: runs of each contender.

    Returns:
        A row per precision and contender: steps a second, the ratio to encoding inside, and the greatest relative
        difference of its losses from those on what is stored.
    """
    pipeline = build_generator(size)
    faces = _faces(count, size.image_size)
    training = Training(pipeline)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stored = store_latents(
            Path(folder), faces, np.arange(count), pipeline.autoencoder, pipeline.identity_encoder, {}, flip=True
        )
        views: dict[str, LatentViews] = {STORED: stored, INSIDE: EncodedViews(faces, pipeline)}
        for precision, kernel in PRECISIONS.items():
            use_attention(training.unet, kernel)
            training.mixed = precision == "bf16"
            if training.mixed:
                views[HALF] = EncodedViews(faces, _with_half_autoencoder(pipeline))
            batches = {name: training.batches(some, batch_size) for name, some in views.items()}
            facts = {"preset": size.preset, "mixed_precision": precision}
            rows += [{**facts, **row, "batch_size": batch_size} for row in _race(training, batches, steps, repeats)]
    return [{"benchmark": "dfg-step", **row, "pixels": size.image_size, "repeats": repeats} for row in rows]


def compact_benchmark() -> list[dict[str, Any]]:
    """At 112 M parameters and 256 pixels, freed memory kept as in every command."""
    keep_freed_memory()
    return dfg_step_benchmark(COMPACT)


def sd15_benchmark() -> list[dict[str, Any]]:
    """At Stable Diffusion 1.5's size: weights, gradients and AdamW's state are 14 GB; few steps, small batch."""
    keep_freed_memory()
    return dfg_step_benchmark(SD15, batch_size=4, count=4, steps=1, repeats=5)


def _with_half_autoencoder(pipeline: DeFakePipeline) -> DeFakePipeline:
    half = copy.deepcopy(pipeline.autoencoder).to(torch.bfloat16)
    return DeFakePipeline(half, pipeline.unet, pipeline.scheduler, pipeline.identity_encoder)


def _race(training: Training, batches: dict[str, LatentBatches], steps: int, repeats: int) -> list[dict[str, Any]]:
    differences = {name: training.loss_difference(batches[STORED], encoded, steps) for name, encoded in batches.items()}
    for encoded in batches.values():  # unmeasured: the first step allocates moments and gradients
        training.train(encoded, 1)
    median = race({name: partial(training.train, some, steps) for name, some in batches.items()}, repeats).medians
    return [
        {
            "contender": name,
            "steps_per_second": steps / one,
            "ratio": median[INSIDE] / one,
            "loss_difference": differences[name],
        }
        for name, one in median.items()
    ]


class EncodedViews:
    """Faces that are encoded when they are read, as a training without stored latents does in every step."""

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
    """The U-Net of a generator with its objective and the training loop's optimiser.

    Attributes:
        mixed: whether the U-Net runs under autocast in bfloat16; the autoencoder never does.
    """

    def __init__(self, pipeline: DeFakePipeline) -> None:
        self.unet: Any = pipeline.unet.train()
        self.objective = DenoisingObjective(self.unet, pipeline.scheduler)
        self.optimizer = make_optimizer(self.objective, LoopSettings(optimizer="adamw_fused"))
        self.mixed = False

    def batches(self, views: LatentViews, batch_size: int) -> LatentBatches:
        """The draws of every step over some views of the faces."""
        padded = PaddedTokens(views, self.unet.config["cross_attention_dim"])
        return LatentBatches(padded, batch_size, len(self.objective.alphas_cumprod), seed=0)

    @torch.no_grad()
    def loss_difference(self, first: LatentBatches, second: LatentBatches, steps: int) -> float:
        """The greatest relative difference between the losses of a step, from the weights as they are."""
        pairs = [[float(self._loss(some, step)) for some in (first, second)] for step in range(steps)]
        return max(abs(one / other - 1) for one, other in pairs)

    def train(self, batches: LatentBatches, steps: int) -> None:
        """Make some batches and take a step with each."""
        for step in range(steps):
            self._loss(batches, step).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()

    def _loss(self, batches: LatentBatches, step: int) -> torch.Tensor:
        batch = batches(step, slice(None))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
            return self.objective(batch)["loss"]


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

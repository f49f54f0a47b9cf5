"""Faces restored a second, from pixels to a durable shard, at the tiny preset by t."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfg.autoencoder import PatchAutoencoder
from dfg.identity import IdentityEncoder
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler
from dfg.unet import build_unet
from pipelines.cues.faces import ArrayFaces
from pipelines.cues.job import run_cue_job
from pipelines.cues.sources import DfgSweep
from pipelines.pixels import to_unit_range
from scripts.bench.turns import in_turns

SETTINGS = {"t = 801": (801,), "t = 401": (401,), "t = 201, 401, 601, 801, 981": (201, 401, 601, 801, 981)}


def cues_benchmark(count: int = 64, size: int = 64, repeats: int = 5) -> list[dict[str, Any]]:
    """Time the whole job, stores included, over `count` faces; random weights, since speed does not ask for others.

    Returns:
        A row per setting: U-Net calls per face, median faces a second.
    """
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    pipeline = tiny_pipeline(images)
    faces = ArrayFaces([f"bench/s{place:05d}/v/000" for place in range(count)], images)
    seconds: dict[str, list[float]] = {name: [] for name in SETTINGS}
    for name in in_turns(SETTINGS, repeats):
        seconds[name].append(_run(faces, pipeline, SETTINGS[name]))
    return [
        {
            "benchmark": "cues",
            "setting": name,
            "unet_calls": sum((timestep - 1) // 20 + 1 for timestep in SETTINGS[name]),
            "faces_per_second": round(count / statistics.median(runs), 2),
            "faces": count,
            "repeats": repeats,
        }
        for name, runs in seconds.items()
    ]


def tiny_pipeline(images: np.ndarray) -> DeFakePipeline:
    """The quickstart's generator, untrained but for the patch transform."""
    torch.manual_seed(0)
    autoencoder = PatchAutoencoder(4, 24)
    autoencoder.fit(to_unit_range(images))
    identity = IdentityEncoder.from_preset("tiny")
    tokens = identity(torch.zeros(1, 3, images.shape[1], images.shape[2]))
    unet = build_unet(
        "tiny", in_channels=24, sample_size=images.shape[1] // 4, cross_attention_dim=int(tokens.shape[-1])
    )
    return DeFakePipeline(autoencoder=autoencoder, unet=unet, scheduler=sd_scheduler(), identity_encoder=identity)


def _run(faces: ArrayFaces, pipeline: DeFakePipeline, timesteps: tuple[int, ...]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run_cue_job(
            faces,
            DfgSweep(pipeline, timesteps, "benchmark"),
            Path(folder),
            dataset_fingerprint="benchmark",
            batch_size=32,
            show_progress=False,
        )
        return time.perf_counter() - start

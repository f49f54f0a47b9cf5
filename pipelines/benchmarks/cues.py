"""Faces restored a second, from pixels to a durable shard: at the tiny preset by t, and against the public recipe."""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfg.autoencoder import PatchAutoencoder
from dfg.identity import IdentityEncoder
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler
from dfg.speed import Speed
from dfg.unet import build_unet
from pipelines.benchmarks.parts import COMPACT, Size, build_generator, psnr
from pipelines.benchmarks.public_recipe import restore_publicly, write_pictures
from pipelines.cues.faces import ArrayFaces
from pipelines.cues.job import run_cue_job, to_unit_range
from pipelines.cues.sources import DfgSweep
from pipelines.cues.store import CueStore
from pipelines.data.faces import to_tensor_range

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
    for turn in range(repeats):
        for name in list(SETTINGS) if turn % 2 == 0 else list(reversed(SETTINGS)):
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


PUBLIC = "the public recipe (float32, eager, PNG)"

# What each contender changes; the first differs from the public recipe in nothing that moves a bit on purpose.
CONTENDERS: dict[str, dict[str, Any]] = {
    "ours, the same calls": {},
    "channels last": {"speed": Speed(channels_last=True)},
    "bfloat16 U-Net": {"speed": Speed("bfloat16")},
    "bfloat16 U-Net, channels last": {"speed": Speed("bfloat16", channels_last=True)},
    "bfloat16 U-Net and autoencoder, channels last": {
        "speed": Speed("bfloat16", channels_last=True, autoencoder_dtype="bfloat16")
    },
    "dpmsolver++, 8 calls": {"scheduler": "dpmsolver++", "calls": 8},
    "unipc, 8 calls": {"scheduler": "unipc", "calls": 8},
    "dpmsolver++, 8 calls, bfloat16 U-Net, channels last": {
        "scheduler": "dpmsolver++",
        "calls": 8,
        "speed": Speed("bfloat16", channels_last=True),
    },
}


def recipe_benchmark(
    size: Size = COMPACT,
    timestep: int = 801,
    count: int = 4,
    batch_size: int = 2,
    repeats: int = 5,
    generator: Path | None = None,
) -> list[dict[str, Any]]:
    """The cue job against the public recipe, with the quality beside the ratio.

    Args:
        size: of an untrained generator.
        timestep: t of every cue.
        count, batch_size: faces in all and at once.
        repeats: of every contender; they take turns (A B B A).
        generator: folder of a trained `DeFakePipeline` in place of `size`: a PSNR of random weights tells of
            rounding and of solvers only on the pictures that random weights make.

    Returns:
        A row per contender: median faces a second, the ratio to the public recipe, and the PSNR of its restorations to
        the public recipe's in decibels.
    """
    pipeline = build_generator(size) if generator is None else DeFakePipeline.from_pretrained(generator)
    pixels = size.image_size if generator is None else _pixels(pipeline)
    faces = _bench_faces(count, pixels)
    runs = {PUBLIC: _Public(pipeline, timestep), **{name: _Ours(pipeline, timestep, name) for name in CONTENDERS}}
    for turn in range(repeats):
        for run in list(runs.values()) if turn % 2 == 0 else list(reversed(runs.values())):
            run.time(faces, batch_size)
    return [_recipe_row(name, run, runs[PUBLIC], size, faces, timestep) for name, run in runs.items()]


def compact_benchmark() -> list[dict[str, Any]]:
    """At 112 M parameters and 256 pixels, 41 calls; few faces, since each takes the better part of a minute."""
    return recipe_benchmark(COMPACT, count=2, repeats=3)


class _Run(ABC):
    """A contender on a copy of the generator, since some change its type or its layout.

    Attributes:
        seconds: of every repeat.
        restored: (n, 3, H, W), the last repeat's.
    """

    def __init__(self, pipeline: DeFakePipeline, timestep: int) -> None:
        self.pipeline, self.timestep = copied(pipeline), timestep
        self.seconds: list[float] = []
        self.restored = torch.zeros(())

    def time(self, faces: ArrayFaces, batch_size: int) -> None:
        """Restore and write all faces once."""
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            self.make(faces, batch_size, Path(folder))
            self.seconds.append(time.perf_counter() - start)

    @abstractmethod
    def make(self, faces: ArrayFaces, batch_size: int, folder: Path) -> None:
        """Restore all faces and write them below `folder`."""


class _Public(_Run):
    def make(self, faces: ArrayFaces, batch_size: int, folder: Path) -> None:
        pieces = []
        for start in range(0, len(faces.keys), batch_size):
            keys = faces.keys[start : start + batch_size]
            image = to_unit_range(faces.images[start : start + batch_size])
            pieces.append(restore_publicly(self.pipeline, image, keys, self.timestep))
            write_pictures(folder, pieces[-1], keys)
        self.restored = torch.cat(pieces)


class _Ours(_Run):
    def __init__(self, pipeline: DeFakePipeline, timestep: int, name: str) -> None:
        super().__init__(pipeline, timestep)
        self.sweep = DfgSweep(self.pipeline, [timestep], "benchmark", **CONTENDERS[name])

    def make(self, faces: ArrayFaces, batch_size: int, folder: Path) -> None:
        stores = run_cue_job(
            faces,
            self.sweep,
            folder,
            dataset_fingerprint="benchmark",
            batch_size=batch_size,
            show_progress=False,
        )
        self.restored = to_unit_range(CueStore.open(stores[self.timestep]).reconstructions(faces.keys))


def _recipe_row(name: str, run: _Run, public: _Run, size: Size, faces: ArrayFaces, timestep: int) -> dict[str, Any]:
    seconds = statistics.median(run.seconds)
    # Both in the 8 bits that are kept.
    reference = ((public.restored + 1) * 127.5).round() / 127.5 - 1
    return {
        "benchmark": "cues",
        "preset": size.preset,
        "contender": name,
        "faces_per_second": len(faces.keys) / seconds,
        "ratio": statistics.median(public.seconds) / seconds,
        "psnr_db": psnr(((run.restored + 1) * 127.5).round() / 127.5 - 1, reference),
        "timestep": timestep,
        "faces": len(faces.keys),
        "repeats": len(run.seconds),
    }


def copied(pipeline: DeFakePipeline) -> DeFakePipeline:
    """A generator of its own with the same weights."""
    parts = {name: copy.deepcopy(part) for name, part in pipeline.components.items()}
    return DeFakePipeline(**parts)


def _pixels(pipeline: DeFakePipeline) -> int:
    """Side of the faces that a trained generator was made for."""
    latents = pipeline.encode(torch.zeros(1, 3, 64, 64)).shape[-1]
    config = pipeline.unet.config
    return int(config.get("sample_size") or config["unet"]["sample_size"]) * 64 // latents


def _bench_faces(count: int, size: int) -> ArrayFaces:
    """Blocks of colour: smooth enough for an autoencoder."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, size // 8, size // 8, 3), dtype=np.uint8)
    return ArrayFaces([f"bench/s{place:05d}/v/000" for place in range(count)], coarse.repeat(8, 1).repeat(8, 2))


def tiny_pipeline(images: np.ndarray) -> DeFakePipeline:
    """The quickstart's generator, untrained but for the patch transform."""
    torch.manual_seed(0)
    autoencoder = PatchAutoencoder(4, 24)
    autoencoder.fit(torch.from_numpy(to_tensor_range(images)))
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

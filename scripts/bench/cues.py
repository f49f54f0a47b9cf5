"""Cues a second: the whole job by t, against the public recipe, and where the time of a cue goes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
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
from pipelines.cues.job import CueJob
from pipelines.cues.settings import RestorationSettings
from pipelines.cues.sources import DfgSweep, speed_of
from pipelines.errors import AgfasError
from pipelines.memory import keep_freed_memory
from pipelines.pixels import to_unit_range
from scripts.bench.contenders import CONTENDERS
from scripts.bench.generators import ALL_HALF, COMPACT, COMPILED, Size, build_generator, psnr
from scripts.bench.recipe_contender import PUBLIC, STUDENT, Alone, Task, to_eight_bits
from scripts.bench.turns import race

SETTINGS = {"t = 801": (801,), "t = 401": (401,), "t = 201, 401, 601, 801, 981": (201, 401, 601, 801, 981)}


EVERY = (*CONTENDERS, STUDENT)
"""What runs against the public recipe."""


def cues_benchmark(count: int = 64, size: int = 64, repeats: int = 5) -> list[dict[str, Any]]:
    """Time the whole job, stores included, over `count` faces, with random weights.

    Returns:
        A row per setting: U-Net calls per face, median faces a second.
    """
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    pipeline = tiny_pipeline(images)
    faces = ArrayFaces([f"bench/s{place:05d}/v/000" for place in range(count)], images)
    runs = {name: partial(_run, faces, pipeline, timesteps) for name, timesteps in SETTINGS.items()}
    medians = race(runs, repeats).medians
    return [
        {
            "benchmark": "cues",
            "setting": name,
            "unet_calls": sum((timestep - 1) // 20 + 1 for timestep in SETTINGS[name]),
            "faces_per_second": round(count / median, 2),
            "faces": count,
            "repeats": repeats,
        }
        for name, median in medians.items()
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


def _run(faces: ArrayFaces, pipeline: DeFakePipeline, timesteps: tuple[int, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        CueJob.open(
            faces,
            DfgSweep(pipeline, timesteps, "benchmark"),
            Path(folder),
            dataset_fingerprint="benchmark",
            batch_size=32,
        ).run(show_progress=False)


def recipe_benchmark(
    size: Size = COMPACT,
    timestep: int = 801,
    count: int = 4,
    batch_size: int = 2,
    repeats: int = 5,
    generator: Path | None = None,
    contenders: Sequence[str] = EVERY,
) -> list[dict[str, Any]]:
    """Time the cue job against the public recipe, from pixels to a durable file; a first run of each, in which a U-Net
    is compiled, does not count.

    The public recipe runs as a plain program does, ours as the command `agfas cues`, which keeps freed memory. Every
    contender is a process; the processes live side by side, and those that wait do nothing.

    Args:
        size: of an untrained generator.
        timestep: t of every cue.
        count, batch_size: faces in all and at once.
        repeats: runs of each contender.
        generator: folder of a trained `DeFakePipeline` in place of `size`.
        contenders: those that run against the public recipe.

    Returns:
        A row per contender: median faces a second, the ratio to the public recipe, and the PSNR of its restorations to
        the public recipe's in decibels, both in the 8 bits that are kept, where both have the same weights.

    Raises:
        AgfasError: `generator` is no generator's folder.
    """
    if generator is not None and not (generator / "model_index.json").is_file():
        raise AgfasError(
            f"{generator} is no generator's folder (no model_index.json). Give runs/.../generator/*/pipeline."
        )
    task = Task(size, timestep, count, batch_size, str(generator.resolve()) if generator else None)
    names = [PUBLIC, *contenders]
    with ExitStack() as stack:
        runs = {name: stack.enter_context(Alone(task, name)) for name in names}
        medians = race({name: run.time for name, run in runs.items()}, repeats, warm=True, measured=float).medians
        pictures = {name: to_eight_bits(run.restored()) for name, run in runs.items()}
    return [
        {
            "benchmark": "cues-recipe",
            "preset": "trained" if generator else size.preset,
            "contender": name,
            "faces_per_second": count / medians[name],
            "ratio": medians[PUBLIC] / medians[name],
            "psnr_db": psnr(pictures[name], pictures[PUBLIC]) if _comparable(name) else "",
            "timestep": timestep,
            "faces": count,
            "repeats": repeats,
        }
        for name in names
    ]


def _comparable(name: str) -> bool:
    return name == PUBLIC or (name in CONTENDERS and CONTENDERS[name].comparable)


def compact_recipe_benchmark(generator: Path | None = None, repeats: int = 5, only: str = "") -> list[dict[str, Any]]:
    """At 112 M parameters and 256 pixels, 41 calls; few faces, since each takes the better part of ten seconds.

    Args:
        generator, repeats: see `recipe_benchmark`.
        only: contenders with this in their names alone run against the public recipe.

    Raises:
        AgfasError: no contender has it; or see `recipe_benchmark`.
    """
    chosen = [name for name in EVERY if only in name]
    if not chosen:
        raise AgfasError(f"No contender has {only!r} in its name. They are: {'; '.join(EVERY)}.")
    return recipe_benchmark(COMPACT, count=2, repeats=repeats, generator=generator, contenders=chosen)


TYPES = {
    "float32": RestorationSettings(),
    "bfloat16, channels last": ALL_HALF,
    "bfloat16, channels last, U-Net compiled": COMPILED,
}


def cue_parts_benchmark(
    size: Size = COMPACT, batch_size: int = 2, repeats: int = 5, types: Mapping[str, RestorationSettings] = TYPES
) -> list[dict[str, Any]]:
    """Time the parts of a restoration of an untrained generator, freed memory kept; types and parts take turns.

    Returns:
        A row per type: seconds a face of each part, and of a cue of 41 calls as their sum.
    """
    keep_freed_memory()
    work = {name: _parts(build_generator(size), settings, size, batch_size) for name, settings in types.items()}
    runs = {f"{name}: {part}": run for name, parts in work.items() for part, run in parts.items()}
    medians = race(runs, repeats, warm=True).medians
    rows = []
    for name, parts in work.items():
        median = {part: medians[f"{name}: {part}"] / batch_size for part in parts}
        whole = median["encode"] + 41 * median["call"] + median["decode"]
        rows.append({"benchmark": "cue-parts", "type": name, **median, "encode + 41 calls + decode": whole})
    return rows


def _parts(
    pipeline: DeFakePipeline, settings: RestorationSettings, size: Size, batch_size: int
) -> dict[str, Callable[[], Any]]:
    speed_of(settings).apply(pipeline)
    image = torch.rand(batch_size, 3, size.image_size, size.image_size) * 2 - 1
    latents, tokens = pipeline.encode(image), pipeline.identity_tokens(image)

    def call() -> None:
        with pipeline.conditioned(tokens) as conditioning:
            pipeline.predict_noise(latents, 801, conditioning)

    return {"encode": lambda: pipeline.encode(image), "call": call, "decode": lambda: pipeline.decode(latents)}

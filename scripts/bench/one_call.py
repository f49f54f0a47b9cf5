"""A cue of one call, by a small autoencoder or by a student, beside the public recipe's: operations and timed calls.

At Stable Diffusion's size a cue of the public recipe takes minutes, so the parts are measured and added up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from dfg.baselines import build_baseline
from dfg.pipeline import DeFakePipeline
from pipelines.cost.counting import count
from pipelines.cues.settings import RestorationSettings
from pipelines.cues.sources import speed_of
from scripts.bench.contenders import put_tiny
from scripts.bench.generators import COMPACT, COMPILED, SD15, Size, build_generator
from scripts.bench.turns import race

CALLS = {"public": 41, "ours": 1}
"""Of the U-Net: the public recipe takes t = 801 on a grid of fifty."""

PARTS = ("identity", "encode", "U-Net call", "decode")
STUDENT = "a cue: 41 calls, a student's one (float32)"


def one_call_benchmark(
    sizes: Sequence[Size] = (COMPACT, SD15),
    batch_size: int = 1,
    repeats: int = 3,
    settings: RestorationSettings = COMPILED,
) -> list[dict[str, Any]]:
    """Count and time the parts of both cues, of untrained generators; the parts take turns.

    The public recipe is float32 and eager. Ours is in bfloat16, channels last, with a compiled U-Net, but for the
    identity encoder, which is the same. Neither writes its file, and neither keeps freed memory.

    Args:
        sizes: of the generators, one after the other; ours has an AutoencoderTiny of taesd's size.
        batch_size: faces at once.
        repeats: runs of every part.
        settings: of our restorations.

    Returns:
        For each size a row per part, one of whole cues, and one of a cue of the student of one call in its place: of
        both ways GFLOP (a multiplication with its addition is two) and seconds of a face, and how many times the public
        recipe needs of both.
    """
    return [row for size in sizes for row in _of_size(size, batch_size, repeats, settings)]


def _of_size(size: Size, batch_size: int, repeats: int, settings: RestorationSettings) -> list[dict[str, Any]]:
    ways = {"public": build_generator(size), "ours": build_generator(size)}
    put_tiny(ways["ours"])
    image = torch.rand(batch_size, 3, size.image_size, size.image_size) * 2 - 1
    work = {"public": _public(ways["public"], image), "ours": _ours(ways["ours"], image)}
    student = _student(image)
    flops = {way: {part: count(work[way][part]).flops / 1e9 / batch_size for part in PARTS} for way in work}
    student_flops = count(student).flops / 1e9 / batch_size
    speed_of(settings).apply(ways["ours"])
    runs = {f"{way} {part}": work[way][part] for part in PARTS for way in work}
    medians = race({**runs, STUDENT: student}, repeats, warm=True).medians
    seconds = {way: {part: medians[f"{way} {part}"] / batch_size for part in PARTS} for way in work}
    rows = [_row(part, *({way: found[way][part] for way in work} for found in (flops, seconds))) for part in PARTS]
    sums = [{way: _of_a_cue(found[way], way) for way in work} for found in (flops, seconds)]
    rows.append(_row("a cue: 41 calls, one call", *sums))
    of_student = (student_flops, medians[STUDENT] / batch_size)
    rows.append(_row(STUDENT, *({**both, "ours": its} for both, its in zip(sums, of_student, strict=True))))
    return [{"benchmark": "one-call", "preset": size.preset, **row} for row in rows]


def _public(parts: DeFakePipeline, image: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """The parts as the public recipe runs them: identity tokens are projected in every call."""
    latents, tokens = parts.encode(image), parts.identity_tokens(image)

    @torch.no_grad()
    def call() -> None:
        parts.unet(latents, torch.tensor(801), encoder_hidden_states=tokens)

    return {**_around(parts, image, latents), "U-Net call": call}


def _ours(pipeline: DeFakePipeline, image: torch.Tensor) -> dict[str, Callable[[], Any]]:
    latents, tokens = pipeline.encode(image), pipeline.identity_tokens(image)

    def call() -> None:
        with pipeline.conditioned(tokens) as conditioning:
            pipeline.predict_noise(latents, 801, conditioning)

    return {**_around(pipeline, image, latents), "U-Net call": call}


def _student(image: torch.Tensor) -> Callable[[], Any]:
    """The student of the size for faces of 256 pixels, which does not grow with its teacher."""
    student = build_baseline("one_call", "compact", image.shape[-1])
    return lambda: student.reconstruct(image, [""] * len(image))


def _around(pipeline: DeFakePipeline, image: torch.Tensor, latents: torch.Tensor) -> dict[str, Callable[[], Any]]:
    return {
        "identity": lambda: pipeline.identity_tokens(image),
        "encode": lambda: pipeline.encode(image),
        "decode": lambda: pipeline.decode(latents),
    }


def _of_a_cue(parts: dict[str, float], way: str) -> float:
    return sum(parts.values()) + (CALLS[way] - 1) * parts["U-Net call"]


def _row(part: str, flops: dict[str, float], seconds: dict[str, float]) -> dict[str, Any]:
    return {
        "part": part,
        "public_gflop": flops["public"],
        "our_gflop": flops["ours"],
        "gflop_ratio": flops["public"] / flops["ours"],
        "public_s": seconds["public"],
        "our_s": seconds["ours"],
        "seconds_ratio": seconds["public"] / seconds["ours"],
    }
